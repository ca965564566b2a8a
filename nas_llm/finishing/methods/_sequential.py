"""Block by block, on what the finished blocks below produce."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

from nas_llm.display import alternatives, size
from nas_llm.events import EventHandler, Notice, ignore
from nas_llm.finishing._choice import loss_by_kind
from nas_llm.finishing._inputs import Finished, FinishInputs
from nas_llm.finishing._memory import BATCH_TOKENS, FinishMemory, finish_memory, release_memory
from nas_llm.finishing.methods._method import FinishingMethod
from nas_llm.reconstruction import (
    BlockReconstructor,
    Reconstruction,
    SequentialReconstructor,
    SequentialResidual,
    TokenWeights,
)
from nas_llm.settings import several
from nas_llm.space import Genome


class SequentialFinish(FinishingMethod):
    """All projections refitted by :class:`nas_llm.reconstruction.SequentialReconstructor`, several points in one pass.

    Args:
        damping: Ridge on the update, fraction of the mean diagonal; of several, each projection takes the one that does
            best on held-out windows.
        validation: Share of the windows that is held out for it.
        target: ``residual``, ``sublayer`` or the share of the upstream error, from 0 to 1.
        step: Share of each update that is made; of several, each point takes the one that does best on fitness text,
            all kinds counting alike.
        blend: Share of what was made that ends in the weights; of several, likewise.
        start: ``closed_form`` or ``inherited``: what it begins with.
        token_weights: ``relative`` or ``uniform``.
        refit_inputs: Whether the first projections are refitted, too.
    """

    name = "sequential"
    keys = ("damping", "target", "step", "blend", "start", "token_weights", "refit_inputs", "validation")

    def __init__(
        self,
        *,
        damping: float | Sequence[float],
        validation: float,
        target: str | float,
        step: float | Sequence[float],
        blend: float | Sequence[float],
        start: str,
        token_weights: str,
        refit_inputs: bool,
    ) -> None:
        self.dampings = several(damping)
        self.validation = validation
        self.target = target
        self.steps = several(step)
        self.blends = several(blend)
        self.begins_with = start
        self.token_weights = token_weights
        self.refit_inputs = refit_inputs
        self._memory: FinishMemory | None = None

    def in_words(self) -> str:
        """For the card."""
        damping, step, blend = map(alternatives, (self.dampings, self.steps, self.blends))
        target = self.target if isinstance(self.target, str) else f"{self.target:g}"
        projections = "projections" if self.refit_inputs else "output projections"
        how = f"(target {target}, damping {damping}, step {step}, blend {blend})"
        return f"inherited, {projections} refitted sequentially {how}"

    def start(self, inputs: FinishInputs, *, memory_gb: float | None = None, on_event: EventHandler = ignore) -> None:
        """Plan the memory; see :func:`finish_memory`."""
        self._memory = finish_memory(
            inputs,
            sets=2 if len(self.dampings) > 1 else 1,
            refit_inputs=self.refit_inputs,
            # Beside what is being made: what its blends begin with, and the best of the steps before.
            copies=1 + (len(self.blends) > 1) + (len(self.steps) > 1),
            memory_gb=memory_gb,
        )
        if memory_gb is not None and self._memory.lacking:
            on_event(Notice(f"one point takes {size(self._memory.lacking)} more than --memory {memory_gb:g}; going on"))

    def at_once(self, inputs: FinishInputs) -> int:
        """As many points as there is room for: the dense model runs once for all of a pass."""
        return self._plan(inputs).points

    def point_bytes(self, inputs: FinishInputs) -> int:
        """Memory of one point, hidden states included."""
        return self._plan(inputs).one_point

    def refit(self, inputs: FinishInputs, genome: Genome, on_layer: Callable[[int], None]) -> Finished:
        """Refit one point."""
        return self.finish(inputs, [genome], on_done=lambda done: on_layer(done - 1))[0]

    def finish(
        self,
        inputs: FinishInputs,
        genomes: Sequence[Genome],
        *,
        jobs: int = 1,
        on_done: Callable[[int], None] = lambda done: None,
    ) -> list[Finished]:
        """Refit several points in one pass a step; each of several processes takes its share of the memory."""
        memory = self._plan(inputs)
        layers = inputs.dense.architecture.num_layers
        best: list[tuple[float, Finished]] = []
        for turn, step in enumerate(self.steps):

            def on_layer(layer: int, _: Sequence[SequentialResidual], before: int = turn * layers) -> None:
                on_done((before + layer + 1) // len(self.steps))

            reconstructor = self.reconstructor(
                inputs,
                step=step,
                budget_bytes=memory.budget(jobs * len(genomes)) // jobs,
                # Several processes finish points on a CPU only: a GPU's memory need not be shared out.
                device_budget_bytes=memory.device_budget(len(genomes)),
            )
            made = reconstructor.reconstruct_many(genomes, on_layer=on_layer)
            release_memory()
            # One after the other leaves with what its blends begin with.
            found = [self._best_blend(inputs, made.pop(0), step) for _ in genomes]
            best = [min(pair, key=itemgetter(0)) for pair in zip(best, found, strict=True)] if turn else found
        return [finished for _, finished in best]

    def _best_blend(self, inputs: FinishInputs, made: Reconstruction, step: float) -> tuple[float, Finished]:
        """The blend of the least loss, and that loss; it is not measured where there is nothing to choose."""
        if len(self.steps) == len(self.blends) == 1:
            return 0.0, Finished(made.edit, made.residuals)
        most = max(self.blends)
        losses = {blend: loss_by_kind(inputs, made.genome, made.blended(blend / most).edit) for blend in self.blends}
        blend = min(losses, key=losses.__getitem__)
        best = made.blended(blend / most)
        return losses[blend], Finished(best.edit, best.residuals, {"step": step, "blend": blend})

    def reconstructor(
        self, inputs: FinishInputs, *, step: float, budget_bytes: int, device_budget_bytes: int = 0
    ) -> SequentialReconstructor:
        """The reconstruction that this method stands for, with the largest of its blends.

        Args:
            inputs: The problem, loaded.
            step: One of its steps.
            budget_bytes: Memory for hidden states and for inputs kept along the way.
            device_budget_bytes: A GPU's memory for hidden states.
        """
        begin = BlockReconstructor(
            inputs.dense,
            inputs.calibration,
            damping=inputs.problem.reconstruction.pricing_damping,
            device=inputs.device,
        )
        return SequentialReconstructor(
            inputs.dense,
            inputs.splits.finish,
            target=self.target,
            damping=self.dampings,
            step=step,
            blend=max(self.blends),
            keep_began=len(self.blends) > 1,
            start=begin if self.begins_with == "closed_form" else self.begins_with,
            tokens=TokenWeights(relative=self.token_weights == "relative"),
            refit_inputs=self.refit_inputs,
            validation=self.validation,
            device=inputs.device,
            batch_tokens=BATCH_TOKENS,
            budget_bytes=budget_bytes,
            device_budget_bytes=device_budget_bytes,
        )

    def _plan(self, inputs: FinishInputs) -> FinishMemory:
        if self._memory is None:
            self.start(inputs)
        assert self._memory is not None
        return self._memory
