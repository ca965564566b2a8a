"""Models larger than the memory: weights stay in their safetensors files and are read one block at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from nas_llm.errors import ModelError, first_line
from nas_llm.models._identity import FileStamps
from nas_llm.models._whole import check_whole, say_what_is_tied, silent_report
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
        self._stamps = FileStamps(directory)
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

    def leave_out(self, names: Iterable[str]) -> None:
        """Read these tensors no more: the model has no use for them."""
        for name in names:
            del self._files[name]

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor."""
        shape: list[int] = self._open(self._files[name]).get_slice(name).get_shape()
        return shape

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read tensors to the CPU, in the files' dtype.

        Raises:
            ModelError: If a file was changed since the first look at it.
        """
        # What safetensors returns is a view of the file, and would change with it.
        found = {name: self._open(self._files[name]).get_tensor(name).clone() for name in names}
        self._stamps.check()
        return found

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


def load_skeleton(files: WeightFiles, config: PretrainedConfig, adapter: FamilyAdapter, source: str) -> PreTrainedModel:
    """A model with everything in memory but the weights of its blocks, which are on the meta device.

    Args:
        files: The checkpoint.
        config: Its configuration.
        adapter: Its family.
        source: What the user named.

    Raises:
        ModelError: If the files name their tensors otherwise than the model, or see
            :func:`nas_llm.models._whole.check_whole`.
    """
    dtype = config.dtype or next(iter(files.read(files.names()[:1]).values())).dtype
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
        )
    block_prefix = module_name(model, adapter.layers(model))
    wanted, there = model.state_dict(), set(files.names())
    inside = {name for name in wanted if name.startswith(f"{block_prefix}.")}
    if not inside & there:
        raise ModelError(
            f"the weights in {files.directory} cannot be read block by block: they have no tensor {min(inside)}; "
            f"load and save the model with save_pretrained first"
        )
    extra, missing = there - wanted.keys(), wanted.keys() - there
    shapes = [(name, files.shape(name), list(wanted[name].shape)) for name in there & wanted.keys()]
    check_whole(model, source, mismatched=[found for found in shapes if found[1] != found[2]], extra=extra)
    files.leave_out(extra)
    outer = sorted(wanted.keys() - inside - missing)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in files.read(outer).items()}, False, True)
    with silent_report():
        # As when the whole model is loaded: takes out of the missing what is tied to a tensor that is there.
        model.tie_weights(missing_keys=missing, recompute_mapping=False)
    check_whole(model, source, missing=missing)
    say_what_is_tied(model, source)
    model.eval().requires_grad_(False)
    return model


def cast(state: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """A state dict on another device, in another dtype."""
    return {name: tensor.to(device, dtype) for name, tensor in state.items()}


def module_name(model: nn.Module, part: nn.Module) -> str:
    """Qualified name of a submodule."""
    names: dict[int, str] = {id(module): name for name, module in model.named_modules()}
    return names[id(part)]
