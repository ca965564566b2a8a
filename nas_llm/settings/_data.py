"""Defaults of text: definitions, the library and the command take them from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Kinds of text of the source ``auto`` and their shares, and the kind that it leaves out, to be judged by.
AUTO_KINDS: Mapping[str, float] = {"prose": 5, "questions": 2, "chat": 2, "code": 1, "lists": 1, "dialogue": 1}
OFF_KIND = "letters"


@dataclass(frozen=True, kw_only=True)
class SourceDefaults:
    """Of one source of text: its column, and which split of a hub dataset."""

    column: str = "text"
    split: str = "train"


@dataclass(frozen=True, kw_only=True)
class SelfSampleDefaults:
    """Of text that the dense model writes itself."""

    temperature: float = 1.0
    document_tokens: int = 512
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class OffTextDefaults:
    """Of text of a kind that neither search nor finish see."""

    tokens: int = 4096


@dataclass(frozen=True, kw_only=True)
class QuestionDefaults:
    """Of questions with choices: how many, and how many tokens at most."""

    count: int = 64
    tokens: int = 8192
