"""Costs beside those that every model has: a stranger's, checked, and those that the package works out on demand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from nas_llm.errors import NasLlmError, SpaceError, first_line
from nas_llm.space._architecture import Architecture
from nas_llm.space._attention import BoolArray
from nas_llm.space._genome import Genome
from nas_llm.space.objectives import CostObjective, record_of

# Costs that are remembered: a search asks for the same genome several times, and others' code may be slow.
_MOST_KNOWN = 4096


class SizeCost(Protocol):
    """A cost that follows from a subnet's size alone, and rises with it linearly."""

    @property
    def name(self) -> str:
        """The objective."""

    def of_size(self, *, params: int, kv_cache_bytes: int) -> int:
        """The cost, above 0.

        Args:
            params: All parameters.
            kv_cache_bytes: KV-cache bytes per token at 2 bytes a value.
        """


class GenomeCost(Protocol):
    """A cost that no sum over units gives; it never falls with an inherited unit."""

    @property
    def name(self) -> str:
        """The objective."""

    @property
    def unit_costs(self) -> tuple[float, float]:
        """What one more KV group and one more FFN channel cost, on average."""

    def __call__(self, genome: Genome) -> float:
        """The cost of a genome, above 0 for the dense model."""


class FurtherCost:
    """Computes one further cost of genomes.

    Args:
        given: The objective: its class, or an object made of it.
        architecture: The dense model.

    Raises:
        SpaceError: If it is no objective, cannot be made, or does not give a number above 0 for the dense model.
    """

    def __init__(self, given: CostObjective | type[CostObjective], architecture: Architecture) -> None:
        kind = given if isinstance(given, type) else type(given)
        try:
            self.name = record_of(kind).name
        except TypeError as error:
            raise SpaceError(f"objective {kind.__name__} {error}") from error
        self._known: dict[str, float] = {}
        try:
            self._objective = given(architecture) if isinstance(given, type) else given
        except NasLlmError:
            raise
        except Exception as error:  # whatever a stranger's code raises
            raise SpaceError(
                f"objective {self.name!r} cannot be made: {type(error).__name__}: {first_line(error)}"
            ) from error
        self._dense = Genome.dense(architecture)
        value = self(self._dense)
        if value <= 0.0:
            raise SpaceError(
                f"objective {self.name!r} gives {value:g} for the dense model; it must be above 0, because a search "
                f"counts costs as shares of the dense model's"
            )

    def __call__(self, genome: Genome) -> float:
        """The cost of a genome.

        Raises:
            SpaceError: If the objective fails, or gives no finite number.
        """
        digest = genome.digest()
        if digest not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[digest] = self._compute(genome)
        return self._known[digest]

    @cached_property
    def unit_costs(self) -> tuple[float, float]:
        """What one more KV group and one more FFN channel cost, at least 0.

        Exact where the objective is a sum over units, else the mean slope from one unit a sublayer to all, everything
        else being there.
        """
        attn, mlp = self._dense.attn_mask, self._dense.mlp_mask
        layers = range(1 if self._objective.additive else len(attn))
        last = 1 if self._objective.additive else None
        fewer_groups, fewer_channels = _without(attn, layers, last), _without(mlp, layers, last)
        group = self._slope(Genome(fewer_groups, mlp), attn, fewer_groups)
        return group, self._slope(Genome(attn, fewer_channels), mlp, fewer_channels)

    def _slope(self, smaller: Genome, mask: BoolArray, fewer: BoolArray) -> float:
        return max(0.0, (self(self._dense) - self(smaller)) / int(mask.sum() - fewer.sum()))

    def _compute(self, genome: Genome) -> float:
        try:
            value = float(self._objective(genome))
        except NasLlmError:
            raise
        except Exception as error:  # whatever a stranger's code raises
            raise SpaceError(
                f"objective {self.name!r} fails for genome {genome.digest()[:8]}: {type(error).__name__}: "
                f"{first_line(error)}"
            ) from error
        if not math.isfinite(value):
            raise SpaceError(
                f"objective {self.name!r} gives {value} for genome {genome.digest()[:8]}; it must be a finite number"
            )
        return value


def _without(mask: BoolArray, layers: Sequence[int], count: int | None) -> BoolArray:
    """A mask whose first layers lack their last units: so many, or all but one; a single unit goes too."""
    fewer = np.array(mask)
    width = mask.shape[1]
    for layer in layers:
        fewer[layer, width - count if count is not None else min(1, width - 1) :] = False
    return fewer
