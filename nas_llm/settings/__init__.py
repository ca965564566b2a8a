"""Defaults, once: definitions, library functions and command-line options all take them from here."""

from nas_llm.settings._calibration import (
    CalibrationDefaults,
)
from nas_llm.settings._data import (
    AUTO_KINDS,
    OFF_KIND,
    OffTextDefaults,
    QuestionDefaults,
    SelfSampleDefaults,
    SourceDefaults,
)
from nas_llm.settings._evaluation import (
    EvaluationDefaults,
    PaperProtocol,
    WorkloadDefaults,
)
from nas_llm.settings._export import (
    ExportDefaults,
)
from nas_llm.settings._latency import (
    LatencyDefaults,
)
from nas_llm.settings._model import (
    ModelDefaults,
)
from nas_llm.settings._operators import (
    CROSSOVER_NAMES,
    MUTATION_NAMES,
    SAMPLING_NAMES,
    CrossoverDefaults,
    DepthDefaults,
    GuidedDefaults,
    MaskDefaults,
    RatioDefaults,
    SamplingDefaults,
)
from nas_llm.settings._posttrain import (
    LEARNING_RATES,
    PosttrainDefaults,
    PosttrainTextDefaults,
)
from nas_llm.settings._reconstruction import (
    FINISHING_KIND,
    FINISHING_METHODS,
    AdmmDefaults,
    FinishingFacts,
    ReconstructionDefaults,
    SequentialDefaults,
    several,
)
from nas_llm.settings._search import (
    DescentDefaults,
    FrontDefaults,
    PaperDefaults,
    RacingDefaults,
    ResourcesDefaults,
)
from nas_llm.settings._space import (
    ATTENTION_MODES,
    CostDefaults,
    SpaceDefaults,
)
from nas_llm.settings._studies import (
    DashboardDefaults,
    StudyDefaults,
)

__all__ = [
    "ATTENTION_MODES",
    "AUTO_KINDS",
    "CROSSOVER_NAMES",
    "FINISHING_KIND",
    "FINISHING_METHODS",
    "LEARNING_RATES",
    "MUTATION_NAMES",
    "OFF_KIND",
    "SAMPLING_NAMES",
    "AdmmDefaults",
    "CalibrationDefaults",
    "CostDefaults",
    "CrossoverDefaults",
    "DashboardDefaults",
    "DepthDefaults",
    "DescentDefaults",
    "EvaluationDefaults",
    "ExportDefaults",
    "FinishingFacts",
    "FrontDefaults",
    "GuidedDefaults",
    "LatencyDefaults",
    "MaskDefaults",
    "ModelDefaults",
    "OffTextDefaults",
    "PaperDefaults",
    "PaperProtocol",
    "PosttrainDefaults",
    "PosttrainTextDefaults",
    "QuestionDefaults",
    "RacingDefaults",
    "RatioDefaults",
    "ReconstructionDefaults",
    "ResourcesDefaults",
    "SamplingDefaults",
    "SelfSampleDefaults",
    "SequentialDefaults",
    "SourceDefaults",
    "SpaceDefaults",
    "StudyDefaults",
    "WorkloadDefaults",
    "several",
]
