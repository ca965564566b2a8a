"""What commands share: console, progress, tables, options."""

from nas_llm.cli.terminal._console import fail, line, output, progress_output
from nas_llm.cli.terminal._counts import parse_count
from nas_llm.cli.terminal._interrupt import StopOnInterrupt
from nas_llm.cli.terminal._options import (
    FinishMemoryOption,
    MaxMacsOption,
    MaxParamsOption,
    MaxRatioOption,
    MethodOption,
    MinRatioOption,
    PointOption,
    RunArgument,
    SamplesOption,
)
from nas_llm.cli.terminal._progress import progress
from nas_llm.cli.terminal._reconstruction_tables import reconstruction_table, residual_table
from nas_llm.cli.terminal._run_directory import (
    default_run_directory,
    find_run,
    is_run,
    prepare_run_directory,
    run_or_model,
)
from nas_llm.cli.terminal._tables import export_table, front_table, model_table, study_table

__all__ = [
    "FinishMemoryOption",
    "MaxMacsOption",
    "MaxParamsOption",
    "MaxRatioOption",
    "MethodOption",
    "MinRatioOption",
    "PointOption",
    "RunArgument",
    "SamplesOption",
    "StopOnInterrupt",
    "default_run_directory",
    "export_table",
    "fail",
    "find_run",
    "front_table",
    "is_run",
    "line",
    "model_table",
    "output",
    "parse_count",
    "prepare_run_directory",
    "progress",
    "progress_output",
    "reconstruction_table",
    "residual_table",
    "run_or_model",
    "study_table",
]
