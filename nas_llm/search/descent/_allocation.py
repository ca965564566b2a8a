"""Units per layer that move under a budget, guided by first-order marginals."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nas_llm.space import CostModel, Genome, Marginals, SearchSpace

# First-order marginals hold for one step; the next one in the same layer gains less, or costs more.
_NEXT_GAIN = 0.6
_NEXT_LOSS = 1.6
# Steps that one FFN takes in one exchange; a new budget may take more.
_EXCHANGED = 2
_MET = 4
_ANY = 1_000_000


class Allocation:
    """Counts of one genome, to be changed; the space's bounds hold after each change, sublayers stay.

    Args:
        space: Bounds and alignment.
        cost_model: Costs of units, by decoder-block parameters.
        genome: Where the counts start.
        marginals: Of this genome.

    Attributes:
        groups: ``L`` KV groups.
        channels: ``L`` FFN channels.
    """

    def __init__(self, space: SearchSpace, cost_model: CostModel, genome: Genome, marginals: Marginals) -> None:
        self.groups = genome.kv_groups.copy()
        self.channels = genome.ffn_channels.copy()
        self._space = space
        self._model = cost_model
        self._marginals = marginals
        # Steps that each FFN has moved by so far, + up, - down.
        self._moved = np.zeros(len(self.channels), dtype=np.int64)
        self._step_cost = marginals.step * cost_model.params_per_ffn_channel

    @property
    def params(self) -> int:
        """Decoder-block parameters."""
        return self._model.from_counts(
            groups=int(self.groups.sum()),
            channels=int(self.channels.sum()),
            attention_layers=int(np.count_nonzero(self.groups)),
            ffn_layers=int(np.count_nonzero(self.channels)),
        ).block_params

    def exchange(self, pairs: int) -> None:
        """Move up to so many FFN steps from where they are worth least to where they are worth most."""
        for _ in range(pairs):
            more, less = self._best(1, _EXCHANGED), self._best(-1, _EXCHANGED)
            if more is None or less is None or more[0] + less[0] >= 0.0:
                return
            self._move(more[1], 1)
            self._move(less[1], -1)

    def remove_groups(self, layers: Iterable[int]) -> None:
        """Take one KV group out of each of these layers, as far as the space allows."""
        for layer in layers:
            if self.may_lose_group(layer):
                self.groups[layer] -= 1

    def meet(self, ratio: float) -> None:
        """Add or remove FFN steps until the inheriting ratio lies less than a step below ``ratio``, if it can."""
        budget = ratio * self._model.dense.block_params
        # Moves that were made so far are undone only where nothing else is left.
        for limit, undo in ((_MET, False), (_ANY, True)):
            while self.params > budget and (less := self._best(-1, limit, undo=undo)) is not None:
                self._move(less[1], -1)
            while self.params + self._step_cost <= budget and (more := self._best(1, limit, undo=undo)) is not None:
                self._move(more[1], 1)

    def may_lose_group(self, layer: int) -> bool:
        """Whether a layer may have one KV group less."""
        count, space = int(self.groups[layer]), self._space
        if count > space.attn_low[layer]:
            return True
        present = int(np.count_nonzero(self.groups))
        return count == 1 and space.removable(layer) and present > space.min_attn_layers

    def _best(self, sign: int, limit: int, *, undo: bool = False) -> tuple[float, int] | None:
        """The predicted change of the loss and the layer of the FFN step that pays most, or costs least.

        Args:
            sign: +1 adds a step, -1 removes one.
            limit: Steps that one layer may take.
            undo: Whether layers that have moved the other way may move back.
        """
        values = self._marginals.mlp_more if sign > 0 else self._marginals.mlp_less
        best: tuple[float, int] | None = None
        for layer, value in enumerate(values.tolist()):
            moved = int(self._moved[layer]) * sign
            moved = max(moved, 0) if undo else moved
            if np.isnan(value) or not 0 <= moved < limit or self._next(layer, sign) is None:
                continue
            change = value * (_NEXT_GAIN if value < 0.0 else _NEXT_LOSS) ** moved
            if best is None or change < best[0]:
                best = (change, layer)
        return best

    def _next(self, layer: int, sign: int) -> int | None:
        """The count one step further, None if the space does not allow a whole step."""
        count = int(self.channels[layer])
        wanted = count + sign * self._marginals.step
        return wanted if count and self._space.align_ffn(layer, wanted) == wanted else None

    def _move(self, layer: int, sign: int) -> None:
        self.channels[layer] += sign * self._marginals.step
        self._moved[layer] += sign
