"""Defaults of an export: the library and the command take them from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExportDefaults:
    """Formats, the largest weight file, whether heads are padded, and points at a time."""

    formats: tuple[str, ...] = ("hf",)
    max_shard_size: str = "5GB"
    pad: bool = False
    jobs: int = 1
