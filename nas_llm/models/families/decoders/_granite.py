"""Granite 3: multipliers of embeddings, attention scores, residual sums and logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from nas_llm.models.families._llama import LlamaAdapter
from nas_llm.models.families._llama_block import BlockTraits


class _Scaled(nn.ModuleDict):
    """What is outside of the blocks, with the factor of embeddings and the divisor of logits."""

    def __init__(self, parts: nn.ModuleDict, embedding: float, logits: float) -> None:
        super().__init__(dict(parts.items()))
        self.embedding, self.logits = embedding, logits


class GraniteAdapter(LlamaAdapter):
    """Granite 3, dense."""

    name: ClassVar[str] = "granite"
    model_types: ClassVar[tuple[str, ...]] = ("granite",)
    traits_known: ClassVar[tuple[str, ...]] = model_types
    renames: ClassVar = {"granite": (("Llama", "Granite"), ("llama", "granite"))}

    def outer(self, model: PreTrainedModel) -> nn.ModuleDict:
        """As Llama's, with the multipliers of embeddings and logits."""
        return _Scaled(super().outer(model), model.config.embedding_multiplier, model.config.logits_scaling)

    def embed(self, outer: nn.ModuleDict, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Token embeddings times their multiplier, and the rotary tables."""
        assert isinstance(outer, _Scaled)
        hidden, context = super().embed(outer, ids)
        return hidden * outer.embedding, context

    def finish(self, outer: nn.ModuleDict, hidden: Tensor) -> Tensor:
        """The final norm, over the divisor of the logits: the LM head is linear."""
        assert isinstance(outer, _Scaled)
        return super().finish(outer, hidden) / outer.logits

    def traits(self, config: PretrainedConfig, layer: int) -> BlockTraits:
        """Multipliers of scores and residual sums."""
        return replace(
            super().traits(config, layer),
            scaling=float(config.attention_multiplier),
            residual=float(config.residual_multiplier),
        )
