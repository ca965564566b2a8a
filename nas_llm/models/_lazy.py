"""Models larger than the memory: weights stay in their safetensors files and are read one block at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from nas_llm.errors import ModelError, first_line
from nas_llm.models.families import FamilyAdapter

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"


class WeightFiles:
    """The tensors of a checkpoint directory, read when asked for.

    Args:
        directory: Holds ``model.safetensors``, or an index and its shards.

    Raises:
        ModelError: If the directory has no safetensors files, or one is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            if (directory / _INDEX).is_file():
                weight_map = json.loads((directory / _INDEX).read_text(encoding="utf-8"))["weight_map"]
                self._files = {str(name): directory / str(file) for name, file in weight_map.items()}
            else:
                with safe_open(directory / _SINGLE, framework="pt") as file:
                    self._files = dict.fromkeys(file.keys(), directory / _SINGLE)
            missing = sorted({path.name for path in self._files.values() if not path.is_file()})
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"the weights in {directory} cannot be read block by block, which needs safetensors files "
                f"({first_line(error)}); save the model with save_pretrained first"
            ) from error
        if missing:
            raise ModelError(f"{directory} lacks the weight file {missing[0]} that its index names")
        self._local = threading.local()

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in set(self._files.values()))

    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._files)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read tensors to the CPU, in the files' dtype."""
        return {name: self._open(self._files[name]).get_tensor(name) for name in names}

    def block(self, prefix: str) -> dict[str, Tensor]:
        """State dict of one submodule, its names relative to ``prefix``."""
        start = f"{prefix}."
        found = self.read(name for name in self._files if name.startswith(start))
        return {name.removeprefix(start): tensor for name, tensor in found.items()}

    def _open(self, path: Path) -> Any:
        # Handles map the file into memory and are not to be shared between threads.
        handles = self._local.__dict__.setdefault("handles", {})
        if path not in handles:
            handles[path] = safe_open(path, framework="pt")
        return handles[path]


def load_skeleton(files: WeightFiles, config: PretrainedConfig, adapter: FamilyAdapter) -> PreTrainedModel:
    """A model with everything in memory but the weights of its blocks, which are on the meta device.

    Args:
        files: The checkpoint.
        config: Its configuration.
        adapter: Its family.

    Raises:
        ModelError: If the files name their tensors otherwise than the model.
    """
    dtype = config.dtype or next(iter(files.read(files.names()[:1]).values())).dtype
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    block_prefix = module_name(model, adapter.layers(model))
    wanted = set(model.state_dict())
    inside = {name for name in wanted if name.startswith(f"{block_prefix}.")}
    absent = inside - set(files.names())
    outer = sorted((wanted - inside) & set(files.names()))
    if absent:
        raise ModelError(
            f"the weights in {files.directory} cannot be read block by block: they have no tensor {min(absent)}; "
            f"load and save the model with save_pretrained first"
        )
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in files.read(outer).items()}, False, True)
    model.tie_weights()
    lacking = [name for name, weight in model.named_parameters() if weight.device.type == "meta" and name not in inside]
    if lacking:
        raise ModelError(f"the weights in {files.directory} lack {lacking[0]}")
    model.eval().requires_grad_(False)
    return model


def available_bytes() -> int:
    """Memory that new allocations can have without swapping."""
    return int(psutil.virtual_memory().available)


def cast(state: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """A state dict on another device, in another dtype."""
    return {name: tensor.to(device, dtype) for name, tensor in state.items()}


def module_name(model: nn.Module, part: nn.Module) -> str:
    """Qualified name of a submodule."""
    names: dict[int, str] = {id(module): name for name, module in model.named_modules()}
    return names[id(part)]
