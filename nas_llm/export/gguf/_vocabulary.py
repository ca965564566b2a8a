"""Vocabularies of tokenizer.json files in the terms of llama.cpp."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gguf import TokenType

from nas_llm.errors import ExportError
from nas_llm.export.gguf._pretokenizer import pre_tokenizer_name

_SPACE = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Below every merge: pieces that no merge makes.
_UNMERGED = -1e6


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A tokenizer as GGUF states it.

    Attributes:
        model: ``gpt2`` (byte-level BPE) or ``llama`` (SentencePiece BPE).
        pre: Name of the pre-tokenizer.
        tokens: V texts.
        types: V token types.
        merges: Pairs of a byte-level BPE, first merge first.
        scores: V floats of a SentencePiece BPE, highest merges first.
        add_space_prefix: Whether text gets a space in front.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    add_space_prefix: bool


def read_vocabulary(tokenizer: Mapping[str, Any], vocab_size: int) -> Vocabulary:
    """Translate a ``tokenizer.json``.

    Args:
        tokenizer: The parsed file.
        vocab_size: Rows of the model's embedding; rows without a token become unused ones.

    Raises:
        ExportError: If llama.cpp has no such tokenizer, or it has tokens without a row.
    """
    model = tokenizer["model"]
    if model["type"] != "BPE":
        raise _refusal(f"it is a {model['type']} model, and BPE is what can be written")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise _refusal(f"its model has {key}, for which there is no form")
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    tokens, types = _tokens(tokenizer, vocab_size)
    if model.get("byte_fallback"):
        ranks: dict[str, int] = {}
        for rank, (left, right) in enumerate(merges):
            ranks.setdefault(left + right, rank)
        return Vocabulary(
            model="llama",
            pre="default",
            tokens=tokens,
            types=types,
            merges=[],
            scores=[float(-ranks[token]) if token in ranks else _UNMERGED for token in tokens],
            add_space_prefix=_space_prefix(tokenizer),
        )
    normalizer = tokenizer.get("normalizer")
    pre = pre_tokenizer_name(tokenizer.get("pre_tokenizer"), ignore_merges=bool(model.get("ignore_merges")))
    # Composed characters are what nearly all text has anyway, and llama.cpp composes for no model.
    if normalizer is not None and normalizer != {"type": "NFC"}:
        raise _refusal(f"its normalizer is {normalizer['type']}, for which there is no form")
    return Vocabulary(
        model="gpt2",
        pre=pre,
        tokens=tokens,
        types=types,
        merges=[" ".join(merge) for merge in merges],
        scores=[],
        add_space_prefix=False,
    )


def _tokens(tokenizer: Mapping[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    added = {token["id"]: token for token in tokenizer.get("added_tokens", ())}
    texts = {index: text for text, index in vocabulary.items()} | {
        index: token["content"] for index, token in added.items()
    }
    if texts and max(texts) >= vocab_size:
        raise _refusal(f"it has token ids up to {max(texts)}, and the embedding has {vocab_size} rows")
    unknown = tokenizer["model"].get("unk_token")
    byte_tokens = bool(tokenizer["model"].get("byte_fallback"))
    tokens, types = [], []
    for index in range(vocab_size):
        text = texts.get(index)
        tokens.append(f"[PAD{index}]" if text is None else text)
        if text is None:
            kind = TokenType.UNUSED
        elif byte_tokens and _BYTE.fullmatch(text):
            kind = TokenType.BYTE
        elif text == unknown:
            kind = TokenType.UNKNOWN
        elif index in added:
            kind = TokenType.CONTROL if added[index]["special"] else TokenType.USER_DEFINED
        else:
            kind = TokenType.NORMAL
        types.append(int(kind))
    return tokens, types


def _space_prefix(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a SentencePiece-like tokenizer puts a space in front of text.

    Raises:
        ExportError: If it does anything else to text.
    """
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    normalizer, splitter = tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")
    steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer]
    if splitter is None and steps == [{"type": "Prepend", "prepend": _SPACE}, replace]:
        return True
    if splitter is None and steps == [replace]:
        return False
    match splitter:
        case {"type": "Metaspace", "replacement": "▁", "split": False, "prepend_scheme": scheme} if not normalizer:
            return bool(scheme != "never")
    raise _refusal(
        f"its normalizer is {normalizer} and its pre-tokenizer {splitter}, not those of a SentencePiece model"
    )


def _refusal(reason: str) -> ExportError:
    return ExportError(
        f"gguf cannot express this tokenizer: {reason}; a GGUF file of the dense model as model.source hands its "
        "tokenizer on as it is"
    )
