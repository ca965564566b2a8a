"""The descent along the budget that a search may begin with."""

from nas_llm.search.descent._descent import BudgetDescent, DescentStep, MarginalSource, descent_effort

__all__ = [
    "BudgetDescent",
    "DescentStep",
    "MarginalSource",
    "descent_effort",
]
