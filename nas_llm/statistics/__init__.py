"""Error bars: what a text of so many windows says of a perplexity, and of two side by side. Numpy only."""

from nas_llm.statistics._bootstrap import FEWEST_WINDOWS, Interval, ratio_interval
from nas_llm.statistics._documents import PairedDifference, paired_difference
from nas_llm.statistics._windows import (
    PairedRatio,
    Verdict,
    WindowLosses,
    mean_losses,
    paired_ratio,
    perplexity_interval,
)

__all__ = [
    "FEWEST_WINDOWS",
    "Interval",
    "PairedDifference",
    "PairedRatio",
    "Verdict",
    "WindowLosses",
    "mean_losses",
    "paired_difference",
    "paired_ratio",
    "perplexity_interval",
    "ratio_interval",
]
