"""Defaults of text: definitions, the library and the command take them from here."""

from __future__ import annotations

from dataclasses import dataclass


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
class QuestionDefaults:
    """Of questions with choices: how many, and how many tokens at most."""

    count: int = 64
    tokens: int = 8192
