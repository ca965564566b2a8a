"""Time of a workload, from latency tables of its prefill and of decoding at both ends of its answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas_llm.errors import SpaceError
from nas_llm.space import Genome, LatencyTable


@dataclass(frozen=True, kw_only=True)
class WorkloadTables:
    """Measured times of a model's sublayers under one workload.

    Args:
        prefill: Of the prompts up to their first tokens.
        decode: Of one more token behind the prompt, and of the last one, where that is another.
        new_tokens: Tokens decoded after the first.

    Raises:
        SpaceError: If there are not one or two tables of decoding, or no new tokens.
    """

    prefill: LatencyTable
    decode: tuple[LatencyTable, ...]
    new_tokens: int

    def __post_init__(self) -> None:
        if self.new_tokens < 1 or len(self.decode) not in (1, 2):
            raise SpaceError("tables of a workload need at least one new token, and one or two tables of decoding")

    def __call__(self, genome: Genome) -> float:
        """Predicted seconds of a genome.

        A step takes linearly more time with each token in the cache, so that all steps together take as long as if each
        took the mean of the first and the last.
        """
        steps = sum(table(genome) for table in self.decode) / len(self.decode)
        return self.prefill(genome) + self.new_tokens * steps

    @property
    def unit_seconds(self) -> tuple[float, float]:
        """What one more KV group and one more FFN channel take, on average."""
        group, channel = self.prefill.unit_seconds
        for table in self.decode:
            share = self.new_tokens / len(self.decode)
            more_group, more_channel = table.unit_seconds
            group, channel = group + share * more_group, channel + share * more_channel
        return group, channel

    @property
    def device(self) -> str:
        """Name of the device that they were measured on."""
        return self.prefill.device

    @property
    def dtype(self) -> str:
        """Type of the weights."""
        return str(self.prefill.settings.get("dtype", "float32"))

    def digest(self) -> str:
        """32 hex digits that identify all numbers and settings."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain-data form, for JSON; :meth:`from_dict` is its inverse."""
        return {
            "prefill": self.prefill.to_dict(),
            "decode": [table.to_dict() for table in self.decode],
            "new_tokens": self.new_tokens,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkloadTables:
        """Read what :meth:`to_dict` gave.

        Raises:
            SpaceError: If it is none.
        """
        try:
            return cls(
                prefill=LatencyTable.from_dict(data["prefill"]),
                decode=tuple(LatencyTable.from_dict(table) for table in data["decode"]),
                new_tokens=int(data["new_tokens"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SpaceError(f"not the tables of a workload: {type(error).__name__} {error}") from error
