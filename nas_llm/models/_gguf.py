"""GGUF files become plain model directories, once."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.cache import cache_dir, keep_folder
from nas_llm.errors import ModelError, first_line
from nas_llm.models._identity import file_revision
from nas_llm.models._own_exports import refuse_own_gguf
from nas_llm.models._whole import check_whole, listed, silent_report

logger = logging.getLogger(__name__)

# What an export whose blocks are alike calls itself.
_PLAIN = "llama"


def convert_gguf(path: Path, revision: str) -> Path:
    """Directory with the de-quantised float32 model of a GGUF file; made on first use, kept in the cache folder.

    Args:
        path: The ``.gguf`` file.
        revision: Its content hash.

    Raises:
        ModelError: If transformers cannot read the file or not all of it, or the cache folder cannot be written.
    """
    target = cache_dir() / "models" / revision.removeprefix("sha256:")

    def make(folder: Path) -> None:
        model, tokenizer = _read(path)
        if file_revision(path) != revision:
            raise ModelError(f"{path} was changed while it was read; leave the file alone and start again")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    keep_folder(target, make, witness="config.json", error=ModelError)
    return target


def _read(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    where, name = str(path.parent), path.name
    try:
        file = gguf.GGUFReader(path)
        architecture = str(_value(file, "general.architecture"))
        own = _value(file, "nas_llm.genome") is not None
    except Exception as error:  # gguf raises many kinds for a file that is damaged
        raise _unreadable(path, error) from error
    if own and architecture != _PLAIN:
        refuse_own_gguf(path, architecture)
    try:
        # The converter draws a progress bar that no setting turns off.
        with contextlib.redirect_stderr(io.StringIO()), silent_report():
            tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
            answer: Any = AutoModelForCausalLM.from_pretrained(
                where, gguf_file=name, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # and so does transformers for one that it does not understand
        raise _unreadable(path, error) from error
    loaded, found = answer
    check_whole(loaded, str(path), missing=found["missing_keys"])
    _refuse_unread(file, architecture, loaded, path)
    # The loaded configuration claims to be quantised, and save_pretrained then refuses.
    values = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    # The packer's working title, shown to nobody.
    values.pop("_name_or_path", None)
    model = type(loaded)(type(loaded.config)(**values))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    return model.eval(), tokenizer


def _refuse_unread(file: gguf.GGUFReader, architecture: str, model: PreTrainedModel, path: Path) -> None:
    """Refuse a file with weights or rotary scaling that transformers leaves out without a word.

    Raises:
        ModelError: If it has any; names them.
    """
    arch = next((key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture), None)
    unread = []
    if arch is not None:
        names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
        read = {names.get_name(name, (".weight", ".bias")) for name in model.state_dict()}
        # A name without a counterpart: a family that transformers stores otherwise, of which this says nothing.
        unread = [] if None in read else sorted({tensor.name for tensor in file.tensors} - read)
    scaling = _value(file, f"{architecture}.rope.scaling.type")
    rotary = getattr(model.config, "rope_parameters", None) or {}
    if scaling not in (None, "none") and rotary.get("rope_type", "default") == "default":
        unread.append(f"{architecture}.rope.scaling.type = {scaling}")
    if unread:
        raise ModelError(
            f"{path} holds {listed(unread)}, which transformers does not read, so it would be another model; take the "
            "model's own safetensors directory"
        )


def _value(file: gguf.GGUFReader, key: str) -> Any:
    """A metadata value; None where there is none."""
    field = file.get_field(key)
    return None if field is None else field.contents()


def _unreadable(path: Path, error: Exception) -> ModelError:
    logger.debug("reading %s failed", path, exc_info=True)
    # Where it has no model of that kind, transformers names all that it has.
    reason = first_line(error).partition(" Should contain one of")[0]
    return ModelError(f"cannot read the GGUF file {path}: {reason}")
