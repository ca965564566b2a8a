"""Which costs a space reaches within its constraints, from totals alone."""

from __future__ import annotations

from collections.abc import Callable

from nas_llm.space import Cost, CostConstraints, CostModel, SearchSpace

_HALVINGS = 40


def cost_window(space: SearchSpace, cost_model: CostModel, constraints: CostConstraints) -> tuple[Cost, Cost]:
    """The costs of about the smallest and the largest genome that obey the constraints.

    They lie on the straight line of totals from the space's smallest genome to its largest, on which all sublayers grow
    alike; whether layers of whole units make up just these totals is not asked.

    Args:
        space: Bounds of the layers.
        cost_model: Costs of totals.
        constraints: Bounds on the cost, which some genome of the space can meet.
    """
    smallest, largest = space.extreme_counts(largest=False), space.extreme_counts(largest=True)

    def at(share: float) -> Cost:
        return cost_model.from_counts(
            **{name: round(low + share * (largest[name] - low)) for name, low in smallest.items()}
        )

    def large_enough(share: float) -> bool:
        cost = at(share)
        return all(cost.value(name) >= bound for key, name, bound in constraints.bounds if key == "min_ratio")

    def small_enough(share: float) -> bool:
        cost = at(share)
        return all(cost.value(name) <= bound for key, name, bound in constraints.bounds if key != "min_ratio")

    lowest = 0.0 if large_enough(0.0) else _edge(large_enough)[1]
    highest = 1.0 if small_enough(1.0) else _edge(lambda share: not small_enough(share))[0]
    return at(lowest), at(max(lowest, highest))


def _edge(holds: Callable[[float], bool]) -> tuple[float, float]:
    """Where something that does not hold at 0 and holds at 1 begins to: shares just before and just behind it."""
    before, behind = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (before + behind) / 2
        if holds(middle):
            behind = middle
        else:
            before = middle
    return before, behind
