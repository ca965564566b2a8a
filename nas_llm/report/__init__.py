"""Figures of a search and the HTML report. Nothing here imports torch."""

from nas_llm.report._architecture import architecture_figure
from nas_llm.report._evaluation import write_evaluation_page
from nas_llm.report._evaluation_columns import EvaluationColumn, evaluation_columns, evaluation_notes
from nas_llm.report._figures import convergence_figure, front_figure
from nas_llm.report._history_row import HistoryRow
from nas_llm.report._html import write_report
from nas_llm.report._page import PAGE

__all__ = [
    "PAGE",
    "EvaluationColumn",
    "HistoryRow",
    "architecture_figure",
    "convergence_figure",
    "evaluation_columns",
    "evaluation_notes",
    "front_figure",
    "write_evaluation_page",
    "write_report",
]
