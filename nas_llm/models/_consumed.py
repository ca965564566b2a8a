"""An adapter knows every weight of its model and counts them right; otherwise its subnets would be wrong in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.errors import ModelError
from nas_llm.models._whole import listed
from nas_llm.models.families import BlockNames, FamilyAdapter
from nas_llm.space import Architecture, CostModel


def check_consumed(adapter: FamilyAdapter, model: PreTrainedModel, architecture: Architecture, source: str) -> None:
    """Refuse a model that its adapter does not know in full.

    Args:
        adapter: The family.
        model: The loaded model; its blocks may be on the meta device.
        architecture: What the adapter says of it.
        source: What the user named.

    Raises:
        ModelError: If a weight of a block belongs to none of the adapter's :class:`BlockNames`, one outside of the
            blocks is not in :meth:`FamilyAdapter.outer`, or sizes, biases or the number of parameters are others than
            the adapter says; names the weights.
    """
    kind = f"family '{adapter.name}' does not fit model '{source}' (model type {model.config.model_type})"
    mend = "take a family that knows them, or write one"
    blocks = adapter.layers(model)
    states = [block.state_dict() for block in blocks]
    unknown = dict.fromkeys(name for state in states for name in _unknown(adapter.names, state))
    if unknown:
        raise ModelError(
            f"{kind}: its blocks have weights that the family does not know: {listed(list(unknown))}; {mend}"
        )
    known = {id(weight) for part in (*blocks, adapter.outer(model)) for weight in part.parameters()}
    strays = [name for name, weight in model.named_parameters() if id(weight) not in known]
    if strays:
        raise ModelError(
            f"{kind}: it has weights outside of its blocks that the family does not know: {listed(strays)}; {mend}"
        )
    wrong = dict.fromkeys(text for state in states for text in _contradictions(adapter.names, architecture, state))
    counted = CostModel(architecture, sequence_length=1).dense.params
    found = sum(weight.numel() for weight in model.parameters())
    if not wrong and counted != found:
        inside = {id(weight) for weight in blocks.parameters()}
        outside = {name: weight for name, weight in model.named_parameters() if id(weight) not in inside}
        wrong = dict.fromkeys(f"{name} of {_shape(weight)}" for name, weight in outside.items())
        wrong[f"{len(states)} blocks"] = None
    if wrong:
        raise ModelError(
            f"{kind}: it has {listed(list(wrong))}, and the family says otherwise ({counted:,} parameters in all, "
            f"there are {found:,}); correct the family's architecture()"
        )


def _unknown(names: BlockNames, state: Mapping[str, Tensor]) -> Iterator[str]:
    """Weights of a block that belong to no part that slicing knows."""
    known = {*names.attention, *names.mlp, *names.norms}
    return (name for name in state if name.rpartition(".")[0] not in known)


def _contradictions(names: BlockNames, architecture: Architecture, state: Mapping[str, Tensor]) -> Iterator[str]:
    """Weights of a block that are not there or not of the size that the architecture says."""
    a = architecture
    heads, groups = a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim
    sizes = {
        names.q: (heads, a.hidden_size, a.qkv_bias),
        names.k: (groups, a.hidden_size, a.qkv_bias),
        names.v: (groups, a.hidden_size, a.qkv_bias),
        names.o: (a.hidden_size, heads, a.o_bias),
        **dict.fromkeys(names.fc1, (a.intermediate_size, a.hidden_size, a.mlp_bias)),
        names.fc2: (a.hidden_size, a.intermediate_size, a.mlp_bias),
    }
    for part, (rows, columns, bias) in sizes.items():
        wanted = {"weight": (rows, columns)} | ({"bias": (rows,)} if bias else {})
        for kind in ("weight", "bias"):
            weight, shape = state.get(f"{part}.{kind}"), wanted.get(kind)
            if weight is None and shape is not None:
                yield f"no {part}.{kind}"
            elif weight is not None and tuple(weight.shape) != shape:
                yield f"{part}.{kind} of {_shape(weight)}"
    for norms, parameters in (
        ((names.attn_norm,), a.norm_parameters),
        ((names.mlp_norm,), a.norm_parameters),
        (names.attn_more, a.attn_norm_parameters),
        (names.mlp_more, a.mlp_norm_parameters),
    ):
        count = sum(weight.numel() for name, weight in state.items() if name.rpartition(".")[0] in norms)
        if count != parameters:
            yield f"{' and '.join(norms) or 'further norms'} of {count} parameters"


def _shape(weight: Tensor) -> str:
    return " x ".join(str(size) for size in weight.shape)
