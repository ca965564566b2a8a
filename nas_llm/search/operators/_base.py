"""What a variation operator is; a stranger's is a subclass of one of these, named in ``[search.operators]``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from nas_llm.errors import ConfigError
from nas_llm.plugins import named_faults
from nas_llm.search.operators._sensitivity import SensitivityModel
from nas_llm.search.operators.repair import GenomeRepair
from nas_llm.space import Architecture, CostModel, Genome, SearchSpace, UnitScores


class Mutation(ABC):
    """Makes a genome from a genome; what lies outside of the space is repaired afterwards.

    A subclass names what it needs of the search as arguments of its constructor, by the names of
    :class:`OperatorContext` (``space``, ``scores``, ``cost_model``, ...); its other arguments are settings, given
    beside ``use`` in the definition. All randomness comes from ``rng``, and an operator has no state that changes, or
    resumed searches would differ from unbroken ones.

    Attributes:
        final: Whether a genome that it changed is left alone by the mutations behind it.
    """

    final: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """The mutated genome; the same object where nothing was changed."""

    def force(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Change the genome whatever the probabilities say, if that is possible; by default nothing.

        Asked when all mutations of a search have left a genome as it was, the last one first.
        """
        return genome


class Crossover(ABC):
    """Makes two genomes from two genomes of the same shape; see :class:`Mutation` for the rules."""

    @abstractmethod
    def __call__(self, first: Genome, second: Genome, *, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """The two children."""


class Sampling(ABC):
    """Draws the first population; see :class:`Mutation` for the rules."""

    @abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> list[Genome]:
        """``count`` distinct genomes inside of the space, fewer only where it does not yield them."""


def checked_genomes(kind: str, operator: object, work: Callable[[], Any], *, like: Genome | None = None) -> Any:
    """What a mutation, crossover or sampling makes, refused by name where it fails or gives no genomes.

    Args:
        kind: What it is, for messages.
        operator: The operator.
        work: Calls it.
        like: A genome of the shape that all have to have; default: any shape.

    Raises:
        ConfigError: Names the operator.
    """
    with named_faults(kind, operator):
        found = work()
    wanted = {"mutation": "a genome", "crossover": "two genomes", "sampling": "a list of genomes"}[kind]
    made = [found] if kind == "mutation" else found
    fits = isinstance(made, list | tuple) and all(isinstance(genome, Genome) for genome in made)
    if not fits or (kind == "crossover" and len(made) != 2):
        raise ConfigError(f"{kind} {type(operator).__name__} returned {_shown(found)}; it should return {wanted}")
    if like is None:
        return found
    for genome in made:
        if (genome.attn_mask.shape, genome.mlp_mask.shape) != (like.attn_mask.shape, like.mlp_mask.shape):
            raise ConfigError(
                f"{kind} {type(operator).__name__} returned masks of {genome.attn_mask.shape} and "
                f"{genome.mlp_mask.shape}; they should stay {like.attn_mask.shape} and {like.mlp_mask.shape}"
            )
        if not genome.like(like):
            raise ConfigError(
                f"{kind} {type(operator).__name__} returned attention masks of mode {genome.layout.mode}; the search "
                f"has {like.layout.mode}: make genomes by with_masks or with_rows of the given one"
            )
    return found


def _shown(found: Any) -> str:
    if isinstance(found, list | tuple):
        kinds = dict.fromkeys(type(part).__name__ for part in found)
        return f"{type(found).__name__} of {len(found)} ({', '.join(kinds)})"
    return "None" if found is None else type(found).__name__


@dataclass(frozen=True, kw_only=True)
class OperatorContext:
    """What of a search an operator's constructor may ask for, by these names.

    Attributes:
        space: Where genomes have to lie.
        scores: Importance of all units.
        cost_model: Exact costs of genomes.
        repair: Brings genomes into space and constraints.
        sensitivities: What the evaluations so far have taught about each layer.
        prices: Names of the cost objectives.
        start: Genomes that the first population takes in.
    """

    space: SearchSpace
    scores: UnitScores
    cost_model: CostModel
    repair: GenomeRepair
    sensitivities: SensitivityModel
    prices: Sequence[str] = ("macs_per_token",)
    start: Sequence[Genome] = field(default=())

    @property
    def architecture(self) -> Architecture:
        """Sizes of the dense model."""
        return self.space.architecture


def check_shares(**values: float) -> None:
    """Refuse settings of an operator, by name, that are no probabilities or shares.

    Raises:
        ConfigError: If one is not in [0, 1].
    """
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"{name} must be in [0, 1], got {value}")
