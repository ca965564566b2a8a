"""The values of one block in another basis."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas_llm.models.families._base import BlockNames
from nas_llm.space import Architecture


def rotate_state(
    names: BlockNames, architecture: Architecture, state: Mapping[str, Tensor], rotation: Tensor
) -> dict[str, Tensor]:
    """The state dict of a block with its values in another basis.

    Args:
        names: Of the family.
        architecture: The model's.
        state: State dict of the dense block.
        rotation: ``K x d x d``.
    """
    a, turned = architecture, dict(state)
    exact = rotation.to(state[f"{names.v}.weight"].device).double()
    for kind in ("weight", "bias"):
        value = state.get(f"{names.v}.{kind}")
        if value is not None:
            heads = value.double().view(a.num_kv_heads, a.head_dim, -1)
            turned[f"{names.v}.{kind}"] = (exact @ heads).reshape(value.shape).to(value.dtype)
    output = state[f"{names.o}.weight"]
    heads = output.double().view(-1, a.num_kv_heads, a.heads_per_group, a.head_dim)
    turned[f"{names.o}.weight"] = torch.einsum("okgd,ked->okge", heads, exact).reshape(output.shape).to(output.dtype)
    return turned
