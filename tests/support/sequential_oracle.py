"""Sequential reconstruction the slow way: whole models, all activations at once, numpy's least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.data import WindowSet
from nas_llm.models import DenseModel
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet


@dataclass
class Probe:
    """What one sublayer saw, token by token; rows are tokens."""

    stream: Tensor
    inputs: Tensor
    outputs: Tensor


def probe(dense: DenseModel, model: PreTrainedModel, windows: WindowSet, layer: int, *, attention: bool) -> Probe:
    """Run a whole model and look at one sublayer."""
    names = dense.adapter.names
    norm, first, last = (names.attn_norm, names.q, names.o) if attention else (names.mlp_norm, names.fc1[0], names.fc2)
    block = dense.adapter.layers(model)[layer]
    seen: dict[str, Tensor] = {}

    def keep_input(module: torch.nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        seen["stream"] = args[0] if args else kwargs["hidden_states"]

    def keep_both(module: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen["inputs"], seen["outputs"] = args[0], output

    entry = block.get_submodule(first if dense.architecture.norm_outside else norm)
    hooks = [
        entry.register_forward_pre_hook(keep_input, with_kwargs=True),
        block.get_submodule(last).register_forward_hook(keep_both),
    ]
    with torch.no_grad():
        model(torch.from_numpy(windows.tokens.copy()), use_cache=False)
    for hook in hooks:
        hook.remove()
    return Probe(**{name: value.reshape(-1, value.shape[-1]) for name, value in seen.items()})


def objective(
    dense: DenseModel,
    windows: WindowSet,
    genome: Genome,
    layers: list[dict[str, Tensor]],
    layer: int,
    *,
    attention: bool,
    share: float,
) -> tuple[Tensor, Probe]:
    """``tokens x D`` targets Y of a sublayer, and what the subnet with these refitted layers has there."""
    subnet = build_subnet(dense, genome, edit=lambda i, state: {**state, **layers[i]})
    wanted = probe(dense, dense.model, windows, layer, attention=attention)
    there = probe(dense, subnet, windows, layer, attention=attention)
    return wanted.outputs + share * (wanted.stream - there.stream), there


def first_inputs(
    dense: DenseModel, model: PreTrainedModel, windows: WindowSet, layer: int, *, attention: bool
) -> Tensor:
    """``tokens x D``, what a sublayer's first projections take in."""
    names = dense.adapter.names
    module = dense.adapter.layers(model)[layer].get_submodule(names.q if attention else names.fc1[0])
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(torch.from_numpy(windows.tokens.copy()), use_cache=False)
    hook.remove()
    return seen[0].reshape(-1, seen[0].shape[-1])


def _realigned(
    dense: DenseModel,
    windows: WindowSet,
    genome: Genome,
    layers: list[dict[str, Tensor]],
    layer: int,
    *,
    attention: bool,
    damping: float,
) -> dict[str, Tensor]:
    """First projections of a sublayer that take W (x + U x + c) for W x."""
    names = dense.adapter.names
    subnet = build_subnet(dense, genome, edit=lambda i, state: {**state, **layers[i]})
    y = first_inputs(dense, dense.model, windows, layer, attention=attention).numpy()
    x = first_inputs(dense, subnet, windows, layer, attention=attention).numpy()
    state = dense.adapter.layers(subnet)[layer].state_dict()
    rows = (names.q, names.k, names.v) if attention else names.fc1
    biased = f"{rows[0]}.bias" in state
    centred = x - x.mean(0) if biased else x
    root = np.sqrt(damping * np.square(centred).sum(0).mean()) * np.eye(x.shape[1])
    left, right = np.vstack([x, root]), np.vstack([y - x, np.zeros_like(root)])
    if biased:
        left = np.hstack([left, np.vstack([np.ones((len(x), 1)), np.zeros((len(root), 1))])])
    solution = torch.from_numpy(np.linalg.lstsq(left, right, rcond=None)[0].T)
    result = {}
    for name in rows:
        weight = state[f"{name}.weight"]
        result[f"{name}.weight"] = weight + weight @ solution[:, : x.shape[1]]
        if biased:
            result[f"{name}.bias"] = state[f"{name}.bias"] + weight @ solution[:, -1]
    return result


def sequential_oracle(
    dense: DenseModel,
    windows: WindowSet,
    genome: Genome,
    *,
    share: float,
    damping: float,
    inputs_damping: float | None = None,
) -> list[dict[str, Tensor]]:
    """Refitted parameters of every layer; ``dense`` should be in float64."""
    names = dense.adapter.names
    layers: list[dict[str, Tensor]] = [{} for _ in range(genome.num_layers)]
    for layer in range(genome.num_layers):
        for attention in (True, False):
            if not (genome.attn_mask if attention else genome.mlp_mask)[layer].any():
                continue
            if inputs_damping is not None:
                layers[layer] |= _realigned(
                    dense, windows, genome, layers, layer, attention=attention, damping=inputs_damping
                )
            target, there = objective(dense, windows, genome, layers, layer, attention=attention, share=share)
            name = names.o if attention else names.fc2
            block = dense.adapter.layers(build_subnet(dense, genome))[layer]
            weight = block.get_parameter(f"{name}.weight")
            bias = block.state_dict().get(f"{name}.bias")
            x, y = there.inputs.numpy(), target.numpy()
            centred = x if bias is None else x - x.mean(0)
            root = np.sqrt(damping * np.square(centred).sum(0).mean()) * np.eye(x.shape[1])
            left, right = np.vstack([x, root]), np.vstack([y, root @ weight.numpy().T])
            if bias is not None:
                ones = np.vstack([np.ones((len(x), 1)), np.zeros((len(root), 1))])
                left = np.hstack([left, ones])
            solution = torch.from_numpy(np.linalg.lstsq(left, right, rcond=None)[0].T)
            width = weight.shape[1]
            layers[layer][f"{name}.weight"] = solution[:, :width].contiguous()
            if bias is not None:
                layers[layer][f"{name}.bias"] = solution[:, width].contiguous()
    return layers
