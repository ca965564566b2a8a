"""Copies of the packaged test model, changed as checkpoints in the wild are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas_llm.models import PACKAGED_MODELS

WEIGHTS = "model.safetensors"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def changed(
    folder: Path,
    *,
    config: Mapping[str, Any] | None = None,
    weights: Callable[[dict[str, Tensor]], Any] = lambda state: None,
) -> Path:
    """A copy of the packaged model in a new folder.

    Args:
        folder: Where to.
        config: Keys of ``config.json`` to replace.
        weights: Changes the state dict in place.
    """
    shutil.copytree(PACKAGED_MODELS["tiny-llama"].locate(), folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **(config or {})}))
    state = load_file(folder / WEIGHTS)
    weights(state)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def own_head(state: dict[str, Tensor]) -> None:
    """An LM head of its own, beside the flag that says that there is none."""
    noise = torch.randn(state[EMBEDDING].shape, generator=torch.Generator().manual_seed(0))
    state[HEAD] = (state[EMBEDDING].float() * (1 + 0.3 * noise)).half()


def overwrite(file: Path) -> None:
    """Other weights in the same file, as ``cp`` and ``rsync --inplace`` leave them."""
    header = int.from_bytes(file.read_bytes()[:8], "little")
    with file.open("r+b") as opened:
        opened.seek(8 + header)
        opened.write(b"\x11" * (file.stat().st_size - 8 - header))
