"""Figures of a search and the HTML report. Nothing here imports torch."""

from nas_llm.report._architecture import architecture_figure
from nas_llm.report._figures import HistoryRow, convergence_figure, front_figure
from nas_llm.report._html import write_report
from nas_llm.report._page import PAGE

__all__ = ["PAGE", "HistoryRow", "architecture_figure", "convergence_figure", "front_figure", "write_report"]
