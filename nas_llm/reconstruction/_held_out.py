"""Calibration windows held out of the moments."""

from __future__ import annotations

import numpy as np

from nas_llm.errors import ConfigError
from nas_llm.settings import ReconstructionDefaults
from nas_llm.space import BoolArray


def held_out_windows(count: int, fraction: float = ReconstructionDefaults.validation) -> BoolArray:
    """Which windows are held out: an even spread of the fraction, at least one, and never all.

    Args:
        count: Number of windows.
        fraction: Fraction to hold out.

    Raises:
        ConfigError: If that is impossible.
    """
    if not 0.0 < fraction < 1.0 or count < 2:
        raise ConfigError(
            f"choosing between dampings holds out a fraction of the windows between 0 and 1; got validation = "
            f"{fraction} of {count} windows; give a single damping or more windows"
        )
    number = min(max(1, round(fraction * count)), count - 1)
    chosen = np.zeros(count, dtype=bool)
    chosen[((np.arange(number) + 0.5) * count / number).astype(int)] = True
    return chosen
