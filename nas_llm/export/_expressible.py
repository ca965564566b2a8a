"""What keeps a subnet out of a format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from transformers import PretrainedConfig

from nas_llm.errors import ExportError
from nas_llm.export._hosts import ALIKE, IRREGULAR
from nas_llm.export._padding import alike, filled
from nas_llm.models import LlamaAdapter, adapter_for
from nas_llm.space import Architecture, Genome


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that a format has no form for.

    Attributes:
        format: Name of the format.
        layers: Layers at fault, ascending; empty if it is the model as a whole.
        reason: What the format cannot say, and why.
        accepted: What it would take instead.
    """

    format: str
    layers: tuple[int, ...]
    reason: str
    accepted: str

    def __str__(self) -> str:
        where = f"{layers_in_words(self.layers)}: " if self.layers else ""
        return f"{where}{self.reason}; {self.accepted}"


def expressible(format: str, genome: Genome, config: PretrainedConfig, *, pad: bool = False) -> list[Problem]:
    """Everything that keeps one subnet out of a format; empty if the format can hold it.

    Args:
        format: One of :data:`nas_llm.export.FORMATS`.
        genome: The masks.
        config: Configuration of the dense model.
        pad: Whether what has no form may be filled up with zeros.

    Raises:
        ExportError: If there is no such format.
        ModelError: If the model's family is not supported at all.
    """
    architecture = adapter_for(config.model_type).architecture(config)
    written = written_genome(format, genome, config) if pad else genome
    return [*model_problems(format, config, architecture), *_genome_problems(format, written, architecture, config)]


def refuse_inexpressible(format: str, genome: Genome, config: PretrainedConfig, *, pad: bool = False) -> None:
    """Raise what :func:`expressible` finds.

    Raises:
        ExportError: If it finds anything; the message holds all of it.
    """
    problems = expressible(format, genome, config, pad=pad)
    if problems:
        raise ExportError(f"{format} cannot express this subnet. " + ". ".join(str(problem) for problem in problems))


def written_genome(format: str, genome: Genome, config: PretrainedConfig) -> Genome:
    """The sizes that a file has whose subnet is filled up with zeros where the format has no form for it.

    Args:
        format: Name of a format.
        genome: The masks.
        config: Configuration of the dense model.
    """
    whole = genome.whole_heads()
    return filled(whole) if format == "gguf" and config.model_type in ALIKE else whole


def model_problems(format: str, config: PretrainedConfig, architecture: Architecture) -> list[Problem]:
    """What keeps every subnet of a dense model out of a format.

    Args:
        format: One of :data:`nas_llm.export.FORMATS`.
        config: Configuration of the dense model.
        architecture: Its sizes.

    Raises:
        ExportError: If there is no such format.
    """
    if format == "hf":
        return []
    if format not in _ROPE_TYPES:
        raise ExportError(f"unknown export format '{format}'; formats are hf, {', '.join(_ROPE_TYPES)}")
    found = []
    host = ALIKE.get(config.model_type) if format == "gguf" else None
    if host is not None:
        reason = host.refusal(config)
        return [] if reason is None else [_whole(format, reason, "hf takes every model")]
    if config.model_type not in IRREGULAR_TYPES[format]:
        found.append(
            _whole(
                format,
                f"{_LOADERS[format]} runs blocks of different sizes for some models only, not for model type "
                f"'{config.model_type}'",
                f"{_accepted(format)}; hf takes every family",
            )
        )
        return found
    if config.hidden_act != "silu":
        found.append(
            _whole(format, f"the activation is '{config.hidden_act}' and the format knows one", "silu is accepted")
        )
    rope_type = config.rope_parameters["rope_type"]
    if rope_type == "yarn" and config.model_type == "ministral3" and _plain_yarn(config):
        return found
    if rope_type not in _ROPE_TYPES[format]:
        found.append(
            _whole(
                format,
                f"rotary positions of type '{rope_type}' have no form in it here",
                f"types {', '.join(_ROPE_TYPES[format])} are accepted",
            )
        )
    return found


def _genome_problems(
    format: str, genome: Genome, architecture: Architecture, config: PretrainedConfig
) -> Iterator[Problem]:
    groups, cut = genome.kv_groups, genome.cut_layers
    if format == "hf":
        return
    if cut.size:
        yield Problem(
            format=format,
            layers=tuple(cut.tolist()),
            reason=f"heads that keep some of their channels only: {ONE_HEAD_WIDTH}",
            accepted="--pad fills them up with zeros, hf takes them as they are, and whole heads are accepted "
            f"({_WHOLE_HEADS[format]})",
        )
    if format == "gguf" and config.model_type in ALIKE and not alike(genome):
        host = ALIKE[config.model_type]
        yield _whole(
            format,
            f"llama.cpp runs {host.name} with one size for all layers, and here they differ",
            "--pad fills all up to the largest with zeros, hf takes them as they are",
        )
    elif format == "gguf" and not groups.any():
        yield _whole(format, "no attention is left, and llama.cpp needs one", "keep the attention of any layer")
    if format != "decilm":
        return
    reduced = np.flatnonzero((groups > 0) & (groups < architecture.num_kv_heads))
    if reduced.size:
        yield Problem(
            format=format,
            layers=tuple(reduced.tolist()),
            reason="attention with a part of its query heads: the format has one number of query heads for all layers",
            accepted="an attention with all of its KV groups or none is accepted (space.attn_ratio = [1.0, 1.0])",
        )
    if not groups[0]:
        yield Problem(
            format=format,
            layers=(0,),
            reason="the first block has no attention, with which vLLM begins its sum of residuals",
            accepted="keep it (space.protected_layers = [0])",
        )


def _plain_yarn(config: PretrainedConfig) -> bool:
    """Whether rotary tables are stretched alone, and scores stay as they are."""
    parameters = config.rope_parameters
    return parameters.get("attention_factor") is None and parameters.get("mscale") == parameters.get("mscale_all_dim")


def _accepted(format: str) -> str:
    accepted = f"model types {_and(IRREGULAR_TYPES[format])} are accepted"
    return f"{accepted}, and with --pad {_and(tuple(sorted(ALIKE)))}" if format == "gguf" else accepted


def _and(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _whole(format: str, reason: str, accepted: str) -> Problem:
    return Problem(format=format, layers=(), reason=reason, accepted=accepted)


def layers_in_words(layers: tuple[int, ...]) -> str:
    """``(0, 1, 2, 5)`` as ``layers 0-2, 5``; of many the first few."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    words = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:_MOST_RUNS])
    rest = sum(len(run) for run in runs[_MOST_RUNS:])
    return f"layer{'s' if len(layers) > 1 else ''} {words}" + (f" and {rest} more" if rest else "")


ONE_HEAD_WIDTH = "the format has one head width for all layers, the same for q, k, v and o, with all rotary pairs"
"""Why heads that keep some of their channels only have no form in a format."""

_MOST_RUNS = 8
# What to search for subnets of whole heads.
_WHOLE_HEADS = {"gguf": 'space.attention = "kv_group"', "decilm": "space.attn_ratio = [1.0, 1.0]"}
_LOADERS = {"gguf": "llama.cpp", "decilm": "vLLM"}
IRREGULAR_TYPES = {"gguf": IRREGULAR, "decilm": LlamaAdapter.model_types}
"""Model types whose blocks may differ in size, by format."""
# Kinds of rotary positions that can be written faithfully.
_ROPE_TYPES = {
    "gguf": ("default", "linear", "llama3"),
    "decilm": ("default", "linear", "llama3"),
}
