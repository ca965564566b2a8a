"""Which of llama.cpp's pre-tokenizers splits text as a tokenizer.json does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nas_llm.errors import ExportError

# How the models that gave the pre-tokenizers their names split text, as their tokenizer.json files say.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA_3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST
_QWEN_2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _REST
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_Step = tuple[str | bool, ...]
_WORDS: _Step = ("bytes", True)
_BYTES: _Step = ("bytes", False)

# Steps and, where it matters, whether whole words are looked up before merging, to llama.cpp's name.
_NAMES: dict[tuple[tuple[_Step, ...], bool], str] = {
    ((_WORDS,), False): "gpt-2",
    ((("digits", True), _WORDS), False): "smollm",
    ((("split", _LLAMA_3), _BYTES), True): "llama-bpe",
    ((("split", _LLAMA_3), _BYTES), False): "dbrx",
    ((("split", _QWEN_2), _BYTES), False): "qwen2",
    ((("split", _TEKKEN), _BYTES), True): "tekken",
    # Its vocabulary comes from merges alone, so looking words up first changes nothing.
    ((("split", _TEKKEN), _BYTES), False): "tekken",
}
KNOWN_PRE_TOKENIZERS = tuple(dict.fromkeys(_NAMES.values()))


def pre_tokenizer_name(pre_tokenizer: Mapping[str, Any] | None, *, ignore_merges: bool) -> str:
    """llama.cpp's name of a byte-level BPE's pre-tokenizer.

    Args:
        pre_tokenizer: That part of a ``tokenizer.json``.
        ignore_merges: Its model's flag of this name.

    Raises:
        ExportError: If it is none of those known here.
    """
    name = _NAMES.get((tuple(_steps(pre_tokenizer)), ignore_merges))
    if name is None:
        raise ExportError(
            f"gguf cannot express this tokenizer: its pre-tokenizer is none of {', '.join(KNOWN_PRE_TOKENIZERS)} but "
            f"{json.dumps(pre_tokenizer)} with ignore_merges={str(ignore_merges).lower()}; a GGUF file of the dense "
            "model as model.source hands its tokenizer on as it is"
        )
    return name


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> Iterator[_Step]:
    """The parts of a pre-tokenizer that change where text is split."""
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": parts}:
            for part in parts:
                yield from _steps(part)
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": words}:
            yield ("bytes", words)
        case {"type": "ByteLevel", "add_prefix_space": False}:
            # Older files do not write the default.
            yield _WORDS
        case {"type": "Digits", "individual_digits": individual}:
            yield ("digits", individual)
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
            yield ("split", regex)
        case _:
            yield ("unknown",)
