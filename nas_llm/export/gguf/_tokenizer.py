"""Tokenizer metadata of a GGUF file: handed on from a GGUF source, else translated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType
from transformers import PreTrainedTokenizerBase

from nas_llm.errors import ExportError
from nas_llm.export.gguf._vocabulary import Vocabulary, read_vocabulary
from nas_llm.models import PACKAGED_MODELS, DenseModel

_IDS = {"bos": "bos_token_id", "eos": "eos_token_id", "unknown": "unk_token_id", "padding": "pad_token_id"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One key of a GGUF file.

    Attributes:
        key: Its name.
        value: A number, text, truth value or list of such.
        kind: Its type.
        item_kind: Type of a list's items.
    """

    key: str
    value: Any
    kind: GGUFValueType
    item_kind: GGUFValueType | None = None


def tokenizer_fields(dense: DenseModel) -> list[Field]:
    """All ``tokenizer.*`` keys for exports of a dense model.

    Raises:
        ExportError: If llama.cpp has no form for its tokenizer.
    """
    source = _source_file(dense.source)
    if source is not None:
        return _copied(source, dense.architecture.vocab_size)
    if dense.tokenizer is None:
        raise ExportError("gguf needs a tokenizer, and the dense model has none; hf does without")
    backend = getattr(dense.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError(
            "gguf cannot express this tokenizer: it has no tokenizer.json; a GGUF file of the dense model as "
            "model.source hands its tokenizer on as it is"
        )
    vocabulary = read_vocabulary(json.loads(backend.to_str()), dense.architecture.vocab_size)
    return list(_translated(vocabulary, dense.tokenizer))


def _source_file(source: str) -> Path | None:
    path = PACKAGED_MODELS[source].locate() if source in PACKAGED_MODELS else Path(source).expanduser()
    return path if path.suffix == ".gguf" and path.is_file() else None


def _copied(path: Path, vocab_size: int) -> list[Field]:
    fields = []
    for key, field in GGUFReader(path).fields.items():
        if not key.startswith("tokenizer."):
            continue
        value = field.contents()
        if key == "tokenizer.ggml.tokens" and len(value) != vocab_size:
            raise ExportError(f"{path.name} names {len(value)} tokens, and the embedding has {vocab_size} rows")
        item_kind = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        fields.append(Field(key=key, value=value, kind=field.types[0], item_kind=item_kind))
    return fields


def _translated(vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase) -> Iterator[Field]:
    yield _text("tokenizer.ggml.model", vocabulary.model)
    yield _text("tokenizer.ggml.pre", vocabulary.pre)
    for name, values, kind in (
        ("tokens", vocabulary.tokens, GGUFValueType.STRING),
        ("token_type", vocabulary.types, GGUFValueType.INT32),
        ("merges", vocabulary.merges, GGUFValueType.STRING),
        ("scores", vocabulary.scores, GGUFValueType.FLOAT32),
    ):
        if values:
            yield Field(key=f"tokenizer.ggml.{name}", value=values, kind=GGUFValueType.ARRAY, item_kind=kind)
    for name, attribute in _IDS.items():
        index = getattr(tokenizer, attribute, None)
        if index is not None:
            yield Field(key=f"tokenizer.ggml.{name}_token_id", value=index, kind=GGUFValueType.UINT32)
    ids = tokenizer("a")["input_ids"]
    for key, value in (
        ("add_bos_token", tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id),
        ("add_eos_token", tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id),
        ("add_space_prefix", vocabulary.add_space_prefix),
    ):
        yield Field(key=f"tokenizer.ggml.{key}", value=value, kind=GGUFValueType.BOOL)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if template:
        yield _text("tokenizer.chat_template", template)


def _text(key: str, value: str) -> Field:
    return Field(key=key, value=value, kind=GGUFValueType.STRING)
