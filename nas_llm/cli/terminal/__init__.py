"""What commands share: console, progress, tables, options, what they do to their process.

Tables and progress load rich, and are fetched when they are asked for: ``nas-llm --help`` needs neither.
"""

from typing import TYPE_CHECKING, Any

from nas_llm.cli.terminal._console import fail, line, output, progress_output
from nas_llm.cli.terminal._counts import parse_count, parse_size
from nas_llm.cli.terminal._interrupt import INTERRUPTED, StopOnInterrupt, terminate_as_interrupt
from nas_llm.cli.terminal._options import (
    FinishMemoryOption,
    MaxMacsOption,
    MaxParamsOption,
    MaxRatioOption,
    MethodOption,
    MinRatioOption,
    ModelOption,
    PadHeadsOption,
    PointOption,
    RunArgument,
    SamplesOption,
    WorkloadOption,
)
from nas_llm.cli.terminal._process import keep_memory, quiet_libraries, quiet_optuna
from nas_llm.cli.terminal._run_directory import prepare_run_directory

if TYPE_CHECKING:
    from nas_llm.cli.terminal._check_table import check_notes, check_table
    from nas_llm.cli.terminal._progress import progress
    from nas_llm.cli.terminal._reconstruction_tables import reconstruction_table, residual_table
    from nas_llm.cli.terminal._tables import export_table, front_table, model_table, servable_table, study_table

__all__ = [
    "INTERRUPTED",
    "FinishMemoryOption",
    "MaxMacsOption",
    "MaxParamsOption",
    "MaxRatioOption",
    "MethodOption",
    "MinRatioOption",
    "ModelOption",
    "PadHeadsOption",
    "PointOption",
    "RunArgument",
    "SamplesOption",
    "StopOnInterrupt",
    "WorkloadOption",
    "check_notes",
    "check_table",
    "export_table",
    "fail",
    "front_table",
    "keep_memory",
    "line",
    "model_table",
    "output",
    "parse_count",
    "parse_size",
    "prepare_run_directory",
    "progress",
    "progress_output",
    "quiet_libraries",
    "quiet_optuna",
    "reconstruction_table",
    "residual_table",
    "servable_table",
    "study_table",
    "terminate_as_interrupt",
]


def __getattr__(name: str) -> Any:
    """Fetch what loads rich when it is asked for."""
    if name == "progress":
        from nas_llm.cli.terminal._progress import progress

        return progress
    if name in ("check_notes", "check_table"):
        from nas_llm.cli.terminal import _check_table

        return getattr(_check_table, name)
    if name in ("reconstruction_table", "residual_table"):
        from nas_llm.cli.terminal import _reconstruction_tables

        return getattr(_reconstruction_tables, name)
    if name in ("export_table", "front_table", "model_table", "servable_table", "study_table"):
        from nas_llm.cli.terminal import _tables

        return getattr(_tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
