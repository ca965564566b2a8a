"""Loading an export for use: one call, no questions about code that it carries."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.errors import ModelError
from nas_llm.evaluation._measured import load_any

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


def load(directory: str | Path, *, dtype: torch.dtype | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what ``nas-llm export`` wrote in the format ``hf``.

    The classes of this package are used; the modelling file that the export carries is never run, so transformers
    asks nothing about remote code.

    Args:
        directory: The export, e.g. ``exports/p03/hf``.
        dtype: Type of the weights; None = as they were saved.

    Returns:
        The model in evaluation mode on the CPU, and its tokenizer.

    Raises:
        ModelError: If it is no such directory, or incomplete; says what is accepted.
    """
    path = Path(directory).expanduser()
    accepted = "load takes the hf directory of an export, e.g. exports/p03/hf"
    if path.suffix == ".gguf" or (path.is_dir() and not (path / "config.json").is_file() and any(path.glob("*.gguf"))):
        raise ModelError(f"{path} is GGUF, which llama.cpp runs; {accepted}")
    if not path.is_dir():
        raise ModelError(f"no such directory: {path}; {accepted}")
    if not (path / "config.json").is_file():
        inside = path / "hf"
        hint = f"; did you mean {inside}?" if (inside / "config.json").is_file() else ""
        raise ModelError(f"{path} is no export: it has no config.json; {accepted}{hint}")
    if (path / "configuration_decilm.py").is_file():
        raise ModelError(f"{path} is DeciLM, which vLLM and SGLang run; {accepted}")
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(f"{path} has no tokenizer; copy the dense model's tokenizer files there")
    return load_any(str(path), dtype=dtype)
