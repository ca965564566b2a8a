"""Latency tables: a model's sliced sublayers, timed on the device at hand; once, then found in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from scipy.optimize import isotonic_regression
from transformers import PreTrainedModel

from nas_llm.cache import keep_file
from nas_llm.config import LatencySection
from nas_llm.errors import NasLlmError, RunError
from nas_llm.evaluation._timed_pass import TimedPass, check_positions, device_name, interleaved_seconds
from nas_llm.models import DenseModel, on_device
from nas_llm.settings import SpaceDefaults
from nas_llm.space import Architecture, AttentionLayout, BoolArray, FloatArray, Genome, LatencyTable
from nas_llm.subnet import build_subnet

_SCHEMA = 1
_DEFAULT = LatencySection()
# Layers of one shape that are timed together: more of them average out what a single pass is off by, and take memory.
_MOST_LAYERS = 4
_STACK_BYTES = 1 << 28


def latency_table(
    dense: DenseModel,
    settings: LatencySection = _DEFAULT,
    *,
    ffn_multiple: int = SpaceDefaults.ffn_multiple,
    layout: AttentionLayout | None = None,
    device: torch.device,
    dtype: torch.dtype,
    cache_dir: Path,
    anchored: bool = False,
    on_start: Callable[[str], None] = lambda detail: None,
    on_round: Callable[[int], None] = lambda done: None,
) -> LatencyTable:
    """The table of a model on a device: from the cache, or measured now and kept there.

    Args:
        dense: The model.
        settings: Which pass is timed and how.
        ffn_multiple: What kept FFN channels are a multiple of.
        layout: Of attention masks; where they lie inside heads, heads of several widths are timed, too.
        device: Where.
        dtype: Type of the weights.
        cache_dir: Folder of tables.
        anchored: See :func:`measure_latency_table`.
        on_start: Called with a line about what is measured, if it is.
        on_round: Called with the number of rounds of measurement that are done.

    Raises:
        ConfigError: If the pass is longer than the model's positions.
        RunError: If the table cannot be kept.
    """
    check_positions(settings, dense.architecture.max_positions)
    conditions = _conditions(dense, settings, ffn_multiple, layout, device, dtype, anchored)
    key = hashlib.blake2b(json.dumps(conditions, sort_keys=True).encode(), digest_size=16).hexdigest()
    path = cache_dir / f"{key}.json"
    if path.is_file():
        try:
            return read_latency_table(path)
        except RunError:
            # The cache may be damaged at any time; what is in it can be made again.
            path.unlink(missing_ok=True)
    on_start(
        f"{settings.phase} at {settings.length:,} tokens, batch {settings.batch}, {conditions['dtype']}, on "
        f"{conditions['device']}"
    )
    with _threads(settings.threads):
        table = measure_latency_table(
            dense,
            settings,
            ffn_multiple=ffn_multiple,
            layout=layout,
            device=device,
            dtype=dtype,
            anchored=anchored,
            on_round=on_round,
        )
    keep_file(path, table_text(table))
    return table


def measure_latency_table(
    dense: DenseModel,
    settings: LatencySection = _DEFAULT,
    *,
    ffn_multiple: int = SpaceDefaults.ffn_multiple,
    layout: AttentionLayout | None = None,
    device: torch.device,
    dtype: torch.dtype,
    anchored: bool = False,
    on_round: Callable[[int], None] = lambda done: None,
) -> LatencyTable:
    """Time the sublayers of a model.

    For each size, a few layers of the real model are sliced to it and stand alone in the trunk; what the empty trunk
    takes is subtracted. All sizes take turns, round by round. Times are then made to rise with size (isotonic
    regression), as far as they do not.

    Args:
        dense: The model.
        settings: Which pass is timed and how.
        ffn_multiple: What kept FFN channels are a multiple of.
        layout: Of attention masks; where they lie inside heads, heads of several widths are timed, too.
        device: Where.
        dtype: Type of the weights.
        anchored: Whether the whole dense model runs in each round, too, and the times of all sublayers are scaled so
            that their sum is its time: a few layers find more of their weights in the processor's caches than a whole
            model does. That takes twice the time, and memory for the model.
        on_round: Called with the number of rounds that are done.
    """
    shape = dense.architecture
    groups = _grid(shape.num_kv_heads, 1, settings.points)
    channels = _grid(shape.intermediate_size, ffn_multiple, settings.points)
    layers = _stack_layers(dense)
    whole = on_device(build_subnet(dense, _stack(shape, layers)), device, dtype)
    trunks = [cast(PreTrainedModel, whole.base_model)]
    for sizes in ({"groups": count} for count in groups), ({"channels": count} for count in channels):
        trunks += [_trunk(dense, _stack(shape, layers, **size), device, dtype, whole) for size in sizes]
    inside = layout if layout is not None and layout.axes else None
    axes = range(len(inside.axes)) if inside is not None else range(0)
    widths = _grid(shape.head_dim, 2, settings.points) if inside is not None else ()
    for axis in axes:
        assert inside is not None
        stacks = (_head_stack(shape, inside, layers, axis, width) for width in widths)
        trunks += [_trunk(dense, stack, device, dtype, whole) for stack in stacks]
    models = [whole, *trunks]
    if anchored:
        models.append(on_device(build_subnet(dense, Genome.dense(shape)), device, dtype))
    passes = [TimedPass(model, settings) for model in models]
    constant, empty, *seconds = interleaved_seconds(passes, repeats=settings.repeats, on_round=on_round).tolist()
    anchor = seconds.pop() if anchored else None
    each = (np.array(seconds) - empty) / layers
    ends = np.cumsum([len(groups), len(channels), *(len(widths) for _ in axes)])
    attention, ffn, *heads = map(_rising, np.split(each, ends[:-1]))
    scale = 1.0
    sublayers = shape.num_layers * (attention[-1] + ffn[-1])
    if anchor is not None and anchor > constant and sublayers > 0.0:
        scale = (anchor - constant) / sublayers
    attention, ffn, *heads = (tuple(scale * value for value in axis) for axis in (attention, ffn, *heads))
    return LatencyTable(
        constant=constant,
        kv_groups=groups,
        attention=attention,
        ffn_channels=channels,
        ffn=ffn,
        settings=_conditions(dense, settings, ffn_multiple, layout, device, dtype, anchored),
        head_widths=widths,
        heads=tuple(heads),
    )


def read_latency_table(path: Path) -> LatencyTable:
    """Read a table as :func:`table_text` writes it.

    Raises:
        RunError: If it cannot be read.
    """
    try:
        return LatencyTable.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, NasLlmError) as error:
        raise RunError(f"{path} is damaged and cannot be read: {error}") from error


def table_text(table: LatencyTable) -> str:
    """A table as the text of a JSON file."""
    return json.dumps(table.to_dict(), indent=1) + "\n"


def _conditions(
    dense: DenseModel,
    settings: LatencySection,
    ffn_multiple: int,
    layout: AttentionLayout | None,
    device: torch.device,
    dtype: torch.dtype,
    anchored: bool,
) -> dict[str, Any]:
    """All that times depend on."""
    inside = {"heads": layout.mode} if layout is not None and layout.axes else {}
    length = {"tokens": settings.tokens} if settings.phase == "prefill" else {"context": settings.context}
    threads = {} if device.type == "cuda" else {"threads": settings.threads or torch.get_num_threads()}
    return {
        "schema": _SCHEMA,
        "device": device_name(device),
        "phase": settings.phase,
        **length,
        "batch": settings.batch,
        "dtype": str(dtype).removeprefix("torch."),
        **threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "model_type": dense.model.config.model_type,
        "attention": dense.model.config._attn_implementation,
        "architecture": dense.architecture.to_dict(),
        "ffn_multiple": ffn_multiple,
        "points": settings.points,
        "repeats": settings.repeats,
        **inside,
        **({"anchored": True} if anchored else {}),
    }


def _grid(most: int, multiple: int, points: int) -> tuple[int, ...]:
    """At most so many evenly spread multiples, the smallest one and ``most`` among them."""
    first = min(multiple, most)
    spread = np.linspace(first, most, points)
    aligned = np.round(spread / multiple).astype(int) * multiple
    return tuple(sorted({first, most, *(int(count) for count in aligned if first <= count <= most)}))


def _stack_layers(dense: DenseModel) -> int:
    size = sum(weight.nbytes for weight in dense.block_state(0).values())
    return max(1, min(_MOST_LAYERS, dense.architecture.num_layers, _STACK_BYTES // size))


def _stack(shape: Architecture, layers: int, *, groups: int = 0, channels: int = 0) -> Genome:
    """The first so many layers with one sublayer of a size; all others are empty."""

    def mask(units: int, kept: int) -> BoolArray:
        rows = np.zeros((shape.num_layers, units), dtype=bool)
        rows[:layers, :kept] = True
        return rows

    return Genome(mask(shape.num_kv_heads, groups), mask(shape.intermediate_size, channels))


def _head_stack(shape: Architecture, layout: AttentionLayout, layers: int, axis: int, width: int) -> Genome:
    """The first so many layers with an attention of all KV groups whose heads keep so many channels of one kind."""
    widths = [width if place == axis else shape.head_dim for place in range(len(layout.axes))]
    units = []
    for kind, kept in zip(layout.axes, widths, strict=True):
        mask = np.zeros((shape.num_kv_heads, kind.units), dtype=bool)
        for span, count in zip(kind.spans, kind.counts(kept), strict=True):
            mask[:, span.start : span.start + count] = True
        units.append(mask)
    rows = np.zeros((shape.num_layers, layout.units), dtype=bool)
    rows[:layers] = layout.row(tuple(units))
    return Genome(rows, np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool), layout)


def _trunk(
    dense: DenseModel, genome: Genome, device: torch.device, dtype: torch.dtype, whole: PreTrainedModel
) -> PreTrainedModel:
    trunk = cast(PreTrainedModel, on_device(build_subnet(dense, genome), device, dtype).base_model)
    # One table of embeddings for all of them.
    trunk.set_input_embeddings(whole.get_input_embeddings())
    return trunk


def _rising(seconds: FloatArray) -> tuple[float, ...]:
    fitted = isotonic_regression(np.maximum(seconds, 0.0)).x
    return tuple(float(value) for value in fitted)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
