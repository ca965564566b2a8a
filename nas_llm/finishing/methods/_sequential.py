"""Block by block, on what the finished blocks below produce."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nas_llm.display import size
from nas_llm.events import EventHandler, Notice, ignore
from nas_llm.finishing._inputs import Finished, FinishInputs
from nas_llm.finishing._memory import BATCH_TOKENS, FinishMemory, finish_memory, release_memory
from nas_llm.finishing.methods._method import FinishingMethod
from nas_llm.reconstruction import BlockReconstructor, SequentialReconstructor, TokenWeights
from nas_llm.space import Genome


class SequentialFinish(FinishingMethod):
    """All projections refitted by :class:`nas_llm.reconstruction.SequentialReconstructor`, several points in one pass.

    Args:
        damping: Ridge on the update, fraction of the mean diagonal; of several, each projection takes the one that does
            best on held-out windows.
        validation: Share of the windows that is held out for it.
        target: ``residual``, ``sublayer`` or the share of the upstream error, from 0 to 1.
        step: Share of each update that is made.
        blend: Share of what was made that ends in the weights.
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
        step: float,
        blend: float,
        start: str,
        token_weights: str,
        refit_inputs: bool,
    ) -> None:
        self.dampings = (damping,) if isinstance(damping, float | int) else tuple(damping)
        self.validation = validation
        self.target = target
        self.step = step
        self.blend = blend
        self.begins_with = start
        self.token_weights = token_weights
        self.refit_inputs = refit_inputs
        self._memory: FinishMemory | None = None

    def in_words(self) -> str:
        """For the card."""
        damping = " or ".join(f"{value:g}" for value in self.dampings)
        target = self.target if isinstance(self.target, str) else f"{self.target:g}"
        projections = "projections" if self.refit_inputs else "output projections"
        how = f"(target {target}, damping {damping}, step {self.step:g}, blend {self.blend:g})"
        return f"inherited, {projections} refitted sequentially {how}"

    def start(self, inputs: FinishInputs, *, memory_gb: float | None = None, on_event: EventHandler = ignore) -> None:
        """Plan the memory; see :func:`finish_memory`."""
        self._memory = finish_memory(
            inputs, sets=2 if len(self.dampings) > 1 else 1, refit_inputs=self.refit_inputs, memory_gb=memory_gb
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
        """Refit several points in one pass; each of several processes takes its share of the memory."""
        memory = self._plan(inputs)
        reconstructor = self.reconstructor(
            inputs,
            budget_bytes=memory.budget(jobs * len(genomes)) // jobs,
            # Several processes finish points on a CPU only: a GPU's memory need not be shared out.
            device_budget_bytes=memory.device_budget(len(genomes)),
        )
        found = [
            Finished(subnet.edit, subnet.residuals)
            for subnet in reconstructor.reconstruct_many(genomes, on_layer=lambda layer, _: on_done(layer + 1))
        ]
        release_memory()
        return found

    def reconstructor(
        self, inputs: FinishInputs, *, budget_bytes: int, device_budget_bytes: int = 0
    ) -> SequentialReconstructor:
        """The reconstruction that this method stands for.

        Args:
            inputs: The problem, loaded.
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
            step=self.step,
            blend=self.blend,
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
