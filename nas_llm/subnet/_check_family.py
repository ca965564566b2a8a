"""A stranger's family is tried before anything is computed with it: it must never be wrong in silence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.errors import ModelError, first_line
from nas_llm.models import DenseModel
from nas_llm.space import Genome
from nas_llm.subnet._build import build_subnet

_TOKENS = 16
# Largest difference of logits as a fraction of the largest logit: of rounding, by the type of the weights.
_EXACT, _ROUNDED = 1e-3, 5e-2


def check_family(dense: DenseModel) -> None:
    """Refuse a family whose blocks or subnets compute something else than its models do.

    The blocks, one by one and whole, are compared with the model; sliced, with a subnet of the modelling file that has
    all there is: an attention alone, an FFN alone, a whole block and, of more than three blocks, empty ones.

    Args:
        dense: A model of the family; one whose blocks stay on disk is not run as a whole.

    Raises:
        ModelError: If something differs or does not run.
    """
    ids = torch.arange(_TOKENS)[None] % dense.architecture.vocab_size
    if dense.files is None:
        _compare(dense, Genome.dense(dense.architecture), ids, "the model", lambda: dense.model)
    trial = _trial(dense)
    _compare(dense, trial, ids, "its modelling file", lambda: build_subnet(dense, trial, share_outside=True))


def _compare(dense: DenseModel, genome: Genome, ids: Tensor, what: str, model: Callable[[], PreTrainedModel]) -> None:
    kind = f"family '{dense.adapter.name}' does not fit model '{dense.source}'"
    try:
        with torch.inference_mode():
            expected = model()(ids).logits.float()
            found = _by_blocks(dense, genome, ids).float()
    except Exception as error:  # whatever a stranger's code raises
        raise ModelError(f"{kind}: {what} does not run: {type(error).__name__}: {first_line(error)}") from error
    difference = float((found - expected).abs().max() / expected.abs().max())
    # Neither is a difference that is no number.
    if not difference <= (_EXACT if dense.model.dtype == torch.float32 else _ROUNDED):
        raise ModelError(
            f"{kind}: its blocks one by one do not compute what {what} does, logits differ by {difference:.1%}; "
            "correct embed, block or finish of the adapter, or the modelling file"
        )


def _by_blocks(dense: DenseModel, genome: Genome, ids: Tensor) -> Tensor:
    adapter, config = dense.adapter, dense.model.config
    outer = adapter.outer(dense.model)
    hidden, context = adapter.embed(outer, ids)
    for layer, masks in enumerate(zip(genome.attn_mask, genome.mlp_mask, strict=True)):
        state = adapter.slice_block(dense.architecture, dense.block_state(layer), *masks)
        hidden = adapter.block(config, state, layer)(hidden, **context)
    return adapter.lm_head(outer)(adapter.finish(outer, hidden))  # type: ignore[no-any-return]


def _trial(dense: DenseModel) -> Genome:
    """A few sublayers of all kinds, so that the subnet takes little memory however large the model is."""
    shape = dense.architecture
    attn = np.zeros((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool)
    attn[0, : -(-shape.num_kv_heads // 2)] = True
    mlp[min(1, shape.num_layers - 1), : -(-shape.intermediate_size // 2)] = True
    attn[-1] = mlp[-1] = True
    return Genome(attn, mlp)
