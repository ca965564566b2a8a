"""DeciLM, computed from the files of an export alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional


class DecilmReader:
    """DeciLM as its documentation tells it, read from the files of an export alone.

    Args:
        directory: The export.
    """

    def __init__(self, directory: Path) -> None:
        self.config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        self.weights = load_file(directory / "model.safetensors")
        self.used: set[str] = set()

    def _linear(self, name: str, inputs: Tensor, rows: int) -> Tensor:
        self.used |= {f"{name}.weight", f"{name}.bias"} & set(self.weights)
        weight = self.weights[f"{name}.weight"]
        assert weight.shape == (rows, inputs.shape[-1]), name
        return functional.linear(inputs, weight, self.weights.get(f"{name}.bias"))

    def _norm(self, name: str, hidden: Tensor) -> Tensor:
        self.used.add(f"{name}.weight")
        scale = torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return hidden * scale * self.weights[f"{name}.weight"]

    def _rotated(self, heads: Tensor) -> Tensor:
        half = heads.shape[-1] // 2
        frequencies = self.config["rope_theta"] ** (-torch.arange(half) / half)
        angles = torch.arange(heads.shape[-2])[:, None] * frequencies
        first, second = heads[..., :half], heads[..., half:]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def _attention(self, name: str, hidden: Tensor, block: Mapping[str, Any]) -> Tensor:
        heads, head_dim = self.config["num_attention_heads"], self.config["head_dim"]
        kv_heads = heads // block["n_heads_in_group"]

        def split(part: str, count: int) -> Tensor:
            projected = self._linear(f"{name}.{part}_proj", hidden, count * head_dim)
            return projected.unflatten(-1, (count, head_dim)).transpose(1, 2)

        q, k, v = split("q", heads), split("k", kv_heads), split("v", kv_heads)
        out = functional.scaled_dot_product_attention(
            self._rotated(q), self._rotated(k), v, is_causal=True, enable_gqa=True
        )
        return self._linear(f"{name}.o_proj", out.transpose(1, 2).flatten(2), hidden.shape[-1])

    def logits(self, ids: Tensor) -> Tensor:
        hidden = functional.embedding(ids, self.weights["model.embed_tokens.weight"])
        assert len(self.config["block_configs"]) == self.config["num_hidden_layers"]
        for layer, block in enumerate(self.config["block_configs"]):
            prefix = f"model.layers.{layer}"
            if not block["attention"]["no_op"]:
                normed = self._norm(f"{prefix}.input_layernorm", hidden)
                hidden = hidden + self._attention(f"{prefix}.self_attn", normed, block["attention"])
            if not block["ffn"]["no_op"]:
                normed = self._norm(f"{prefix}.post_attention_layernorm", hidden)
                width = ffn_width(block["ffn"], self.config["hidden_size"])
                gate, up = (self._linear(f"{prefix}.mlp.{part}_proj", normed, width) for part in ("gate", "up"))
                down = self._linear(f"{prefix}.mlp.down_proj", functional.silu(gate) * up, hidden.shape[-1])
                hidden = hidden + down
        tied = self.config["tie_word_embeddings"]
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        self.used |= {"model.embed_tokens.weight", head}
        return functional.linear(self._norm("model.norm", hidden), self.weights[head])


def ffn_width(ffn: Mapping[str, Any], hidden_size: int) -> int:
    """FFN width as runtimes read it: ``ffn_mult``, rounded up to 256, goes before ``intermediate_size``."""
    if "ffn_mult" not in ffn:
        return int(ffn["intermediate_size"])
    return -(-int(2 * ffn["ffn_mult"] * hidden_size / 3) // 256) * 256
