"""Chosen points get their weights: the one place where finishing methods are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from nas_llm.errors import ConfigError
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.finishing._inputs import Finished, FinishInputs
from nas_llm.finishing._plan import FinishPlan, finish_plan
from nas_llm.plugins import named_faults
from nas_llm.settings import FINISHING_KIND
from nas_llm.space import Architecture, Genome

_STAGE = "reconstruction"


class NamedGenome(Protocol):
    """A genome with a name, such as a point of a front."""

    @property
    def id(self) -> str:
        """The name."""

    @property
    def genome(self) -> Genome:
        """The masks."""


class Finisher:
    """Refits points by the method that a problem names.

    Args:
        inputs: The problem, loaded.
        plan: How they are finished; default: as the problem says.
        memory_gb: What the process may have; of use to ``sequential`` alone, see :func:`finish_memory`.
        on_event: Called with what the method does to get ready.

    Attributes:
        plan: How they are finished.

    Raises:
        ConfigError: If the method cannot be used.
    """

    def __init__(
        self,
        inputs: FinishInputs,
        *,
        plan: FinishPlan | None = None,
        memory_gb: float | None = None,
        on_event: EventHandler = ignore,
    ) -> None:
        self.plan = plan or finish_plan(inputs.problem, base_dir=inputs.base_dir)
        self._inputs = inputs
        self._method = self.plan.make()
        with named_faults(FINISHING_KIND, self._method):
            self._method.start(inputs, memory_gb=memory_gb, on_event=on_event)

    def finish(
        self, points: Sequence[NamedGenome | Genome], *, jobs: int = 1, on_event: EventHandler = ignore
    ) -> list[Finished]:
        """Refit some points; together they cost less time, and more memory, than one by one.

        Args:
            points: Points, or bare genomes.
            jobs: Processes that do this at the same time; each takes its share of the memory.
            on_event: Called as layers go by.

        Returns:
            One result a point; none depends on the other points.

        Raises:
            ConfigError: If a genome is another model's, or a method of one's own does not do what it should.
        """
        genomes = [point if isinstance(point, Genome) else point.genome for point in points]
        names = ", ".join(point.digest()[:8] if isinstance(point, Genome) else point.id for point in points)
        shape = self._inputs.dense.architecture
        for genome in genomes:
            _check_shape(genome, shape)
        if self._method.refits and genomes:
            text = f" on {self._inputs.splits.finish.num_tokens:,} tokens" if self._method.needs_text else ""
            on_event(StageStarted(_STAGE, f"{names}: {self._method.name}{text}", shape.num_layers))
        with named_faults(FINISHING_KIND, self._method):
            found = self._method.finish(
                self._inputs, genomes, jobs=jobs, on_done=lambda done: on_event(StageAdvanced(_STAGE, done))
            )
        if self._method.refits and genomes:
            on_event(StageFinished(_STAGE, names))
        return found if self.plan.code is None else [self._checked(one, self.plan.method) for one in found]

    def at_once(self) -> int:
        """How many points one pass should take, as far as memory allows; more than one only saves time."""
        return self._method.at_once(self._inputs)

    def point_bytes(self) -> int:
        """Memory of one point under way."""
        return self._method.point_bytes(self._inputs)

    def _checked(self, finished: Finished, method: str) -> Finished:
        """The same, its edit refused with a clear word where it gives something else than a block's weights."""
        if not callable(finished.edit):
            raise ConfigError(
                f"{method}: refit returned {finished.edit!r}; it should return a function (layer, state dict)"
            )

        def edit(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
            # Clones: the weights may be views of the dense model's.
            with named_faults(FINISHING_KIND, self._method):
                made = finished.edit(layer, {name: weight.clone() for name, weight in sliced.items()})
            if not isinstance(made, dict) or made.keys() != sliced.keys():
                names = ", ".join(sorted(set(sliced) ^ set(made))) if isinstance(made, dict) else repr(made)
                raise ConfigError(
                    f"{method}: layer {layer} should come back as the weights {', '.join(sliced)}; at fault: {names}"
                )
            for name, before in sliced.items():
                if not isinstance(made[name], Tensor) or made[name].shape != before.shape:
                    raise ConfigError(
                        f"{method}: {name} of layer {layer} should be a tensor of {tuple(before.shape)}, it is "
                        f"{tuple(made[name].shape) if isinstance(made[name], Tensor) else made[name]!r}"
                    )
            return {name: made[name].to(before.device, before.dtype) for name, before in sliced.items()}

        return replace(finished, edit=edit)


def _check_shape(genome: Genome, shape: Architecture) -> None:
    if not genome.fits(shape):
        raise ConfigError(
            f"a genome of {genome.num_layers} layers, {genome.layout.num_kv_heads} KV groups and "
            f"{genome.mlp_mask.shape[1]} channels cannot be finished: the model has {shape.num_layers}, "
            f"{shape.num_kv_heads} and {shape.intermediate_size}"
        )
