"""GGUF files become plain model directories, once."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.cache import cache_dir, keep_folder
from nas_llm.errors import ModelError, first_line

logger = logging.getLogger(__name__)


def convert_gguf(path: Path, revision: str) -> Path:
    """Directory with the de-quantised float32 model of a GGUF file; made on first use, kept in the cache folder.

    Args:
        path: The ``.gguf`` file.
        revision: Its content hash.

    Raises:
        ModelError: If transformers cannot read the file, or the cache folder cannot be written.
    """
    target = cache_dir() / "models" / revision.removeprefix("sha256:")

    def make(folder: Path) -> None:
        model, tokenizer = _read(path)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    keep_folder(target, make, witness="config.json", error=ModelError)
    return target


def _read(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    where, name = str(path.parent), path.name
    try:
        # The converter draws a progress bar that no setting turns off.
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
            loaded = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    except Exception as error:  # transformers and gguf raise many kinds for a file they do not understand
        logger.debug("reading %s failed", path, exc_info=True)
        raise ModelError(f"cannot read the GGUF file {path}: {first_line(error)}") from error
    # The loaded configuration claims to be quantised, and save_pretrained then refuses.
    values = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    # The packer's working title, shown to nobody.
    values.pop("_name_or_path", None)
    model = type(loaded)(type(loaded.config)(**values))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    return model.eval(), tokenizer
