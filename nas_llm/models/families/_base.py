"""What the package asks of a model family; everything family-specific lies behind this class."""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from nas_llm.models._threads import steady_activations
from nas_llm.models.families._modeling import modeling_module
from nas_llm.space import Architecture, BoolArray, Genome, IntArray


@dataclass(frozen=True, kw_only=True)
class BlockNames:
    """Module names inside one decoder block.

    Attributes:
        q, k, v, o: Attention projections.
        fc1: FFN projections whose rows are FFN channels (gate and up, or fc1).
        fc2: FFN projection whose columns are FFN channels (down, or fc2).
        attn_norm: Norm of the attention sublayer.
        mlp_norm: Norm of the FFN sublayer.
        attn_more: Further norms that go with the attention: of queries, of keys, of its output.
        mlp_more: Further norms that go with the FFN.
    """

    q: str
    k: str
    v: str
    o: str
    fc1: tuple[str, ...]
    fc2: str
    attn_norm: str
    mlp_norm: str
    attn_more: tuple[str, ...] = ()
    mlp_more: tuple[str, ...] = ()

    @property
    def norms(self) -> tuple[str, ...]:
        """All norms of the block."""
        return (self.attn_norm, self.mlp_norm, *self.attn_more, *self.mlp_more)

    @property
    def kept_units(self) -> str:
        """Of the buffer that says which units of q and k each KV head keeps, where heads are not whole: ``K x n``."""
        return f"{self.q.rpartition('.')[0]}.kept_units".lstrip(".")

    @property
    def attention(self) -> tuple[str, ...]:
        """All projections of the attention sublayer."""
        return (self.q, self.k, self.v, self.o)

    @property
    def mlp(self) -> tuple[str, ...]:
        """All projections of the FFN sublayer."""
        return (*self.fc1, self.fc2)


@dataclass(frozen=True, kw_only=True)
class HeadSizes:
    """What each head of a layer keeps.

    Attributes:
        qk: Channels of q and k.
        vo: Channels of v and o.
        units: Units of q and k: rotary pairs, and channels that are not turned.
    """

    qk: int
    vo: int
    units: int


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
        whole_heads: Whether heads can only be kept whole, because something norms each of them.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    names: ClassVar[BlockNames]
    whole_heads: ClassVar[bool] = False

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

    def layer_overrides(
        self, architecture: Architecture, kv_groups: int, ffn_channels: int, heads: HeadSizes | None = None
    ) -> dict[str, Any]:
        """One layer's entry of ``per_layer_config``; removed sublayers are named under ``skip``.

        Args:
            architecture: The dense model's.
            kv_groups: KV groups of the layer.
            ffn_channels: FFN channels of the layer.
            heads: What its heads keep; None = all.
        """
        skip = [name for name, count in (("attention", kv_groups), ("mlp", ffn_channels)) if not count]
        return {
            **({"skip": skip} if skip else {}),
            **(self.attention_sizes(architecture, kv_groups) if kv_groups else {}),
            **(self.head_sizes(heads) if kv_groups and heads is not None else {}),
            **(self.mlp_sizes(ffn_channels) if ffn_channels else {}),
        }

    def head_sizes(self, heads: HeadSizes) -> dict[str, Any]:
        """Configuration attributes of a layer whose heads are not whole; ``head_dim`` stays the dense model's."""
        return {"qk_head_dim": heads.qk, "v_head_dim": heads.vo, "kept_units": heads.units}

    def global_overrides(self, architecture: Architecture) -> dict[str, Any]:
        """What the subnet's configuration says beside the dense one's: head width no longer follows from head count."""
        return {"head_dim": architecture.head_dim}

    def added(self, config: PretrainedConfig, block: nn.Module, outputs: Tensor, *, attention: bool) -> Tensor:
        """What a sublayer adds to the residual stream, where norms do not stand on the stream itself.

        Args:
            config: The dense model's.
            block: A block, or what :meth:`block_module` made.
            outputs: ``... x D``, of the sublayer's output projection.
            attention: Of the attention, else of the FFN.
        """
        return outputs

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
        sizes = [layer_sizes(architecture, *masks) for masks in zip(genome.attn_mask, genome.mlp_mask, strict=True)]
        for _, _, heads in (found for found in sizes if len(found) > 2):
            # What not every layer says has to be said for all of them, too.
            values.update(dict.fromkeys(self.head_sizes(heads)))
        values["per_layer_config"] = {
            layer: self.layer_overrides(architecture, *found) for layer, found in enumerate(sizes)
        }
        subnet: PretrainedConfig = self.modeling(config.model_type).CONFIG_CLASS(**values)
        subnet._attn_implementation = config._attn_implementation
        return subnet

    def block(self, config: PretrainedConfig, state: dict[str, Tensor], layer: int = 0) -> Block:
        """A sliced block that is ready to run on full causal windows.

        Args:
            config: The dense model's.
            state: Its state dict, as :meth:`slice_block` returns it, on its device in its dtype.
            layer: Its number.
        """
        block = self.block_module(config, *self.sizes(self.architecture(config), state), layer=layer)
        block.load_state_dict(state, assign=True)
        return self.at_layer(block.requires_grad_(False), config, layer)

    def at_layer(self, block: Block, config: PretrainedConfig, layer: int) -> Block:
        """A block that is given what :meth:`embed` gave for all layers, and takes what is its layer's."""

        def run(hidden: Tensor, **context: Any) -> Tensor:
            return block(hidden, **self.layer_context(config, context, layer))

        return run

    def layer_context(self, config: PretrainedConfig, context: Mapping[str, Any], layer: int) -> Mapping[str, Any]:
        """What a layer's module takes beside the hidden state, of what :meth:`embed` gave for all layers.

        Args:
            config: The dense model's.
            context: What :meth:`embed` gave.
            layer: Number of the layer.
        """
        return context

    def block_module(
        self,
        config: PretrainedConfig,
        kv_groups: int,
        ffn_channels: int,
        heads: HeadSizes | None = None,
        *,
        layer: int = 0,
    ) -> nn.Module:
        """An empty block (on the meta device) of the given sizes, as the family's modelling file has it."""
        layer_config = copy.copy(config)
        # A family of one's own may know whole heads alone.
        more = () if heads is None else (heads,)
        overrides = self.layer_overrides(self.architecture(config), kv_groups, ffn_channels, *more)
        for key, value in {**self.global_overrides(self.architecture(config)), "skip": [], **overrides}.items():
            setattr(layer_config, key, value)
        # The context exchanges functions of torch for the whole process.
        with _MAKING_MODULES, torch.device("meta"), no_init_weights():
            block: nn.Module = self.modeling(config.model_type).LAYER_CLASS(layer_config, layer)
        return steady_activations(block.eval())

    def sizes(self, architecture: Architecture, state: Mapping[str, Tensor]) -> tuple[Any, ...]:
        """KV groups, FFN channels and, where they are not whole, :class:`HeadSizes` of a sliced block."""
        k, v, fc2 = (state.get(f"{name}.weight") for name in (self.names.k, self.names.v, self.names.fc2))
        channels, kept = 0 if fc2 is None else fc2.shape[1], state.get(self.names.kept_units)
        if k is None or v is None:
            return 0, channels
        if kept is None:
            return k.shape[0] // architecture.head_dim, channels
        groups, units = kept.shape
        return groups, channels, HeadSizes(qk=k.shape[0] // groups, vo=v.shape[0] // groups, units=units)

    def slice_block(
        self, architecture: Architecture, weights: Mapping[str, Tensor], attn_mask: BoolArray, mlp_mask: BoolArray
    ) -> dict[str, Tensor]:
        """The weights that one layer of a subnet inherits.

        Args:
            architecture: The dense model's.
            weights: State dict of the dense block.
            attn_mask: What to inherit of the attention: a row of any layout, in mode ``kv_group`` ``K`` bool.
            mlp_mask: ``P`` bool, FFN channels to inherit.

        Returns:
            State dict of the smaller block, sharing what is kept whole; a removed sublayer takes its biases (and, where
            norms stand before the sublayer, its norm) with it. Where heads are not whole, a buffer says which units of
            q and k they keep.
        """
        names, (qk, vo) = self.names, architecture.head_channels(attn_mask)
        k_rows, q_rows, v_rows, o_columns = (
            torch.from_numpy(np.flatnonzero(mask))
            for mask in (qk, architecture.of_query_heads(qk), vo, architecture.of_query_heads(vo))
        )
        channels = torch.from_numpy(mlp_mask.nonzero()[0])
        rows = {names.q: q_rows, names.k: k_rows, names.v: v_rows} | dict.fromkeys(names.fc1, channels)
        columns = {names.o: o_columns, names.fc2: channels}
        removed: set[str] = set()
        for mask, parts, norm in (
            (attn_mask, (*names.attention, *names.attn_more), names.attn_norm),
            (mlp_mask, (*names.mlp, *names.mlp_more), names.mlp_norm),
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
        if len(layer_sizes(architecture, attn_mask, mlp_mask)) > 2:
            sliced[names.kept_units] = torch.from_numpy(kept_units(architecture, qk))
        return sliced


def layer_sizes(architecture: Architecture, attn_mask: BoolArray, mlp_mask: BoolArray) -> tuple[Any, ...]:
    """KV groups, FFN channels and, where they are not whole, :class:`HeadSizes` that one layer's masks keep."""
    qk, vo = (mask[mask.any(-1)] for mask in architecture.head_channels(attn_mask))
    if not len(qk) or (qk.all() and vo.all()):
        return len(qk), int(mlp_mask.sum())
    units = kept_units(architecture, qk).shape[1]
    return len(qk), int(mlp_mask.sum()), HeadSizes(qk=int(qk[0].sum()), vo=int(vo[0].sum()), units=units)


def kept_units(architecture: Architecture, qk: BoolArray) -> IntArray:
    """Units of q and k that each KV head keeps: rotary pairs by their place in the tables, then the other channels.

    Args:
        architecture: The dense model's.
        qk: ``K x d`` channels; heads without any are left out.
    """
    pairs = architecture.rotary_channels // 2
    units = np.concatenate([qk[:, :pairs], qk[:, 2 * pairs :]], axis=1)
    return np.stack([np.flatnonzero(row) for row in units if row.any()]).astype(np.int64)


def placed(state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """A state dict on a device, its weights in a type; what is no number with a fraction keeps its own."""
    return {
        name: weight.to(device, dtype if weight.is_floating_point() else weight.dtype) for name, weight in state.items()
    }
