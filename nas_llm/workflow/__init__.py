"""The whole way in a few calls: search, open a run, reconstruct and export its points, measure models."""

from nas_llm.workflow._evaluate import evaluate_models, measured_with
from nas_llm.workflow._export import ExportRefused, export_points
from nas_llm.workflow._genomes import load_genome, read_genomes
from nas_llm.workflow._posttrain import PosttrainTexts, posttrain_export
from nas_llm.workflow._prepare import Prepared, prepare
from nas_llm.workflow._reconstruct import reconstruct_points
from nas_llm.workflow._resources import Resources
from nas_llm.workflow._run_files import open_run
from nas_llm.workflow._search import build_front, run_search
from nas_llm.workflow._select import select_points
from nas_llm.workflow._servable import what_is_servable
from nas_llm.workflow._types import (
    ExportRecord,
    Front,
    FrontPoint,
    ModelRow,
    PosttrainRecord,
    ReconstructionRecord,
    ResidualRow,
    Run,
    RunSummary,
)

__all__ = [
    "ExportRecord",
    "ExportRefused",
    "Front",
    "FrontPoint",
    "ModelRow",
    "PosttrainRecord",
    "PosttrainTexts",
    "Prepared",
    "ReconstructionRecord",
    "ResidualRow",
    "Resources",
    "Run",
    "RunSummary",
    "build_front",
    "evaluate_models",
    "export_points",
    "load_genome",
    "measured_with",
    "open_run",
    "posttrain_export",
    "prepare",
    "read_genomes",
    "reconstruct_points",
    "run_search",
    "select_points",
    "what_is_servable",
]
