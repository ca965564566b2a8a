"""Which costs a space reaches within its constraints, from totals alone."""

from __future__ import annotations

from collections.abc import Callable

from nas_llm.space import Cost, CostConstraints, CostModel, SearchSpace

_HALVINGS = 40


def cost_window(space: SearchSpace, cost_model: CostModel, constraints: CostConstraints) -> tuple[Cost, Cost]:
    """The costs of about the smallest and the largest genome that obey the constraints.

    They lie near the straight line of totals from the space's smallest genome to its largest, on which all sublayers
    grow alike; whether layers of whole units make up just these totals is not asked.

    Args:
        space: Bounds of the layers.
        cost_model: Costs of totals.
        constraints: Bounds on the cost, which some genome of the space can meet; those on predicted times do not count.
    """
    smallest, largest = space.extreme_counts(largest=False), space.extreme_counts(largest=True)
    # The total of the smallest units takes up what rounding of the others leaves.
    finest = max(smallest, key=lambda name: largest[name] - smallest[name])

    def counts(share: float) -> dict[str, int]:
        return {name: round(low + share * (largest[name] - low)) for name, low in smallest.items()}

    def obeys(totals: dict[str, int], *, floor: bool) -> bool:
        cost = cost_model.from_counts(**totals)
        for key, name, bound in constraints.linear:
            if (key == "min_ratio") == floor and (cost.value(name) < bound if floor else cost.value(name) > bound):
                return False
        return True

    low, high = smallest, largest
    if not obeys(low, floor=True):
        low = counts(_edge(lambda share: obeys(counts(share), floor=True)))
        low = _finest(low, finest, smallest[finest], lambda totals: obeys(totals, floor=True))
    if not obeys(high, floor=False):
        high = counts(_edge(lambda share: not obeys(counts(share), floor=False)))
        high = _finest(high, finest, smallest[finest], lambda totals: not obeys(totals, floor=False))
        high = {**high, finest: max(high[finest] - 1, smallest[finest])}
    found = cost_model.from_counts(**low), cost_model.from_counts(**high)
    return found[0], max(found, key=lambda cost: cost.block_params)


def _edge(holds: Callable[[float], bool]) -> float:
    """The first share at which something holds that does not hold at 0 and does at 1."""
    before, behind = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (before + behind) / 2
        if holds(middle):
            behind = middle
        else:
            before = middle
    return behind


def _finest(totals: dict[str, int], name: str, least: int, holds: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """Totals with the fewest units of one kind at which something holds that holds for the totals given."""
    before, behind = least - 1, totals[name]
    while behind - before > 1:
        middle = (before + behind) // 2
        if holds({**totals, name: middle}):
            behind = middle
        else:
            before = middle
    return {**totals, name: behind}
