"""How several finishes of one point are told apart."""

from __future__ import annotations

from math import log
from statistics import fmean

from nas_llm.evaluation import window_losses
from nas_llm.finishing._inputs import FinishInputs
from nas_llm.finishing._memory import release_memory
from nas_llm.models import on_device
from nas_llm.space import Genome
from nas_llm.subnet import BlockEdit, build_subnet


def loss_by_kind(inputs: FinishInputs, genome: Genome, edit: BlockEdit) -> float:
    """Token loss on the fitness windows in nats: the mean over kinds of text, however much there is of each.

    No weight is fitted to these windows, and a finish that suits one kind of text alone is not the best of several.

    Args:
        inputs: The problem, loaded.
        genome: The masks.
        edit: The weights.
    """
    windows = inputs.splits.fitness
    model = on_device(build_subnet(inputs.dense, genome, edit=edit, share_outside=True), inputs.device)
    losses = window_losses(model, windows)
    del model
    release_memory()
    return fmean(map(log, losses.perplexities(windows.kinds).values() or [losses.perplexity]))
