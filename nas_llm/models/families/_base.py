"""What the package asks of a model family; everything family-specific lies behind this class."""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from nas_llm.models._threads import steady_activations
from nas_llm.models.families._modeling import modeling_module
from nas_llm.space import Architecture, BoolArray, Genome


@dataclass(frozen=True, kw_only=True)
class BlockNames:
    """Module names inside one decoder block.

    Attributes:
        q, k, v, o: Attention projections.
        fc1: FFN projections whose rows are FFN channels (gate and up, or fc1).
        fc2: FFN projection whose columns are FFN channels (down, or fc2).
        attn_norm: Norm of the attention sublayer.
        mlp_norm: Norm of the FFN sublayer.
    """

    q: str
    k: str
    v: str
    o: str
    fc1: tuple[str, ...]
    fc2: str
    attn_norm: str
    mlp_norm: str

    @property
    def attention(self) -> tuple[str, ...]:
        """All projections of the attention sublayer."""
        return (self.q, self.k, self.v, self.o)

    @property
    def mlp(self) -> tuple[str, ...]:
        """All projections of the FFN sublayer."""
        return (*self.fc1, self.fc2)


_MAKING_MODULES = threading.Lock()

Block = Callable[..., Tensor]
"""Takes ``B x T x D`` hidden states and what :meth:`FamilyAdapter.embed` gave beside them; returns the next."""


class FamilyAdapter(ABC):
    """One model family: where its parts are, how a block runs, how a subnet is built.

    A family is added by one subclass, with the decorator :func:`nas_llm.models.register_family`, and one modelling file
    (the file that exports carry). Blocks are run one by one on hidden states, so that the caller decides what is
    shared, sliced or streamed.

    When a model is loaded, each of its weights has to belong to a module of ``names`` (in a block) or of :meth:`outer`,
    and :meth:`architecture` has to give their sizes and their number; otherwise the model is refused by name.

    Attributes:
        name: Of the family; none of the package's own.
        model_types: transformers' ``model_type`` values that it covers.
        names: Module names inside a block.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    names: ClassVar[BlockNames]

    @abstractmethod
    def architecture(self, config: PretrainedConfig) -> Architecture:
        """Sizes of the dense model.

        Raises:
            ModelError: If the configuration uses something that cannot be sliced faithfully.
        """

    @abstractmethod
    def layers(self, model: PreTrainedModel) -> nn.ModuleList:
        """The decoder blocks of a dense model or a subnet."""

    @abstractmethod
    def outer(self, model: PreTrainedModel) -> nn.ModuleDict:
        """Everything outside of the blocks (embeddings, final norm, LM head), sharing its weights."""

    @abstractmethod
    def embed(self, outer: nn.ModuleDict, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """First hidden state of full causal windows.

        Args:
            outer: What :meth:`outer` returned.
            ids: ``batch x T`` token ids.

        Returns:
            ``batch x T x D`` hidden state, and the arguments that every block of these windows takes.
        """

    @abstractmethod
    def finish(self, outer: nn.ModuleDict, hidden: Tensor) -> Tensor:
        """``... x D`` hidden state after the last block to the ``... x E`` input of the LM head."""

    @abstractmethod
    def attention_sizes(self, architecture: Architecture, kv_groups: int) -> dict[str, Any]:
        """Configuration attributes of a layer with so many KV groups."""

    @abstractmethod
    def mlp_sizes(self, ffn_channels: int) -> dict[str, Any]:
        """Configuration attributes of a layer with so many FFN channels."""

    @abstractmethod
    def modeling_source(self, model_type: str) -> str:
        """Text of the modelling file that an export of this model type carries.

        It needs nothing but transformers, assigns ``CONFIG_CLASS``, ``MODEL_CLASS`` and ``LAYER_CLASS``, and its
        configuration's ``model_type`` is the dense one with ``nas_`` before it. For models that are built as Llama or
        OPT, :func:`nas_llm.models.modeling_template` makes it.
        """

    def modeling(self, model_type: str) -> ModuleType:
        """The imported modelling file: ``CONFIG_CLASS``, ``MODEL_CLASS`` and ``LAYER_CLASS`` of subnets.

        Raises:
            ModelError: If it does not run, or does not offer these.
        """
        return modeling_module(model_type, self.modeling_source(model_type))

    def auto_classes(self, model_type: str) -> dict[str, type[PreTrainedModel]]:
        """Name of an Auto class of transformers to the class that it loads a subnet with.

        The causal LM, and what the modelling file names under ``AUTO_CLASSES`` (the trunk, a classifier).
        """
        modeling = self.modeling(model_type)
        return {"AutoModelForCausalLM": modeling.MODEL_CLASS, **getattr(modeling, "AUTO_CLASSES", {})}

    def layer_overrides(self, architecture: Architecture, kv_groups: int, ffn_channels: int) -> dict[str, Any]:
        """One layer's entry of ``per_layer_config``; removed sublayers are named under ``skip``."""
        skip = [name for name, count in (("attention", kv_groups), ("mlp", ffn_channels)) if not count]
        return {
            **({"skip": skip} if skip else {}),
            **(self.attention_sizes(architecture, kv_groups) if kv_groups else {}),
            **(self.mlp_sizes(ffn_channels) if ffn_channels else {}),
        }

    def global_overrides(self, architecture: Architecture) -> dict[str, Any]:
        """What the subnet's configuration says beside the dense one's: head width no longer follows from head count."""
        return {"head_dim": architecture.head_dim}

    def lm_head(self, outer: nn.ModuleDict) -> nn.Linear:
        """The LM head, ``vocabulary x E``."""
        head = outer["lm_head"]
        assert isinstance(head, nn.Linear)
        return head

    def subnet_config(self, config: PretrainedConfig, genome: Genome) -> PretrainedConfig:
        """Configuration of a subnet, with transformers' native ``per_layer_config``."""
        architecture = self.architecture(config)
        values = {
            key: value
            for key, value in config.to_dict().items()
            if key not in {"model_type", "architectures", "quantization_config", "auto_map", "_name_or_path"}
        }
        values.update(self.global_overrides(architecture))
        values["per_layer_config"] = {
            layer: self.layer_overrides(architecture, int(groups), int(channels))
            for layer, (groups, channels) in enumerate(zip(genome.kv_groups, genome.ffn_channels, strict=True))
        }
        subnet: PretrainedConfig = self.modeling(config.model_type).CONFIG_CLASS(**values)
        subnet._attn_implementation = config._attn_implementation
        return subnet

    def block(self, config: PretrainedConfig, state: dict[str, Tensor]) -> Block:
        """A sliced block that is ready to run on full causal windows.

        Args:
            config: The dense model's.
            state: Its state dict, as :meth:`slice_block` returns it, on its device in its dtype.
        """
        layer = self.block_module(config, *self._sizes(self.architecture(config), state))
        layer.load_state_dict(state, assign=True)
        return layer.requires_grad_(False)

    def block_module(self, config: PretrainedConfig, kv_groups: int, ffn_channels: int) -> nn.Module:
        """An empty block (on the meta device) of the given sizes, as the family's modelling file has it."""
        layer_config = copy.copy(config)
        overrides = self.layer_overrides(self.architecture(config), kv_groups, ffn_channels)
        for key, value in {**self.global_overrides(self.architecture(config)), "skip": [], **overrides}.items():
            setattr(layer_config, key, value)
        # The context exchanges functions of torch for the whole process.
        with _MAKING_MODULES, torch.device("meta"), no_init_weights():
            layer: nn.Module = self.modeling(config.model_type).LAYER_CLASS(layer_config, 0)
        return steady_activations(layer.eval())

    def _sizes(self, architecture: Architecture, state: Mapping[str, Tensor]) -> tuple[int, int]:
        """KV groups and FFN channels of a sliced block."""
        k, fc2 = state.get(f"{self.names.k}.weight"), state.get(f"{self.names.fc2}.weight")
        return 0 if k is None else k.shape[0] // architecture.head_dim, 0 if fc2 is None else fc2.shape[1]

    def slice_block(
        self, architecture: Architecture, weights: Mapping[str, Tensor], attn_mask: BoolArray, mlp_mask: BoolArray
    ) -> dict[str, Tensor]:
        """The weights that one layer of a subnet inherits.

        Args:
            architecture: The dense model's.
            weights: State dict of the dense block.
            attn_mask: ``K`` bool, KV groups to inherit.
            mlp_mask: ``P`` bool, FFN channels to inherit.

        Returns:
            State dict of the smaller block, sharing what is kept whole; a removed sublayer takes its biases (and, where
            norms stand before the sublayer, its norm) with it.
        """
        names, head_dim = self.names, architecture.head_dim
        kv_rows = torch.from_numpy(attn_mask.repeat(head_dim).nonzero()[0])
        q_rows = torch.from_numpy(attn_mask.repeat(head_dim * architecture.heads_per_group).nonzero()[0])
        channels = torch.from_numpy(mlp_mask.nonzero()[0])
        rows = {names.q: q_rows, names.k: kv_rows, names.v: kv_rows} | dict.fromkeys(names.fc1, channels)
        columns = {names.o: q_rows, names.fc2: channels}
        removed: set[str] = set()
        for mask, parts, norm in (
            (attn_mask, names.attention, names.attn_norm),
            (mlp_mask, names.mlp, names.mlp_norm),
        ):
            if not mask.any():
                removed.update(parts)
                removed.update(() if architecture.norm_outside else (norm,))
        sliced = {}
        for key, weight in weights.items():
            module, _, kind = key.rpartition(".")
            if module in removed:
                continue
            if module in rows and len(rows[module]) < weight.shape[0]:
                weight = weight.index_select(0, rows[module].to(weight.device))
            elif module in columns and kind == "weight" and len(columns[module]) < weight.shape[1]:
                weight = weight.index_select(1, columns[module].to(weight.device))
            sliced[key] = weight
        return sliced
