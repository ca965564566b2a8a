"""A dense model with everything the package needs to know of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.models._identity import FileStamps
from nas_llm.models._lazy import WeightFiles, cast, module_name
from nas_llm.models.families import FamilyAdapter, rotate_state
from nas_llm.space import Architecture


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseModel:
    """The model that subnets inherit from; its weights are never changed.

    Attributes:
        model: The transformers causal LM, on the CPU, in evaluation mode, in the checkpoint's own dtype. Where
            ``files`` is set, its blocks have no weights: use :meth:`block_state` and :meth:`block`.
        tokenizer: Its tokenizer.
        adapter: Its family.
        architecture: Its sizes.
        source: What the user named: packaged name, hub name, directory or file.
        revision: Identity of the weights: a hub commit, or a hash of the files.
        sample: Name of the text sample that ships with the package for this model, if any.
        files: Where the blocks' weights are read from, when they are not held in memory.
        stamps: Of the files that the weights are views of, where memory is too short for copies.
        rotation_key: Which other basis the values of the weights stand in, if they do; see
            :func:`nas_llm.calibration.rotate_values`.
        rotations: That basis, where blocks are read from files.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapter: FamilyAdapter
    architecture: Architecture
    source: str
    revision: str
    sample: str | None = None
    files: WeightFiles | None = None
    stamps: FileStamps | None = None
    rotation_key: str = ""
    rotations: tuple[Tensor, ...] = ()

    @property
    def identity(self) -> str:
        """Identity of the weights as they are here, for caches: the revision, and the basis of the values."""
        return f"{self.revision}:{self.rotation_key}" if self.rotation_key else self.revision

    @property
    def block_prefix(self) -> str:
        """Module name of the list of blocks."""
        return module_name(self.model, self.adapter.layers(self.model))

    def check_files(self) -> None:
        """Refuse to go on if the weights changed because their files did.

        Raises:
            ModelError: If they did.
        """
        if self.stamps is not None:
            self.stamps.check()

    def block_state(self, layer: int) -> dict[str, Tensor]:
        """State dict of one dense block on the CPU: shared with the model, or read from its files.

        Raises:
            ModelError: If their files were changed.
        """
        self.check_files()
        if self.files is not None:
            dtype = next(self.model.parameters()).dtype
            state = cast(self.files.block(f"{self.block_prefix}.{layer}"), torch.device("cpu"), dtype)
            if self.rotations:
                state = rotate_state(self.adapter.names, self.architecture, state, self.rotations[layer])
            return state
        return self.adapter.layers(self.model)[layer].state_dict()

    def block(self, layer: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """A copy of one dense block."""
        source = self.adapter.layers(self.model)[layer]
        if self.files is None:
            return copy.deepcopy(source).to(device, dtype)
        block = copy.deepcopy(source)
        block.load_state_dict(cast(self.block_state(layer), device, dtype), assign=True)
        return block.requires_grad_(False)
