"""Problem definitions: pydantic models read from TOML."""

from nas_llm.config._dump import dump_problem
from nas_llm.config._load import LoadedProblem, load_problem, override_problem, read_toml
from nas_llm.config._messages import faults
from nas_llm.config._objectives import COST_OBJECTIVES, QUALITY_OBJECTIVES, load_objectives
from nas_llm.config._overrides import apply_override, parse_override
from nas_llm.config._packaged import PackagedProblem, list_problems, problems_directory
from nas_llm.config._plugins import check_operator_names, import_plugins, load_plugins, named_operators, references
from nas_llm.config._problem import (
    Bounds,
    CalibrationSection,
    ConstraintSection,
    DataSection,
    FitnessSection,
    FrontSection,
    LatencySection,
    ModelSection,
    Objective,
    OffTextSection,
    OperatorEntry,
    OperatorSection,
    Problem,
    ReconstructionSection,
    SearchSection,
    SelfSampleSection,
    SpaceSection,
    SplitSection,
)
from nas_llm.config._questions import QuestionSection
from nas_llm.config._source import SourceSection
from nas_llm.config._template import template_fields
from nas_llm.config._workload import WorkloadSection, find_workload

__all__ = [
    "COST_OBJECTIVES",
    "QUALITY_OBJECTIVES",
    "Bounds",
    "CalibrationSection",
    "ConstraintSection",
    "DataSection",
    "FitnessSection",
    "FrontSection",
    "LatencySection",
    "LoadedProblem",
    "ModelSection",
    "Objective",
    "OffTextSection",
    "OperatorEntry",
    "OperatorSection",
    "PackagedProblem",
    "Problem",
    "QuestionSection",
    "ReconstructionSection",
    "SearchSection",
    "SelfSampleSection",
    "SourceSection",
    "SpaceSection",
    "SplitSection",
    "WorkloadSection",
    "apply_override",
    "check_operator_names",
    "dump_problem",
    "faults",
    "find_workload",
    "import_plugins",
    "list_problems",
    "load_objectives",
    "load_plugins",
    "load_problem",
    "named_operators",
    "override_problem",
    "parse_override",
    "problems_directory",
    "read_toml",
    "references",
    "template_fields",
]
