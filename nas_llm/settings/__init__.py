"""Defaults, once: definitions, library functions and command-line options all take them from here."""

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

__all__ = [
    "CROSSOVER_NAMES",
    "MUTATION_NAMES",
    "SAMPLING_NAMES",
    "CrossoverDefaults",
    "DepthDefaults",
    "GuidedDefaults",
    "MaskDefaults",
    "RatioDefaults",
    "SamplingDefaults",
]
