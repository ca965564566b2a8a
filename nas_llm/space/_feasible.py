"""Which totals of units a space reaches within the cost constraints, and whether there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, product
from typing import NamedTuple

import numpy as np

from nas_llm.errors import SpaceError
from nas_llm.space._attention import IntArray
from nas_llm.space._constraints import CostConstraints
from nas_llm.space._cost import CostModel
from nas_llm.space._space import SearchSpace


class Totals(NamedTuple):
    """Sums over all layers that obey the constraints: KV groups, and a range of FFN channels (both ends included)."""

    groups: int
    first_channels: int
    last_channels: int


class FeasibleTotals:
    """Finds totals that obey the constraints on costs that are linear in them; so this is exact and quick.

    Args:
        space: Bounds of the layers.
        cost_model: Exact costs of totals.
        constraints: Bounds on the cost; those on predicted times do not count here.
    """

    def __init__(self, space: SearchSpace, cost_model: CostModel, constraints: CostConstraints) -> None:
        self.space = space
        self.cost_model = cost_model
        self._limits = [_whole(cost_model, key, name, bound) for key, name, bound in constraints.linear]
        self._grain = int(np.gcd(space.ffn_multiple, space.architecture.intermediate_size))

    def nearest(self, *, attention_layers: int, ffn_layers: int, groups: int) -> Totals | None:
        """The feasible totals whose KV groups are nearest to ``groups``, given how many sublayers are present."""
        space = self.space
        low, high = (_present(bound, space, attention_layers) for bound in (space.attn_low, space.attn_high))
        totals = np.arange(low, high + 1)
        totals = totals[np.argsort(np.abs(totals - groups), kind="stable")]
        first = np.full(len(totals), _present(space.mlp_low, space, ffn_layers))
        last = np.full(len(totals), _present(space.mlp_high, space, ffn_layers))
        sublayers = {"attention_layers": attention_layers, "ffn_layers": ffn_layers}
        for name, limit, lower in self._limits:
            base, a_group, a_channel = (
                int(self.cost_model.from_counts(groups=g, channels=c, **sublayers).value(name))
                for g, c in ((0, 0), (1, 0), (0, 1))
            )
            room = limit - base - totals * (a_group - base)
            if a_channel == base:
                last = np.where(room >= 0, last, -1)
            elif lower:
                first = np.maximum(first, -(-room // (a_channel - base)))
            else:
                last = np.minimum(last, room // (a_channel - base))
        reached = np.flatnonzero(-(-first // self._grain) * self._grain <= last)
        if not len(reached):
            return None
        index = int(reached[0])
        return Totals(int(totals[index]), int(first[index]), int(last[index]))

    def ffn_range(self, *, ffn_layers: int, **attention: int) -> tuple[int, int] | None:
        """First and last total of FFN channels that obey the constraints; None if the space reaches none of them.

        Args:
            ffn_layers: FFN sublayers that are there.
            attention: The other totals of :meth:`CostModel.from_counts`.
        """
        first = _present(self.space.mlp_low, self.space, ffn_layers)
        last = _present(self.space.mlp_high, self.space, ffn_layers)
        for name, limit, lower in self._limits:
            base, more = (
                int(self.cost_model.from_counts(channels=c, ffn_layers=ffn_layers, **attention).value(name))
                for c in (0, 1)
            )
            if more == base:
                last = last if (base >= limit if lower else base <= limit) else -1
            elif lower:
                first = max(first, -(-(limit - base) // (more - base)))
            else:
                last = min(last, (limit - base) // (more - base))
        return (first, last) if -(-first // self._grain) * self._grain <= last else None

    def nearest_depth(self, *, attention_layers: int, ffn_layers: int, groups: int) -> tuple[int, int] | None:
        """The numbers of present sublayers nearest to the given, allowed ones for which there are feasible totals."""

        def distance(pair: tuple[int, int]) -> tuple[int, int]:
            return abs(pair[0] - attention_layers) + abs(pair[1] - ffn_layers), pair[1]

        here = (attention_layers, ffn_layers)
        for attention, ffn in chain([here], self._depths(distance)):
            if self.nearest(attention_layers=attention, ffn_layers=ffn, groups=groups) is not None:
                return attention, ffn
        return None

    def reachable(self, *, smallest: Mapping[str, int], largest: Mapping[str, int]) -> bool:
        """Whether some totals between two extremes obey the constraints, where units lie inside heads.

        Args:
            smallest: Totals of the smallest genome.
            largest: Totals of the largest.
        """
        step = self.space.head_multiple
        low, high = smallest["qk_channels"], largest["qk_channels"]
        for channels in range(low, high + step, step):
            qk = min(channels, high)
            for attention in {smallest["attention_layers"], largest["attention_layers"]}:
                for ffn in {smallest["ffn_layers"], largest["ffn_layers"]}:
                    totals = {"groups": largest["groups"], "qk_channels": qk, "vo_channels": qk}
                    if self.ffn_range(ffn_layers=ffn, attention_layers=attention, **totals) is not None:
                        return True
        return False

    def _depths(self, distance: Callable[[tuple[int, int]], tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """All numbers of attention and FFN sublayers that the space allows, the nearest first."""
        space, layers = self.space, self.space.architecture.num_layers
        protected = len(space.protected_layers)
        attention = range(max(space.min_attn_layers, protected), layers + 1)
        ffn = range(max(space.min_mlp_layers, protected), layers + 1)
        yield from sorted(product(attention, ffn), key=distance)


def check_feasible(space: SearchSpace, cost_model: CostModel, constraints: CostConstraints) -> None:
    """Refuse constraints that no genome of the space can meet.

    Bounds on predicted times count where the cost model has them, each for itself.

    Raises:
        SpaceError: Names the constraint, its value and the range that the space reaches.
    """
    smallest = cost_model.from_counts(**space.extreme_counts(largest=False))
    largest = cost_model.from_counts(**space.extreme_counts(largest=True))
    for key, name, bound in constraints.linear:
        low, high = smallest.value(name), largest.value(name)
        if bound > high if key == "min_ratio" else bound < low:
            raise _out_of_reach(key, name, bound, low, high)
    for key, name, bound in constraints.timed:
        if cost_model.knows(name):
            low, high = (cost_model(space.extreme_genome(largest=end)).value(name) for end in (False, True))
            if bound < low:
                raise _out_of_reach(key, name, bound, low, high)
    layers = space.architecture.num_layers
    totals = FeasibleTotals(space, cost_model, constraints)
    if space.layout.axes:
        found = totals.reachable(
            smallest=space.extreme_counts(largest=False), largest=space.extreme_counts(largest=True)
        )
    else:
        found = totals.nearest_depth(attention_layers=layers, ffn_layers=layers, groups=0) is not None
    if not found:
        listed = ", ".join(f"{key} = {_number(bound)}" for key, _, bound in constraints.linear)
        raise SpaceError(
            f"the constraints {listed} cannot be met together: no genome of the space obeys all of them; loosen one"
        )


def _out_of_reach(key: str, name: str, bound: float, low: float, high: float) -> SpaceError:
    # The key of a workload's limit names its table.
    where = key if "." in key else f"constraints.{key}"
    return SpaceError(
        f"{where} = {_number(bound)} cannot be met: the space reaches {name} from {_number(low)} to {_number(high)}; "
        f"change the constraint or widen [space]"
    )


def _whole(cost_model: CostModel, key: str, name: str, bound: float) -> tuple[str, int, bool]:
    """A bound as cost name, whole limit and whether it is a lower one; ratios become block parameters."""
    lower = key == "min_ratio"
    if name != "inheriting_ratio":
        return name, int(np.floor(bound)), lower
    dense = cost_model.dense.block_params
    limit = round(bound * dense)
    # Divided exactly as the cost model does, so that no rounding puts a genome on the wrong side.
    while limit / dense > bound:
        limit -= 1
    while (limit + 1) / dense <= bound:
        limit += 1
    return "block_params", limit + (lower and limit / dense < bound), lower


def _present(bound: IntArray, space: SearchSpace, sublayers: int) -> int:
    """Sum of a bound over present layers: the protected ones and any of the others, which are all alike."""
    protected = sorted(space.protected_layers)
    others = np.delete(bound, protected)
    return int(bound[protected].sum() + others[: sublayers - len(protected)].sum())


def _number(value: float) -> str:
    return f"{value:.5g}" if abs(value) < 10 else f"{value:.0f}"
