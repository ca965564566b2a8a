"""Figures of a search and the HTML report. Nothing here imports torch."""

from nas_llm.report._figures import HistoryRow, convergence_figure, front_figure
from nas_llm.report._html import write_report

__all__ = ["HistoryRow", "convergence_figure", "front_figure", "write_report"]
