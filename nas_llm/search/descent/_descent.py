"""Descent along the budget: the first population of a search, from first-order marginals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from nas_llm.search.descent._allocation import Allocation
from nas_llm.search.operators import GenomeRepair, ImportanceSampling
from nas_llm.settings import DescentDefaults
from nas_llm.space import FloatArray, Genome, IntArray, Marginals, resize_genome

# FFN steps that the first look at a target exchanges.
_FIRST_PAIRS = 8
# Inheriting ratio that is given up between two looks on the way to the next target.
_REDUCTION = 0.035
# Turns of text from one step to the next; looks on the way to a target take those in between.
_TURNS = 7
# KV groups that go together in one proposal.
_GROUPS = (1, 2, 3, 5, 7, 10)
# Layers whose KV groups are tried at a target, the cheapest of the target above; at the first one all are.
_TRIED = 15
# Rounds in which heads lose a step together, and parts of the layers in which that is tried on its own.
_SHIFTS = 3
_PARTS = 4


class MarginalSource(Protocol):
    """Predicts what small changes of a subnet do to its loss."""

    def __call__(self, genome: Genome, turn: int) -> Marginals:
        """Marginals of one subnet on the text of one turn."""


@dataclass(frozen=True, kw_only=True)
class DescentStep:
    """Where a descent stands.

    Attributes:
        target: The inheriting ratio that is being served.
        genome: The best genome there so far.
        quality: Its evaluated quality, smaller = better.
        marginals: Of the genome, averaged over the looks so far.
        pairs: FFN steps that the next look exchanges.
        group_losses: ``L`` floats, what the quality lost when a layer alone gave a KV group; inf = not known.
    """

    target: float
    genome: Genome
    quality: float
    marginals: Marginals
    pairs: int
    group_losses: tuple[float, ...]


class BudgetDescent:
    """Walks from the largest to the smallest target and improves the allocation at each by evaluated moves.

    At every look the marginals of the current genome say, for all layers at once, what one FFN step more or less is
    worth; steps go from where they are worth least to where they are worth most, and stay if that pays. KV groups
    are too large a step for a prediction: half-way through a target, each layer's loss is evaluated with one group
    less, and the cheapest ones leave together, as many as pays once the FFN has got their parameters. With masks
    inside heads, the heads of whole parts of the model lose channels together, at first and half-way, as long as that
    pays; looks give channels back where they are worth most. Units of a layer leave and enter by importance.

    Args:
        repair: Knows space, scores and cost model.
        marginals: Predicts the effect of FFN steps.
        price: Evaluates genomes: smaller = better.
        targets: Inheriting ratios to serve.
        looks: Looks at each target.
    """

    def __init__(
        self,
        repair: GenomeRepair,
        marginals: MarginalSource,
        price: Callable[[Sequence[Genome]], Sequence[float]],
        *,
        targets: Iterable[float],
        looks: int = DescentDefaults.looks,
    ) -> None:
        self._repair = repair
        self._marginals = marginals
        self._price = price
        self._targets = sorted(targets, reverse=True)
        self._looks = looks
        self._anchors = ImportanceSampling(repair)

    @property
    def steps(self) -> int:
        """Steps of a whole walk: at each target an entry, the looks, and a trial of KV groups."""
        return len(self._targets) * (self._looks + 2)

    def run(
        self, done: Sequence[DescentStep] = (), *, on_step: Callable[[DescentStep], None] = lambda step: None
    ) -> list[DescentStep]:
        """Walk all the way.

        Args:
            done: Steps of an earlier, broken walk: it goes on after the last of them.
            on_step: Called with each further step as soon as it is done.

        Returns:
            All steps; the last one of a target holds its best genome.
        """
        walked = list(done)
        while len(walked) < self.steps:
            turn = len(walked)
            target = self._targets[turn // (self._looks + 2)]
            place = turn % (self._looks + 2)
            if place == 0:
                step = self._enter(target, walked)
            elif place == 1 + (self._looks + 1) // 2:
                step = self._try_groups(walked[-1])
                step = self._shifted_heads(step, undo=True)
            else:
                step = self._look(walked[-1], turn)
            walked.append(step)
            on_step(step)
        return walked

    def _enter(self, target: float, walked: Sequence[DescentStep]) -> DescentStep:
        """The first genome of a target: from the one above with the cheapest steps removed, or uniform."""
        turn = len(walked) * _TURNS
        if walked:
            losses = walked[-1].group_losses
            genome, marginals = self._reduced(walked[-1], target, turn)
        else:
            genome = self._repair(self._anchors.anchor(target), rng=np.random.default_rng(0))
            marginals, losses = self._marginals(genome, turn), (np.inf,) * genome.num_layers
        step = DescentStep(
            target=target,
            genome=genome,
            quality=self._price([genome])[0],
            marginals=marginals,
            pairs=_FIRST_PAIRS,
            group_losses=losses,
        )
        return self._shifted_heads(step)

    def _reduced(self, step: DescentStep, target: float, turn: int) -> tuple[Genome, Marginals]:
        genome, marginals = step.genome, step.marginals
        ratio = self._repair.cost_model(genome).inheriting_ratio
        looks = max(1, round((ratio - target) / _REDUCTION))
        for look in range(1, looks + 1):
            marginals = _averaged(marginals, self._marginals(genome, turn + look))
            allocation = self._allocation(genome, marginals)
            allocation.meet(ratio + (target - ratio) * look / looks)
            allocation.exchange(step.pairs)
            genome = self._genome(genome, allocation)
        return self._repair(genome, rng=np.random.default_rng(turn)), marginals

    def _shifted_heads(self, step: DescentStep, *, undo: bool = False) -> DescentStep:
        """Let heads lose steps, round by round, as long as it pays."""
        for _ in range(_SHIFTS if step.genome.layout.axes else 0):
            shifted = self._shift_heads(step, undo=undo)
            if shifted.genome == step.genome:
                break
            step = shifted
        return step

    def _shift_heads(self, step: DescentStep, *, undo: bool) -> DescentStep:
        """Let heads lose a step of one kind in a quarter of the layers, or in all quarters that this pays for.

        Args:
            step: Where the descent stands; the FFN takes what the heads give.
            undo: Whether to try as well that all heads get a step of one kind back.
        """
        kinds, layers = range(len(step.genome.layout.axes)), np.arange(step.genome.num_layers)
        parts = [part for part in np.array_split(layers, _PARTS) if len(part)]
        shifts = [[(kind, part, -1)] for kind in kinds for part in parts]
        shifts += [[(kind, layers, 1)] for kind in kinds] if undo else []
        found = step
        paying = []
        for shift, child in zip(shifts, self._shifted(step, shifts), strict=True):
            if child.quality < step.quality:
                paying += shift if shift[0][-1] < 0 else []
                found = min(found, child, key=lambda one: one.quality)
        if len(paying) > 1:
            found = min(found, *self._shifted(step, [paying]), key=lambda one: one.quality)
        return found

    def _shifted(self, step: DescentStep, shifts: Sequence[Sequence[tuple[int, IntArray, int]]]) -> list[DescentStep]:
        """The step after each of some shifts: kinds of units, layers and sign."""
        children = []
        for shift in shifts:
            allocation = self._allocation_of(step)
            for kind, layers, sign in shift:
                allocation.shift(kind, layers.tolist(), sign)
            children.append(self._met(step, allocation))
        return [
            replace(step, genome=child, quality=float(value))
            for child, value in zip(children, self._price(children), strict=True)
        ]

    def _look(self, step: DescentStep, turn: int) -> DescentStep:
        """Exchange FFN steps, or let FFNs pay for channels of heads; half as many next time if neither paid."""
        marginals = _averaged(step.marginals, self._marginals(step.genome, turn * _TURNS))
        children: dict[str, Genome] = {}
        for heads in (False, True) if step.genome.layout.axes else (False,):
            allocation = self._allocation(step.genome, marginals)
            allocation.exchange(step.pairs, heads=heads)
            child = self._met(step, allocation)
            children[child.digest()] = child
        children.pop(step.genome.digest(), None)
        genome, quality = step.genome, step.quality
        for child, value in zip(children.values(), self._priced(list(children.values())), strict=True):
            if value < quality:
                genome, quality = child, float(value)
        pairs = step.pairs if quality < step.quality else max(1, step.pairs // 2)
        return replace(step, genome=genome, quality=quality, marginals=marginals, pairs=pairs)

    def _priced(self, genomes: Sequence[Genome]) -> Sequence[float]:
        return self._price(genomes) if genomes else []

    def _try_groups(self, step: DescentStep) -> DescentStep:
        """Let the KV groups go that are missed less than the FFN steps that they pay for are worth."""
        losses = list(step.group_losses)
        start = self._allocation_of(step)
        candidates = sorted(filter(start.may_lose_group, range(step.genome.num_layers)), key=losses.__getitem__)
        if np.isfinite(losses).any():
            candidates = candidates[:_TRIED]
        if not candidates:
            return step
        priced = self._price([self._without_group(step, layer) for layer in candidates])
        for layer, value in zip(candidates, priced, strict=True):
            losses[layer] = float(value) - step.quality
        candidates.sort(key=losses.__getitem__)
        proposals: dict[str, Genome] = {}
        for count in _GROUPS:
            if count <= len(candidates):
                allocation = self._allocation_of(step)
                allocation.remove_groups(candidates[:count])
                child = self._met(step, allocation)
                proposals[child.digest()] = child
        genome, quality = step.genome, step.quality
        children = list(proposals.values())
        for child, value in zip(children, self._price(children), strict=True):
            if value < quality:
                genome, quality = child, float(value)
        return replace(step, genome=genome, quality=quality, group_losses=tuple(losses))

    def _without_group(self, step: DescentStep, layer: int) -> Genome:
        allocation = self._allocation_of(step)
        allocation.remove_groups([layer])
        return self._genome(step.genome, allocation)

    def _met(self, step: DescentStep, allocation: Allocation) -> Genome:
        """The genome of an allocation, at the target."""
        allocation.meet(step.target)
        return self._repair(self._genome(step.genome, allocation), rng=np.random.default_rng(0))

    def _allocation_of(self, step: DescentStep) -> Allocation:
        return self._allocation(step.genome, step.marginals)

    def _allocation(self, genome: Genome, marginals: Marginals) -> Allocation:
        return Allocation(self._repair.space, self._repair.cost_model, genome, marginals)

    def _genome(self, genome: Genome, allocation: Allocation) -> Genome:
        """The genome with other counts; its units by importance, so nothing is drawn."""
        return resize_genome(
            genome,
            kv_groups=allocation.groups,
            head_widths=allocation.counts.widths,
            ffn_channels=allocation.channels,
            scores=self._repair.scores,
            temperature=0.0,
            rng=np.random.default_rng(0),
        )


def descent_effort(
    targets: Iterable[float], *, layers: int, looks: int, axes: int = 0, groups: bool = True
) -> tuple[int, int]:
    """What a walk takes at most: its looks, on the way to a target and at it, and its evaluated candidates.

    Args:
        targets: Inheriting ratios to serve.
        layers: L of the model.
        looks: Looks at each target.
        axes: Kinds of units inside heads that have counts of their own.
        groups: Whether KV groups may go.
    """
    served = sorted(targets, reverse=True)
    if not served or not looks:
        return 0, 0
    ways = sum(max(1, round((above - below) / _REDUCTION)) for above, below in pairwise(served))
    trials = (layers + (len(served) - 1) * min(layers, _TRIED)) if groups else 0
    trials += len(served) * len(_GROUPS) if groups else 0
    if axes:
        # Every part and what pays together, at first and half-way; there also back.
        trials += len(served) * _SHIFTS * (2 * (axes * min(_PARTS, layers) + 1) + axes)
    return 1 + ways + len(served) * looks, trials + len(served) * (1 + looks * (1 + (axes > 0)))


def _averaged(before: Marginals, now: Marginals) -> Marginals:
    """Half of the new look, half of those before: a genome moves little between them, and text is noisy."""

    def mean(old: FloatArray, new: FloatArray) -> FloatArray:
        return np.where(np.isnan(old) | np.isnan(new), new, (old + new) / 2)

    return Marginals(
        mlp_less=mean(before.mlp_less, now.mlp_less),
        mlp_more=mean(before.mlp_more, now.mlp_more),
        step=now.step,
        heads_more=tuple(map(mean, before.heads_more, now.heads_more)),
        head_step=now.head_step,
    )
