"""Units per layer that move under a budget, guided by first-order marginals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nas_llm.space import CostModel, FloatArray, Genome, IntArray, Marginals, SearchSpace

# First-order marginals hold for one step; the next one in the same layer gains less, or costs more.
_NEXT_GAIN = 0.6
_NEXT_LOSS = 1.6
# Steps that one FFN takes in one exchange; a new budget may take more.
_EXCHANGED = 2
_MET = 4
_ANY = 1_000_000


@dataclass(eq=False)
class _Kind:
    """Steps of one kind of unit.

    Attributes:
        counts: ``L`` counts, changed in place.
        less: ``L`` predicted changes of the loss by a step less; nan where there is none.
        more: The same for a step more.
        step: Units of a step.
        costs: ``L`` decoder-block parameters of a step.
        align: The allowed count of a layer that is nearest to a wanted one.
        moved: ``L`` steps so far, + up, - down.
    """

    counts: IntArray
    less: FloatArray
    more: FloatArray
    step: int
    costs: IntArray
    align: Callable[[int, float], int]
    moved: IntArray


class _Step(NamedTuple):
    """A step that could be made, and the predicted change of the loss for the cost of an FFN step."""

    change: float
    kind: _Kind
    layer: int


class Allocation:
    """Counts of one genome, to be changed; the space's bounds hold after each change, sublayers stay.

    Args:
        space: Bounds and alignment.
        cost_model: Costs of units, by decoder-block parameters.
        genome: Where the counts start.
        marginals: Of this genome.

    Attributes:
        counts: The counts of all layers.
    """

    def __init__(self, space: SearchSpace, cost_model: CostModel, genome: Genome, marginals: Marginals) -> None:
        self.counts = genome.counts.copy()
        self._space = space
        self._model = cost_model
        layers = genome.num_layers

        def nothing_moved() -> IntArray:
            return np.zeros(layers, dtype=np.int64)

        self._step_cost = marginals.step * cost_model.params_per_ffn_channel
        costs = np.full(layers, self._step_cost)
        ffn = _Kind(
            self.counts.channels,
            marginals.mlp_less,
            marginals.mlp_more,
            marginals.step,
            costs,
            space.align_ffn,
            nothing_moved(),
        )
        self._kinds = [ffn]
        per_channel = {"qk": cost_model.params_per_qk_channel, "vo": cost_model.params_per_vo_channel}
        per_channel["head"] = sum(per_channel.values())
        for axis, widths, more in zip(space.layout.axes, self.counts.widths, marginals.heads_more, strict=True):
            costs = self.counts.groups * marginals.head_step * per_channel[axis.name]
            # What leaves heads is tried (see :class:`BudgetDescent`): first-order losses say little of channels of q
            # and k, and those of v that are left are worth more than the ones that went.
            less = np.full(layers, np.nan)
            self._kinds.append(_Kind(widths, less, more, marginals.head_step, costs, space.align_head, nothing_moved()))

    @property
    def groups(self) -> IntArray:
        """``L`` KV groups."""
        return self.counts.groups

    @property
    def channels(self) -> IntArray:
        """``L`` FFN channels."""
        return self.counts.channels

    @property
    def params(self) -> int:
        """Decoder-block parameters."""
        return self._model.from_counts(**self.counts.totals).block_params

    def exchange(self, pairs: int, *, heads: bool = False) -> None:
        """Move up to so many steps from where they are worth least to where they are worth most.

        Args:
            pairs: Most steps.
            heads: Whether heads may get channels that FFNs pay for; first-order gains promise too much there, so that
                next to them no other exchange would be made.
        """
        for _ in range(pairs):
            more, less = self._best(1, _EXCHANGED, heads=heads), self._best(-1, _EXCHANGED)
            if more is None or less is None or more.change + less.change >= 0.0:
                return
            self._move(more, 1)
            self._move(less, -1)

    def remove_groups(self, layers: Iterable[int]) -> None:
        """Take one KV group out of each of these layers, as far as the space allows."""
        for layer in layers:
            if self.may_lose_group(layer):
                self.groups[layer] -= 1

    def meet(self, ratio: float) -> None:
        """Add or remove steps until the inheriting ratio lies less than a step below ``ratio``, if it can."""
        budget = ratio * self._model.dense.block_params
        # Moves that were made so far are undone only where nothing else is left.
        for limit, undo in ((_MET, False), (_ANY, True)):
            while self.params > budget and (less := self._best(-1, limit, undo=undo)) is not None:
                self._move(less, -1)
            while (more := self._best(1, limit, undo=undo, room=budget - self.params)) is not None:
                self._move(more, 1)

    def shift(self, kind: int, layers: Iterable[int], sign: int) -> None:
        """Move the heads of layers by a step, as far as the space allows.

        Args:
            kind: Place of the kind of unit inside heads.
            layers: The layers.
            sign: +1 = more channels, -1 = fewer.
        """
        units = self._kinds[1 + kind]
        for layer in layers:
            if self._next(units, layer, sign) is not None:
                self._move(_Step(0.0, units, layer), sign)

    def may_lose_group(self, layer: int) -> bool:
        """Whether a layer may have one KV group less."""
        count, space = int(self.groups[layer]), self._space
        if count > space.attn_low[layer]:
            return True
        present = int(np.count_nonzero(self.groups))
        return count == 1 and space.removable(layer) and present > space.min_attn_layers

    def _best(
        self, sign: int, limit: int, *, undo: bool = False, room: float = np.inf, heads: bool = False
    ) -> _Step | None:
        """The step that pays most for its cost, or costs least.

        Args:
            sign: +1 adds a step, -1 removes one.
            limit: Steps of a kind that one layer may take.
            undo: Whether layers that have moved the other way may move back.
            room: Most parameters of the step.
            heads: Whether it may be one of heads.
        """
        best: _Step | None = None
        for kind in self._kinds if heads else self._kinds[:1]:
            for layer, value in enumerate((kind.more if sign > 0 else kind.less).tolist()):
                moved = int(kind.moved[layer]) * sign
                moved = max(moved, 0) if undo else moved
                if np.isnan(value) or not 0 <= moved < limit or kind.costs[layer] > room:
                    continue
                if self._next(kind, layer, sign) is None:
                    continue
                change = value * (_NEXT_GAIN if value < 0.0 else _NEXT_LOSS) ** moved
                change *= self._step_cost / kind.costs[layer]
                if best is None or change < best.change:
                    best = _Step(change, kind, layer)
        return best

    def _next(self, kind: _Kind, layer: int, sign: int) -> int | None:
        """The count one step further, None if the space does not allow a whole step."""
        count = int(kind.counts[layer])
        wanted = count + sign * kind.step
        return wanted if count and kind.align(layer, wanted) == wanted else None

    def _move(self, step: _Step, sign: int) -> None:
        step.kind.counts[step.layer] += sign * step.kind.step
        step.kind.moved[step.layer] += sign
