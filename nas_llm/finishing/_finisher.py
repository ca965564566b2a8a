"""Chosen points get their weights: the one place where the methods of reconstruction are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor

from nas_llm.calibration import keep_grams
from nas_llm.data import WindowSet
from nas_llm.display import size
from nas_llm.events import EventHandler, Notice, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.finishing._memory import BATCH_TOKENS, FinishMemory, finish_memory, release_memory
from nas_llm.front import FrontPoint
from nas_llm.reconstruction import (
    BlockReconstructor,
    GramSource,
    Residual,
    SequentialReconstructor,
    TokenWeights,
    admm,
    closed_form,
    held_out_windows,
)
from nas_llm.session import Prepared
from nas_llm.space import BoolArray, Genome
from nas_llm.subnet import BlockEdit


@dataclass(frozen=True, eq=False)
class Finished:
    """One finished point.

    Attributes:
        edit: What ``build_subnet`` has to do with each sliced block.
        residuals: One a refitted projection.
    """

    edit: BlockEdit
    residuals: tuple[Residual, ...]


class Finisher:
    """Refits points by the method that a problem names.

    Grams of windows other than the calibration's are computed here, and kept in the cache folder.

    Args:
        prepared: The problem.
        memory_gb: See :func:`finish_memory`; of use to ``sequential`` alone.
        on_event: Told about these Grams.
    """

    def __init__(self, prepared: Prepared, *, memory_gb: float | None = None, on_event: EventHandler = ignore) -> None:
        self._prepared = prepared
        self._method = prepared.problem.reconstruction.method
        self._windows = prepared.splits.finish
        self._memory = finish_memory(prepared, memory_gb=memory_gb) if self._method == "sequential" else None
        if memory_gb is not None and self._memory is not None and self._memory.lacking:
            on_event(Notice(f"one point takes {size(self._memory.lacking)} more than --memory {memory_gb:g}; going on"))
        self._grams = _gram_sources(prepared, on_event) if self._method in ("closed_form", "admm") else None

    def finish(self, points: Sequence[FrontPoint], *, jobs: int = 1, on_event: EventHandler = ignore) -> list[Finished]:
        """Refit some points; together they cost less time, and more memory, than one by one.

        Args:
            points: The points.
            jobs: Processes that do this at the same time; each takes its share of the memory.
            on_event: Told as layers go by.

        Returns:
            One result a point; none depends on the other points.
        """
        if self._method == "none":
            return [Finished(_unchanged, ()) for _ in points]
        names = ", ".join(point.id for point in points)
        layers = self._prepared.dense.architecture.num_layers
        detail = f"{names}: {self._method} on {self._windows.num_tokens:,} tokens"
        on_event(StageStarted("reconstruction", detail, layers))
        genomes = [point.genome for point in points]
        if self._memory is not None:
            finished = self._sequentially(
                genomes, self._memory, jobs=jobs, on_layer=lambda layer, _: _advance(on_event, 0, 1, layer)
            )
            release_memory()
        else:
            finished = [
                self._block_by_block(genome, partial(_advance, on_event, done * layers, len(genomes)))
                for done, genome in enumerate(genomes)
            ]
        on_event(StageFinished("reconstruction", names))
        return finished

    def at_once(self) -> int:
        """How many points one pass should take, as far as memory allows; more than one only saves time."""
        return 1 if self._memory is None else self._memory.points

    def point_bytes(self) -> int:
        """Memory of one point under way."""
        if self._memory is not None:
            return self._memory.one_point
        shape = self._prepared.dense.architecture
        widest = max(shape.intermediate_size, shape.num_heads * shape.head_dim)
        return 4 * 8 * widest**2

    def _sequentially(
        self,
        genomes: Sequence[Genome],
        memory: FinishMemory,
        *,
        jobs: int,
        on_layer: Callable[[int, Sequence[Residual]], None],
    ) -> list[Finished]:
        sequential = sequential_reconstructor(
            self._prepared,
            budget_bytes=memory.budget(jobs * len(genomes)) // jobs,
            # Several processes finish points on a CPU only: a GPU's memory need not be shared out.
            device_budget_bytes=memory.device_budget(len(genomes)),
        )
        return [
            Finished(subnet.edit, subnet.residuals)
            for subnet in sequential.reconstruct_many(genomes, on_layer=on_layer)
        ]

    def _block_by_block(self, genome: Genome, on_layer: Callable[[int], None]) -> Finished:
        assert self._grams is not None
        dense, (grams, held_out) = self._prepared.dense, self._grams
        reconstructor = block_reconstructor(self._prepared, grams, held_out)
        layers: list[dict[str, Tensor]] = []
        for layer in range(dense.architecture.num_layers):
            masks = genome.attn_mask[layer], genome.mlp_mask[layer]
            sliced = dense.adapter.slice_block(dense.architecture, dense.block_state(layer), *masks)
            refitted = reconstructor.refit(layer, sliced, *masks)
            layers.append({key: value for key, value in refitted.items() if value is not sliced[key]})
            on_layer(layer)
        return Finished(lambda layer, sliced: {**sliced, **layers[layer]}, tuple(reconstructor.residuals))


def sequential_reconstructor(
    prepared: Prepared, *, budget_bytes: int, device_budget_bytes: int = 0
) -> SequentialReconstructor:
    """The sequential reconstruction that a problem describes.

    Args:
        prepared: The problem.
        budget_bytes: Memory for hidden states and for inputs kept along the way.
        device_budget_bytes: A GPU's memory for hidden states.
    """
    section = prepared.problem.reconstruction
    start = BlockReconstructor(
        prepared.dense, prepared.calibration, damping=section.pricing_damping, device=prepared.device
    )
    return SequentialReconstructor(
        prepared.dense,
        prepared.splits.finish,
        target=section.target,
        damping=section.dampings,
        step=section.step,
        blend=section.blend,
        start=start if section.start == "closed_form" else None,
        tokens=TokenWeights(relative=section.token_weights == "relative"),
        refit_inputs=section.refit_inputs,
        validation=section.validation,
        device=prepared.device,
        batch_tokens=BATCH_TOKENS,
        budget_bytes=budget_bytes,
        device_budget_bytes=device_budget_bytes,
    )


def block_reconstructor(prepared: Prepared, grams: GramSource, held_out: GramSource | None) -> BlockReconstructor:
    """The block-by-block reconstruction that a problem describes.

    Args:
        prepared: The problem, its method ``closed_form`` or ``admm``.
        grams: Grams of the text to fit.
        held_out: Grams of text to choose between dampings.
    """
    section = prepared.problem.reconstruction
    iterate = section.method == "admm"
    return BlockReconstructor(
        prepared.dense,
        grams,
        damping=section.dampings,
        held_out=held_out,
        solve=partial(admm, rho=section.rho, iterations=section.iterations) if iterate else closed_form,
        label=f"admm({section.rho!r}, {section.iterations})" if iterate else "closed_form",
        device=prepared.device,
        residuals=True,
    )


def _gram_sources(prepared: Prepared, on_event: EventHandler) -> tuple[GramSource, GramSource | None]:
    """Grams to fit, and where there are several dampings, Grams to choose by."""
    section, windows = prepared.problem.reconstruction, prepared.splits.finish
    if len(section.dampings) == 1:
        if prepared.splits.reconstruction is None:
            return prepared.calibration, None
        return _keep(prepared, windows, on_event), None
    held_out: BoolArray = held_out_windows(len(windows.tokens), section.validation)
    fit, judge = (replace(windows, tokens=windows.tokens[np.flatnonzero(rows)]) for rows in (~held_out, held_out))
    return _keep(prepared, fit, on_event), _keep(prepared, judge, on_event)


def _keep(prepared: Prepared, windows: WindowSet, on_event: EventHandler) -> GramSource:
    dense, stage = prepared.dense, "calibration"
    on_event(StageStarted(stage, f"Gram matrices of {windows.num_tokens:,} tokens", dense.architecture.num_layers))
    grams = keep_grams(
        dense, windows, device=prepared.device, on_layer=lambda layer: on_event(StageAdvanced(stage, layer + 1))
    )
    on_event(StageFinished(stage))
    return grams


def _advance(on_event: EventHandler, before: int, passes: int, layer: int) -> None:
    on_event(StageAdvanced("reconstruction", (before + layer + 1) // passes))


def _unchanged(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
    return sliced
