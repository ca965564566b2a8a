"""The paper's evolution: one objective, a window of cost, a fixed schedule of children (Shen et al., section 3.3)."""

from nas_llm.search.engine.paper._evolution import PaperEvolution
from nas_llm.search.engine.paper._initial import InitialPopulation
from nas_llm.search.engine.paper._schedule import PaperSchedule, check_window, paper_schedule

__all__ = ["InitialPopulation", "PaperEvolution", "PaperSchedule", "check_window", "paper_schedule"]
