"""Which formats a search space leads to, before anything is searched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from transformers import PretrainedConfig

from nas_llm.errors import ExportError
from nas_llm.export._decilm import FFN_MULT_GRAIN
from nas_llm.export._expressible import ONE_HEAD_WIDTH, model_problems
from nas_llm.export._hosts import ALIKE
from nas_llm.export.gguf import tokenizer_fields
from nas_llm.models import DenseModel
from nas_llm.space import BoolArray, Genome, IntArray, SearchSpace

# Weights along a row of one block of llama.cpp's quantised types.
_Q8_BLOCK, _K_BLOCK = 32, 256
_MOST_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class Hindrance:
    """What keeps genomes of a space out of a format, or makes them worse there.

    Attributes:
        reason: What happens, and to which genomes.
        setting: Key of the problem file that would change it; None if the model itself is in the way.
        value: What to set it to, as TOML.
        blocks: Whether the genomes cannot be written at all; otherwise they load, only larger or slower than could be.
    """

    reason: str
    setting: str | None = None
    value: str | None = None
    blocks: bool = True


@dataclass(frozen=True, kw_only=True)
class Servability:
    """How much of a space one format can hold.

    Attributes:
        format: Name of the format.
        genomes: ``all``, ``some`` or ``none`` of the space's genomes can be written.
        hindrances: What is in the way, and the setting that would remove it.
    """

    format: str
    genomes: Literal["all", "some", "none"]
    hindrances: tuple[Hindrance, ...] = ()


def gguf_servable(space: SearchSpace, config: PretrainedConfig, dense: DenseModel | None) -> Servability:
    """What llama.cpp's format can hold of a space."""
    blocked = _model_hindrances("gguf", space, config)
    if dense is not None:
        try:
            tokenizer_fields(dense)
        except ExportError as error:
            blocked += (Hindrance(reason=str(error)),)
    if blocked:
        return Servability(format="gguf", genomes="none", hindrances=blocked)
    found = list(_cut_heads(space, "space.attention", '"kv_group"'))
    if space.min_attn_layers == 0 and not space.protected_layers:
        found.append(
            Hindrance(
                reason="genomes without any attention cannot be written", setting="space.min_attn_layers", value="1"
            )
        )
    if config.model_type in ALIKE and _varies(space):
        found.append(
            Hindrance(
                reason=f"llama.cpp runs {ALIKE[config.model_type].name} with one size for all layers: genomes whose "
                "layers differ cannot be written as they are; --pad of nas-llm export fills them up with zeros, which "
                "saves neither bytes nor time"
            )
        )
    possible = np.count_nonzero(_whole_heads(space)) >= max(1, space.min_attn_layers)
    return Servability(
        format="gguf",
        genomes="all" if not found else "some" if possible else "none",
        hindrances=(*found, *_quantised(space)),
    )


def _varies(space: SearchSpace) -> bool:
    """Whether two genomes of a space may differ in the sizes of a layer."""
    ranges = ((space.attn_low, space.attn_high), (space.mlp_low, space.mlp_high))
    return any((low < high).any() for low, high in ranges) or any(map(space.removable, range(len(space.attn_low))))


def _cut_heads(space: SearchSpace, setting: str, value: str) -> Iterator[Hindrance]:
    """Heads that keep some of their channels only, where the space has such.

    Args:
        space: The space.
        setting: What would keep them out of it.
        value: To what to set it.
    """
    if space.layout.axes and (space.head_low < space.architecture.head_dim).any():
        yield Hindrance(
            reason=f"heads that keep some of their channels only cannot be written as they are: {ONE_HEAD_WIDTH}; "
            "--pad of nas-llm export fills them up with zeros, which saves neither bytes nor KV cache",
            setting=setting,
            value=value,
        )


def _whole_heads(space: SearchSpace) -> BoolArray:
    """``L`` bool: whether a layer's heads may be whole."""
    return np.asarray(space.head_high == space.architecture.head_dim)


def _quantised(space: SearchSpace) -> Iterator[Hindrance]:
    architecture = space.architecture
    for kind, block, instead in (("Q8_0", _Q8_BLOCK, "F16"), ("K", _K_BLOCK, "a type of more bits")):
        name = "type Q8_0" if kind == "Q8_0" else "llama.cpp's K types (Q4_K_M, Q6_K, ...)"
        if architecture.hidden_size % block:
            yield Hindrance(
                reason=f"{name} need rows of a multiple of {block} weights, and the hidden size is "
                f"{architecture.hidden_size}: most matrices take {instead}",
                blocks=False,
            )
        if any(width % block for width in _ffn_widths(space)):
            helps = architecture.intermediate_size % block == 0
            reason = f"{name} need FFN widths of a multiple of {block}: down projections of others take {instead}"
            if not helps:
                reason += f"; the dense width {architecture.intermediate_size} is none itself"
            yield Hindrance(
                reason=reason,
                setting="space.ffn_multiple" if helps else None,
                value=str(_least_multiple(space.ffn_multiple, block)) if helps else None,
                blocks=False,
            )


def decilm_servable(space: SearchSpace, config: PretrainedConfig, dense: DenseModel | None) -> Servability:
    """What vLLM's and SGLang's format can hold of a space."""
    blocked = _model_hindrances("decilm", space, config)
    if blocked:
        return Servability(format="decilm", genomes="none", hindrances=blocked)
    architecture = space.architecture
    groups = architecture.num_kv_heads
    found = list(_cut_heads(space, "space.attn_ratio", "[1.0, 1.0]"))
    if (space.attn_low < groups).any():
        found.append(
            Hindrance(
                reason=f"an attention that keeps some of its {groups} KV groups cannot be written; all or none can",
                setting="space.attn_ratio",
                value="[1.0, 1.0]",
            )
        )
    if space.removable(0) and space.min_attn_layers < architecture.num_layers:
        found.append(
            Hindrance(
                reason="a first block without attention cannot be written",
                setting="space.protected_layers",
                value=str(sorted({0, *space.protected_layers})),
            )
        )
    blocking = bool(found)
    widths = _ffn_widths(space)
    if any(width % FFN_MULT_GRAIN for width in widths):
        helps = architecture.intermediate_size % FFN_MULT_GRAIN == 0
        found.append(
            Hindrance(
                reason=f"SGLang, unlike vLLM, reads FFN widths in multiples of {FFN_MULT_GRAIN} only"
                + ("" if helps else f", and the dense width {architecture.intermediate_size} is none"),
                setting="space.ffn_multiple" if helps else None,
                value=str(_least_multiple(space.ffn_multiple, FFN_MULT_GRAIN)) if helps else None,
                blocks=False,
            )
        )
    full = (space.attn_high == groups) & _whole_heads(space)
    possible = bool(full[0]) and np.count_nonzero(full) >= space.min_attn_layers
    return Servability(
        format="decilm",
        genomes="all" if not blocking else "some" if possible else "none",
        hindrances=tuple(found),
    )


def tried_servable(
    name: str, refusal: Callable[[Genome, PretrainedConfig], str | None], space: SearchSpace, config: PretrainedConfig
) -> Servability:
    """What a format can hold of a space, as far as a few genomes show.

    They are the largest, the smallest, and the largest without one sublayer, for each that may be removed.

    Args:
        name: The format.
        refusal: Why it cannot hold a genome, or None.
        space: The genomes that a search may visit.
        config: Configuration of the dense model.
    """
    found = [refusal(genome, config) for genome in _trials(space)]
    reasons = list(dict.fromkeys(reason for reason in found if reason is not None))
    return Servability(
        format=name,
        genomes="all" if not reasons else "some" if None in found else "none",
        hindrances=tuple(Hindrance(reason=reason) for reason in reasons[:_MOST_REASONS]),
    )


def _trials(space: SearchSpace) -> Iterator[Genome]:
    shape = space.architecture
    layers = range(shape.num_layers)
    most, least = (np.array([pick(space.ffn_counts(layer)) for layer in layers]) for pick in (max, min))
    yield _genome(space, space.attn_high, most)
    yield _genome(space, space.attn_low, least, narrow=True)
    for layer in filter(space.removable, layers):
        there = np.arange(shape.num_layers) != layer
        if space.min_attn_layers < shape.num_layers:
            yield _genome(space, space.attn_high * there, most)
        if space.min_mlp_layers < shape.num_layers:
            yield _genome(space, space.attn_high, most * there)


def _genome(space: SearchSpace, groups: IntArray, channels: IntArray, *, narrow: bool = False) -> Genome:
    """The first so many units of each sublayer, with the narrowest or the widest heads."""
    shape, layout = space.architecture, space.layout
    heads, mlp = (
        np.arange(shape.num_kv_heads) < groups[:, None],
        np.arange(shape.intermediate_size) < channels[:, None],
    )
    if not layout.axes:
        return Genome(heads, mlp)
    rows = []
    for layer, present in enumerate(heads):
        width = (min if narrow else max)(space.head_counts(layer))
        kept = (
            np.concatenate([np.arange(n) < few for (n, _), few in zip(axis.parts, axis.counts(width), strict=True)])
            for axis in layout.axes
        )
        rows.append(layout.row(tuple(present[:, None] & units for units in kept)))
    return Genome(np.stack(rows), mlp, layout)


def _model_hindrances(format: str, space: SearchSpace, config: PretrainedConfig) -> tuple[Hindrance, ...]:
    return tuple(
        Hindrance(reason=f"{problem.reason}; {problem.accepted}")
        for problem in model_problems(format, config, space.architecture)
    )


def _ffn_widths(space: SearchSpace) -> set[int]:
    """Widths that a present FFN may have."""
    return {count for layer in range(space.architecture.num_layers) for count in space.ffn_counts(layer)}


def _least_multiple(multiple: int, block: int) -> int:
    """The least multiple of both."""
    return int(np.lcm(multiple, block))
