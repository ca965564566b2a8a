"""``nas-llm export``: points of a front become models on disk."""

from nas_llm.workflow.export._export_points import ExportRefused, export_points
from nas_llm.workflow.export._record import ExportRecord

__all__ = [
    "ExportRecord",
    "ExportRefused",
    "export_points",
]
