"""Which architecture of llama.cpp a dense model's subnets are written in, and what that has to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gguf
from transformers import PretrainedConfig

IRREGULAR = ("llama", "mistral", "qwen2", "ministral3", "granite")
"""Model types whose blocks llama.cpp runs in different sizes, as ``deci``."""


@dataclass(frozen=True, kw_only=True)
class Folding:
    """Factors of a model that ``deci`` has no place for, as they go into weights.

    Attributes:
        queries: Of q.
        outputs: Of o and down.
        embedding: Of the token embedding.
        head: Of what the LM head reads: of its own weights, or of the final norm where it is the token embedding.
        eps: Of the norms' epsilon: the residual stream is smaller by its root.
    """

    queries: float = 1.0
    outputs: float = 1.0
    embedding: float = 1.0
    head: float = 1.0
    eps: float = 1.0


def folding(config: PretrainedConfig, head_dim: int) -> Folding:
    """What is folded into the weights of a model, nothing for most.

    Granite multiplies embeddings, scores, residual sums and logits. A token embedding that is the LM head, too, is left
    as it is: then the whole residual stream is smaller by its factor, which RMSNorms do not see but for epsilon.

    Args:
        config: The dense model's, or a subnet's.
        head_dim: d.
    """
    if config.model_type.removeprefix("nas_") != "granite":
        return Folding()
    queries, residual = config.attention_multiplier * head_dim**0.5, config.residual_multiplier
    embedding, head = config.embedding_multiplier, 1 / config.logits_scaling
    if config.tie_word_embeddings:
        return Folding(queries=queries, outputs=residual / embedding, head=head, eps=embedding**-2)
    return Folding(queries=queries, outputs=residual, embedding=embedding, head=head)


@dataclass(frozen=True, kw_only=True)
class Alike:
    """A model type that llama.cpp runs in its own architecture only, with one size for all layers.

    Attributes:
        architecture: llama.cpp's.
        interleave: Whether rows of q and k are in its rotary order.
        centred: Whether norms multiply by 1 + their weight, which the file holds as one number.
        windows: Whether it knows sliding windows.
        describe: Writes what only this architecture has.
        refusal: Why a configuration cannot be written, or None.
    """

    architecture: gguf.MODEL_ARCH
    interleave: bool = False
    centred: bool = False
    windows: bool = False
    describe: Callable[[gguf.GGUFWriter, PretrainedConfig], None] = lambda writer, config: None
    refusal: Callable[[PretrainedConfig], str | None] = lambda config: None

    @property
    def name(self) -> str:
        """As the file says it."""
        return gguf.MODEL_ARCH_NAMES[self.architecture]


def _gemma3(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    tables = config.rope_parameters
    writer.add_rope_freq_base(float(tables["full_attention"]["rope_theta"]))
    writer.add_rope_freq_base_swa(float(tables["sliding_attention"]["rope_theta"]))
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])


def _gemma3_refusal(config: PretrainedConfig) -> str | None:
    tables = config.rope_parameters
    if any(table["rope_type"] != "default" for table in tables.values()):
        return "its rotary positions are scaled, which has no form in it here"
    return None


def _smollm3_refusal(config: PretrainedConfig) -> str | None:
    fixed = [int((layer + 1) % 4 != 0) for layer in range(config.num_hidden_layers)]
    if list(config.no_rope_layers) != fixed:
        return "llama.cpp leaves every fourth layer without rotary positions, and this model has others"
    return _unscaled_refusal(config)


def _unscaled_refusal(config: PretrainedConfig) -> str | None:
    kind = config.rope_parameters["rope_type"]
    return None if kind == "default" else f"rotary positions of type '{kind}' have no form in it here"


def _rope(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))


ALIKE = {
    "qwen3": Alike(architecture=gguf.MODEL_ARCH.QWEN3, describe=_rope, refusal=_unscaled_refusal),
    "smollm3": Alike(architecture=gguf.MODEL_ARCH.SMOLLM3, interleave=True, describe=_rope, refusal=_smollm3_refusal),
    "gemma3_text": Alike(
        architecture=gguf.MODEL_ARCH.GEMMA3, centred=True, windows=True, describe=_gemma3, refusal=_gemma3_refusal
    ),
}
"""Model types that llama.cpp runs with one size for all layers."""
ALIKE_TYPES = tuple(ALIKE)
