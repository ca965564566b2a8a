"""What commands share: console, progress, tables, options, what they do to their process.

Tables and progress load rich, and are fetched when they are asked for: ``nas-llm --help`` needs neither.
"""

from typing import TYPE_CHECKING, Any

from nas_llm.cli.terminal._console import fail, line, output, progress_output
from nas_llm.cli.terminal._counts import parse_count, parse_size, parse_windows
from nas_llm.cli.terminal._interrupt import INTERRUPTED, StopOnInterrupt, terminate_as_interrupt
from nas_llm.cli.terminal._options import (
    Arithmetic,
    ArithmeticOption,
    DeviceOption,
    FinishMemoryOption,
    IncludePathOption,
    JsonOption,
    LimitOption,
    MaxMacsOption,
    MaxParamsOption,
    MaxRatioOption,
    MethodOption,
    MinRatioOption,
    ModelOption,
    PadOption,
    PointOption,
    RunArgument,
    SamplesOption,
    WindowsOption,
    WorkloadOption,
)
from nas_llm.cli.terminal._process import keep_memory, quiet_libraries, quiet_optuna
from nas_llm.cli.terminal._run_directory import prepare_run_directory

if TYPE_CHECKING:
    from nas_llm.cli.terminal._check_table import check_notes, check_table
    from nas_llm.cli.terminal._comparison_table import comparison_notes, comparison_table, task_table
    from nas_llm.cli.terminal._progress import progress
    from nas_llm.cli.terminal._reconstruction_tables import reconstruction_table, residual_table
    from nas_llm.cli.terminal._tables import (
        belief_table,
        export_table,
        families_table,
        front_table,
        model_table,
        servable_table,
        study_table,
    )

__all__ = [
    "INTERRUPTED",
    "Arithmetic",
    "ArithmeticOption",
    "DeviceOption",
    "FinishMemoryOption",
    "IncludePathOption",
    "JsonOption",
    "LimitOption",
    "MaxMacsOption",
    "MaxParamsOption",
    "MaxRatioOption",
    "MethodOption",
    "MinRatioOption",
    "ModelOption",
    "PadOption",
    "PointOption",
    "RunArgument",
    "SamplesOption",
    "StopOnInterrupt",
    "WindowsOption",
    "WorkloadOption",
    "belief_table",
    "check_notes",
    "check_table",
    "comparison_notes",
    "comparison_table",
    "export_table",
    "fail",
    "families_table",
    "front_table",
    "keep_memory",
    "line",
    "model_table",
    "output",
    "parse_count",
    "parse_size",
    "parse_windows",
    "prepare_run_directory",
    "progress",
    "progress_output",
    "quiet_libraries",
    "quiet_optuna",
    "reconstruction_table",
    "residual_table",
    "servable_table",
    "study_table",
    "task_table",
    "terminate_as_interrupt",
]


_TABLES = (
    "belief_table",
    "export_table",
    "families_table",
    "front_table",
    "model_table",
    "servable_table",
    "study_table",
)


def __getattr__(name: str) -> Any:
    """Fetch what loads rich when it is asked for."""
    if name == "progress":
        from nas_llm.cli.terminal._progress import progress

        return progress
    if name in ("check_notes", "check_table"):
        from nas_llm.cli.terminal import _check_table

        return getattr(_check_table, name)
    if name in ("comparison_notes", "comparison_table", "task_table"):
        from nas_llm.cli.terminal import _comparison_table

        return getattr(_comparison_table, name)
    if name in ("reconstruction_table", "residual_table"):
        from nas_llm.cli.terminal import _reconstruction_tables

        return getattr(_reconstruction_tables, name)
    if name in _TABLES:
        from nas_llm.cli.terminal import _tables

        return getattr(_tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
