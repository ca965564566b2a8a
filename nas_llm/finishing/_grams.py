"""Grams of the text that points are finished with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nas_llm.calibration import keep_grams
from nas_llm.data import WindowSet
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.finishing._inputs import FinishInputs
from nas_llm.reconstruction import GramSource, held_out_windows
from nas_llm.space import BoolArray


def grams_of(inputs: FinishInputs, *, on_event: EventHandler = ignore) -> GramSource:
    """Grams X X^T of the inputs of all output projections of the dense model, on the text of the finish.

    Those of text other than the calibration's are computed now, and kept in the cache folder.

    Args:
        inputs: The problem.
        on_event: Called with its events.

    Raises:
        RunError: If the cache folder cannot be written.
    """
    if inputs.splits.reconstruction is None:
        return inputs.calibration
    return _keep(inputs, inputs.splits.finish, on_event)


def split_grams(
    inputs: FinishInputs, *, validation: float, on_event: EventHandler = ignore
) -> tuple[GramSource, GramSource]:
    """Grams to fit to, and Grams of windows held out to choose by.

    Args:
        inputs: The problem.
        validation: Share of the windows that is held out.
        on_event: Called with its events.

    Raises:
        ConfigError: If there are too few windows.
        RunError: If the cache folder cannot be written.
    """
    windows = inputs.splits.finish
    held_out: BoolArray = held_out_windows(len(windows.tokens), validation)
    fit, choose = (replace(windows, tokens=windows.tokens[np.flatnonzero(rows)]) for rows in (~held_out, held_out))
    return _keep(inputs, fit, on_event), _keep(inputs, choose, on_event)


def _keep(inputs: FinishInputs, windows: WindowSet, on_event: EventHandler) -> GramSource:
    dense, stage = inputs.dense, "calibration"
    on_event(StageStarted(stage, f"Gram matrices of {windows.num_tokens:,} tokens", dense.architecture.num_layers))
    grams = keep_grams(
        dense, windows, device=inputs.device, on_layer=lambda layer: on_event(StageAdvanced(stage, layer + 1))
    )
    on_event(StageFinished(stage))
    return grams
