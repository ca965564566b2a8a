"""What the channels of q and k add to the attention scores: second moments, as the softmax weighs them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig

from nas_llm.cache import cache_dir, keep_folder
from nas_llm.calibration._gram import stream_blocks
from nas_llm.data import WindowSet
from nas_llm.errors import ModelError
from nas_llm.models import DenseModel

# Raised whenever the meaning of what is kept changes.
_FORMAT = 1
_FILE = "score-grams.safetensors"
# Windows that are read at most, and queries of all of them: each meets all keys before it.
_WINDOWS = 16
_QUERIES = 1024
# Queries that are handled together; fewer compare fewer keys that come after them.
_CHUNK = 16
_IMPLEMENTATION, _WATCH = "nas_llm_watched", "nas_llm_watch"


@dataclass(frozen=True, eq=False)
class ScoreGrams:
    """Score Grams of a dense model on some windows: computed when they are first asked for, kept in the cache folder.

    The score of a query and a key is a sum over features, as many as there are channels: of a rotary pair (i, i + r/2),
    taken as a complex number in q and in k, the real and the imaginary part of ``q conj(k)``, in the places of the
    pair's two channels (the imaginary part counts 0 in the sum); of any other channel the product. If the coefficients
    of the features change by a, the weights of a query's softmax change by a KL divergence of ``a^T G a / 2`` to second
    order, with G the features' covariance under those weights, averaged over queries.

    Attributes:
        dense: The model.
        windows: The text; at most 16 windows and 1,024 queries of them, evenly spaced, are used.
        device: Where to compute.
    """

    dense: DenseModel
    windows: WindowSet
    device: torch.device

    def get(self, layer: int) -> Tensor:
        """G of every query head of a block: ``H x d x d`` float32 on the CPU.

        Raises:
            ModelError: If the family's attention cannot be watched.
            RunError: If the cache folder cannot be written.
        """
        settings = {
            "format": _FORMAT,
            "model": self.dense.identity,
            "windows": self.windows.digest(),
            "device": self.device.type,
        }
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
        target = cache_dir() / "score-grams" / key
        if not (target / _FILE).is_file():
            found = {
                str(index): gram.cpu() for index, gram in stream_score_grams(self.dense, self.windows, self.device)
            }
            keep_folder(target, lambda folder: save_file(found, folder / _FILE), witness=_FILE)
        with safe_open(target / _FILE, framework="pt") as file:
            gram: Tensor = file.get_tensor(str(layer))
        return gram


def stream_score_grams(
    dense: DenseModel,
    windows: WindowSet,
    device: torch.device,
    *,
    most_windows: int = _WINDOWS,
    queries: int = _QUERIES,
) -> Iterator[tuple[int, Tensor]]:
    """Yield every block's index and its ``H x d x d`` score Grams; see :class:`ScoreGrams`.

    Args:
        dense: The model; runs in float32.
        windows: The text.
        device: Where to compute.
        most_windows: Windows of it that are used at most, evenly spaced.
        queries: Queries of all windows together that are used at most, evenly spaced.

    Raises:
        ModelError: If the family's attention does not go through transformers' attention interface.
    """
    count, length = windows.tokens.shape
    used = min(count, most_windows)
    windows = replace(windows, tokens=windows.tokens[np.linspace(0, count - 1, used).round().astype(int)])
    # The last positions of equal parts: the first tokens of a window have little to choose from.
    each = min(length, max(1, queries // used))
    positions = torch.linspace(length / each - 1, length - 1, each).round().long()

    def watch(block: nn.Module) -> _Watched:
        return _Watched(block, dense, positions)

    for layer, watched in stream_blocks(dense, windows, watch, device=device):
        yield layer, watched.finish()


class _Watched:
    """Puts a function of its own between the projections of a block's attention, and adds up what goes through."""

    def __init__(self, block: nn.Module, dense: DenseModel, positions: Tensor) -> None:
        self._architecture, self._positions = dense.architecture, positions
        self._family = dense.adapter.name
        self._sum: Tensor | None = None
        self._queries = 0
        # The block is a copy, and so are the configurations in it.
        for module in block.modules():
            config = getattr(module, "config", None)
            if isinstance(config, PretrainedConfig):
                config._attn_implementation = _IMPLEMENTATION
                vars(module)[_WATCH] = self._add

    def _add(self, query: Tensor, key: Tensor, scaling: float) -> None:
        a = self._architecture
        found = query.new_zeros(a.num_heads, a.head_dim, a.head_dim)
        for row, keys in zip(query, key, strict=True):
            for head in range(a.num_heads):
                one = keys[head // a.heads_per_group]
                found[head] += _covariance(row[head], one, self._positions, scaling, a.rotary_channels // 2)
        self._sum = found if self._sum is None else self._sum + found
        self._queries += len(query) * len(self._positions)

    def finish(self) -> Tensor:
        """The Grams, averaged over queries."""
        if self._sum is None:
            raise ModelError(
                f"the attention of family '{self._family}' does not go through transformers' attention interface, so "
                'masks inside its heads cannot be scored; use space.attention = "kv_group"'
            )
        return self._sum / self._queries


def _covariance(query: Tensor, key: Tensor, positions: Tensor, scaling: float, pairs: int) -> Tensor:
    """Sum over some queries of the features' covariance: ``d x d``.

    Args:
        query: ``T x d`` of one head, turned.
        key: ``T x d`` of its KV head, turned.
        positions: Of the queries, ascending.
        scaling: Factor of the scores.
        pairs: Rotary pairs of a head.
    """
    result = query.new_zeros(query.shape[1], query.shape[1])
    for at in positions.to(query.device).split(_CHUNK):
        end = int(at[-1]) + 1
        q, k = (query[at] * scaling)[:, None], key[None, :end]
        real, imaginary, q_rest = q[..., :pairs], q[..., pairs : 2 * pairs], q[..., 2 * pairs :]
        k_real, k_imaginary, k_rest = k[..., :pairs], k[..., pairs : 2 * pairs], k[..., 2 * pairs :]
        features = torch.cat(
            [real * k_real + imaginary * k_imaginary, imaginary * k_real - real * k_imaginary, q_rest * k_rest], dim=-1
        )
        scores = (q[:, 0] @ key[:end].T).masked_fill(at[:, None] < torch.arange(end, device=at.device), -torch.inf)
        weights = scores.softmax(-1)
        mean = torch.einsum("ts,tsf->tf", weights, features)
        spread = ((features - mean[:, None]) * weights.sqrt()[..., None]).flatten(0, 1)
        result.addmm_(spread.T, spread)
    return result


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """Attention as transformers' ``sdpa``, for a module that somebody watches."""
    scaling = more.get("scaling")
    vars(module)[_WATCH](query, key, query.shape[-1] ** -0.5 if scaling is None else scaling)
    found: tuple[Tensor, None] = AttentionInterface()["sdpa"](module, query, key, value, attention_mask, **more)
    return found


AttentionInterface.register(_IMPLEMENTATION, _attention)
