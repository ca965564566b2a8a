"""The whole way in a few calls: search, open a run, reconstruct and export its points, measure models."""

from nas_llm.evaluation import ModelRow
from nas_llm.finishing import ResidualRow
from nas_llm.front import Front, FrontPoint, load_genome, read_genomes, select_points
from nas_llm.runs import Run, open_run
from nas_llm.session import Prepared, Resources, prepare
from nas_llm.workflow._convert import convert_export
from nas_llm.workflow._posttrain import PosttrainRecord, PosttrainTexts, posttrain_export
from nas_llm.workflow._reconstruct import ReconstructionRecord, reconstruct_points
from nas_llm.workflow._servable import what_is_servable
from nas_llm.workflow._workload import run_workload
from nas_llm.workflow.check import ProblemCheck, check_problem
from nas_llm.workflow.compare import Comparison, compare_models
from nas_llm.workflow.evaluate import evaluate_models, measured_with
from nas_llm.workflow.export import ExportRecord, ExportRefused, export_points
from nas_llm.workflow.search import RunSummary, build_front, run_search

__all__ = [
    "Comparison",
    "ExportRecord",
    "ExportRefused",
    "Front",
    "FrontPoint",
    "ModelRow",
    "PosttrainRecord",
    "PosttrainTexts",
    "Prepared",
    "ProblemCheck",
    "ReconstructionRecord",
    "ResidualRow",
    "Resources",
    "Run",
    "RunSummary",
    "build_front",
    "check_problem",
    "compare_models",
    "convert_export",
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
    "run_workload",
    "select_points",
    "what_is_servable",
]
