"""What a subnet is trained towards: the text itself, or the predictions of its dense model."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean negative log-likelihood of each token but the first of a window, in float32.

    Args:
        logits: ``B x T x V``.
        ids: ``B x T`` token ids.
    """
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def distillation_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean KL divergence of the predictions from the teacher's, over all positions, in float32 (Hinton et al., 2015).

    Args:
        logits: ``B x T x V``, of the subnet.
        wanted: ``B x T x V``, of the teacher.
    """
    ours, theirs = (functional.log_softmax(each.flatten(0, 1).float(), dim=-1) for each in (logits, wanted))
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
