"""Values turned inside each KV group, so that their channels stand in the order of their worth."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nas_llm.calibration._gram import Gram
from nas_llm.models import DenseModel, rotate_state
from nas_llm.space import Architecture


def value_rotation(architecture: Architecture, output: Tensor, gram: Gram, order: Tensor | None = None) -> Tensor:
    """An orthonormal basis of each KV group's values, the channels that matter most first.

    With C the mean over the group's query heads of E[z z^T], z a head's input to o, and M the sum of their W_o^T W_o,
    the channels follow the eigenvectors of M^1/2 C M^1/2, mapped by M^1/2 and made orthonormal by QR in their order.

    Args:
        architecture: The model's.
        output: ``D x H d``, weight of o.
        gram: Of its inputs.
        order: ``K x d``, places that the channels get, the most important one first; default: 0, 1, ...

    Returns:
        ``K x d x d`` float64 on the CPU, rows are the new channels.
    """
    a = architecture
    heads = output.double().cpu().view(-1, a.num_kv_heads, a.heads_per_group, a.head_dim)
    blocks = gram.matrix.double().cpu().view(a.num_heads, a.head_dim, a.num_heads, a.head_dim)
    own = torch.stack([blocks[head, :, head] for head in range(a.num_heads)])
    inputs = own.view(a.num_kv_heads, a.heads_per_group, a.head_dim, a.head_dim).mean(1) / gram.tokens
    outputs = torch.einsum("okgd,okge->kde", heads, heads)
    rotations = []
    for group in range(a.num_kv_heads):
        values, vectors = torch.linalg.eigh(outputs[group])
        root = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.T
        _, features = torch.linalg.eigh(root @ inputs[group] @ root)
        basis = torch.linalg.qr(root @ features.flip(-1)).Q
        # Of either sign: the one with a positive largest entry, so that repetitions agree.
        sign = torch.sign(basis.gather(0, basis.abs().argmax(0, keepdim=True)))
        rows = (basis * torch.where(sign == 0.0, torch.ones_like(sign), sign)).T
        if order is not None:
            placed = torch.empty_like(rows)
            placed[order[group]] = rows
            rows = placed
        rotations.append(rows)
    return torch.stack(rotations)


def rotated_gram(architecture: Architecture, gram: Gram, rotation: Tensor) -> Gram:
    """The Gram of o's inputs in another basis of the values."""
    a = architecture
    turn = rotation.repeat_interleave(a.heads_per_group, 0).to(gram.matrix.device)
    blocks = gram.matrix.double().view(a.num_heads, a.head_dim, a.num_heads, a.head_dim)
    matrix = torch.einsum("aij,ajbk,blk->aibl", turn, blocks, turn).reshape(gram.matrix.shape)
    total = torch.einsum("aij,aj->ai", turn, gram.total.double().view(a.num_heads, a.head_dim)).reshape(-1)
    return Gram(matrix.to(gram.matrix.dtype), total.to(gram.total.dtype), gram.tokens)


def rotate_values(dense: DenseModel, rotations: Sequence[Tensor], *, key: str) -> DenseModel:
    """The dense model with its values and output projections in another basis of each KV group.

    The query heads of a group mix the values of their KV head, whatever its basis; so V' = R V and W_o' = W_o R^T, with
    an orthonormal R for each KV head, change nothing but rounding.

    Args:
        dense: The model; untouched. All other weights are shared with it.
        rotations: One a layer, ``K x d x d``, rows are the new channels.
        key: Identity of the rotations, for caches.
    """
    if dense.files is not None:
        return replace(dense, rotations=tuple(rotations), rotation_key=key)
    names, changed = dense.adapter.names, (dense.adapter.names.v, dense.adapter.names.o)
    layers = dense.adapter.layers(dense.model)
    own = {id(weight) for layer in layers for name in changed for weight in layer.get_submodule(name).parameters()}
    tensors = [*dense.model.parameters(), *dense.model.buffers()]
    model = copy.deepcopy(dense.model, {id(weight): weight for weight in tensors if id(weight) not in own})
    for layer, block, rotation in zip(layers, dense.adapter.layers(model), rotations, strict=True):
        turned = rotate_state(names, dense.architecture, layer.state_dict(), rotation)
        for name in changed:
            for kind, parameter in block.get_submodule(name).named_parameters():
                parameter.data = turned[f"{name}.{kind}"]
    return replace(dense, model=model, rotation_key=key)
