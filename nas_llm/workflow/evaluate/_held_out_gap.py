"""What a finished model loses on text that its run used, beside text that it never saw."""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PreTrainedModel

from nas_llm.data import Splits
from nas_llm.evaluation import HeldOutGap, model_perplexity, window_losses
from nas_llm.statistics import WindowLosses, perplexity_interval


@dataclass(frozen=True)
class SplitPerplexities:
    """Perplexities of one model on the splits of a run, and its losses on the windows that the run never saw."""

    calibration: float
    fitness: float
    held_out: WindowLosses


def split_perplexities(model: PreTrainedModel, splits: Splits) -> SplitPerplexities:
    """Measure a model on the splits of a run.

    Args:
        model: The model.
        splits: The splits; of the windows that weights are refitted on, as many are read as there are held-out ones.
    """
    finish = splits.finish
    beginning = replace(finish, tokens=finish.tokens[: len(splits.held_out.tokens)])
    return SplitPerplexities(
        calibration=model_perplexity(model, beginning),
        fitness=model_perplexity(model, splits.fitness),
        held_out=window_losses(model, splits.held_out),
    )


def held_out_gap(found: SplitPerplexities, dense: SplitPerplexities) -> HeldOutGap:
    """The gap of a model, as its dense model's texts differ in difficulty anyway.

    Args:
        found: Its perplexities.
        dense: The dense model's.
    """
    own, base = found.held_out.perplexity, dense.held_out.perplexity
    return HeldOutGap(
        calibration=found.calibration,
        fitness=found.fitness,
        held_out=own,
        held_out_interval=perplexity_interval(found.held_out),
        gap=(own / found.fitness) / (base / dense.fitness) - 1.0,
    )
