"""What a search can minimise: one record for each objective, built in or a stranger's."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, TypeVar

from nas_llm import display
from nas_llm.errors import ConfigError, first_line
from nas_llm.plugins import Registry
from nas_llm.space._architecture import Architecture
from nas_llm.space._genome import Genome

# ln(perplexity) of a broken subnet is cut here, far above ln(vocabulary), to keep all arithmetic finite.
WORST_LOG = 100.0


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Everything that the package knows of one objective; all objectives are minimised.

    Attributes:
        name: What tables, histories and problem definitions call it.
        kind: ``quality`` = measured by running a subnet on text; ``cost`` = computed from the genome.
        title: For axes and column heads.
        short: For narrow column heads; default: the title.
        unit: Of its values; empty for a pure number.
        show: A value for a person, with its unit where it has one.
        scale: How a search sees it: ``log`` = its natural logarithm, ``linear`` = as it is, ``share`` = as a fraction
            of the dense model's value.
        additive: Whether it is a sum over units, so that one more unit costs the same everywhere.
        dense: The dense model's value where it is known without measuring.
        of: What a measured one is a mean loss of, or ``terms`` = a weighted sum of others.
        reported: Whether it is the perplexity that every front reports, so that its points have it already.
        timed: Whether it is predicted from a table of measured times, which has to be there first.
        aliases: Other names that definitions may use.
        model: For costs that are not fields of :class:`nas_llm.space.Cost`: makes the function that computes them.
    """

    name: str
    kind: Literal["quality", "cost"]
    title: str
    short: str = ""
    unit: str = ""
    show: Callable[[float], str] = display.count
    scale: Literal["log", "linear", "share"] = "share"
    additive: bool = False
    dense: float | None = None
    of: Literal["tokens", "questions", "terms"] = "tokens"
    reported: bool = False
    timed: bool = False
    aliases: tuple[str, ...] = ()
    model: type[CostObjective] | None = None

    @property
    def measured(self) -> bool:
        """Whether it is a quality objective."""
        return self.kind == "quality"

    @property
    def head(self) -> str:
        """For narrow column heads."""
        return self.short or self.title

    @property
    def label(self) -> str:
        """Title and unit, for axes."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def scaled(self, value: float, dense: float) -> float:
        """A raw value as a search sees it; always finite for measured objectives.

        Args:
            value: The raw value.
            dense: The dense model's, for costs.
        """
        if self.scale == "share":
            return value / dense
        if self.scale == "log":
            value = math.log(value) if value > 0.0 else math.nan
        return WORST_LOG if math.isnan(value) else min(value, WORST_LOG)

    def raw(self, scaled: float, dense: float) -> float:
        """Inverse of :meth:`scaled`."""
        if self.scale == "share":
            return scaled * dense
        return math.exp(scaled) if self.scale == "log" else scaled


class CostObjective(ABC):
    """A cost that a stranger computes from genomes: subclass it, and name the class in ``objectives``.

    The class attributes are those of its :class:`Objective`. One object is made for each dense model.

    Args:
        architecture: The dense model.

    Attributes:
        name: What tables, histories and files call it: letters, digits and ``_``.
        title: For axes and column heads; default: the name.
        unit: Of its values.
        additive: Whether one more unit costs the same everywhere.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    additive: ClassVar[bool] = False

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture

    @abstractmethod
    def __call__(self, genome: Genome) -> float:
        """The cost of a genome: finite, above 0 for the dense model, and a function of the genome alone."""

    @classmethod
    def show(cls, value: float) -> str:
        """A value for a person; default: a few digits and the unit."""
        return display.quantity(value, cls.unit)

    @classmethod
    def record(cls) -> Objective:
        """The record of this objective."""
        return Objective(
            name=cls.name,
            kind="cost",
            title=cls.title or cls.name,
            unit=cls.unit,
            show=cls.show,
            additive=cls.additive,
            model=cls,
        )


BUILT_IN = (
    Objective(
        name="perplexity", kind="quality", title="perplexity", show=display.perplexity, scale="log", reported=True
    ),
    Objective(
        name="kl",
        kind="quality",
        title="KL divergence from the dense model",
        short="KL",
        unit="nats per token",
        show="{:.4f}".format,
        scale="linear",
        dense=0.0,
    ),
    Objective(
        name="margin",
        kind="quality",
        title="loss of the right answer against the wrong ones",
        short="margin loss",
        unit="nats per question",
        of="questions",
        show="{:.4f}".format,
        scale="linear",
    ),
    Objective(
        name="fitness",
        kind="quality",
        title="weighted sum of losses",
        of="terms",
        short="fitness",
        show="{:.4f}".format,
        scale="linear",
    ),
    Objective(name="macs_per_token", kind="cost", title="MACs per token", additive=True),
    Objective(name="params", kind="cost", title="parameters", additive=True),
    Objective(name="block_params", kind="cost", title="parameters in decoder blocks", additive=True),
    Objective(
        name="kv_cache_bytes", kind="cost", title="KV-cache bytes per token", additive=True, aliases=("kv_cache",)
    ),
    Objective(
        name="latency",
        kind="cost",
        title="predicted latency",
        short="latency",
        unit="seconds",
        show=display.latency,
        timed=True,
    ),
)
"""The objectives that the package has itself."""

# What a workload costs, behind its name and a point: chat.seconds.
_WORKLOAD_COSTS = {
    "seconds": ("predicted time", "seconds", display.latency, False),
    "memory": ("predicted memory", "bytes", display.size, True),
}

# Names that a stranger's cost would be confused with.
_TAKEN = {"inheriting_ratio", "further"}.union(*({known.name, *known.aliases} for known in BUILT_IN))


def record_of(found: object) -> Objective:
    """The record of a class that computes a cost.

    Raises:
        TypeError: If it is none; the rest of a sentence about it.
    """
    if any(found is known for known in BUILT_IN):
        assert isinstance(found, Objective)
        return found
    if not (isinstance(found, type) and issubclass(found, CostObjective)):
        raise TypeError("is no subclass of nas_llm.space.CostObjective")
    name = getattr(found, "name", None)
    if not isinstance(name, str):
        raise TypeError('has no name; give the class an attribute name = "..."')
    if not (name.isascii() and name.isidentifier()):
        raise TypeError(f"has the name {name!r}; use letters, digits and _")
    if name in _TAKEN:
        raise TypeError(f"has the name {name!r}, which the package uses itself; give it another")
    if inspect.isabstract(found):
        raise TypeError("does not say what a genome costs; give it a method __call__(self, genome)")
    try:
        shown = found.show(1.0)
    except Exception as error:  # whatever a stranger's code raises
        raise TypeError(f"has a show(value) that fails: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(shown, str):
        raise TypeError(f"has a show(value) that gives {type(shown).__name__}, not a string")
    return found.record()


OBJECTIVES: Registry[Objective] = Registry("objective", record_of)
"""All objectives by name."""

for _known in BUILT_IN:
    OBJECTIVES.add(_known.name, _known)


Own = TypeVar("Own", bound=type[CostObjective])


def register_objective(name: str) -> Callable[[Own], Own]:
    """Class decorator: definitions may name the cost by ``name``.

    Args:
        name: The name; none of the package's own.

    Raises:
        ConfigError: If the name is taken, or the class is no cost.
    """
    return OBJECTIVES.register(name)


def objective(name: str) -> Objective:
    """The record of an objective by its name, an alias, or a ``"module:Class"`` that was loaded before.

    A name that nobody knows (a file of another machine may hold one) stands for a cost without further facts; nothing
    is ever loaded here.

    Args:
        name: What a definition, history or front calls it.
    """
    found = OBJECTIVES.known(name)
    if found is not None:
        return found
    for known in reversed(list(OBJECTIVES.values())):
        if name == known.name or name in known.aliases:
            return known
    return workload_objective(name) or plain_cost(name)


def workload_objective(name: str) -> Objective | None:
    """The record of ``WORKLOAD.seconds`` or ``WORKLOAD.memory``; None for any other name.

    Args:
        name: Its name.
    """
    workload, _, what = name.rpartition(".")
    if not workload or what not in _WORKLOAD_COSTS:
        return None
    title, unit, show, additive = _WORKLOAD_COSTS[what]
    return Objective(
        name=name, kind="cost", title=f"{workload}: {title}", short=name, unit=unit, show=show, additive=additive
    )


def plain_cost(name: str, *, title: str = "", unit: str = "") -> Objective:
    """The record of a cost whose class is not at hand.

    Args:
        name: Its name.
        title: For axes and column heads; default: the name.
        unit: Of its values.
    """
    return Objective(name=name, kind="cost", title=title or name, unit=unit, show=partial(display.quantity, unit=unit))


def is_quality(name: str) -> bool:
    """Whether an objective is measured by running subnets on text."""
    return objective(name).measured


def quality_names() -> tuple[str, ...]:
    """Names of all measured objectives."""
    return tuple(known.name for known in OBJECTIVES.values() if known.measured)


def cost_names() -> tuple[str, ...]:
    """Names of all costs that are built in or were registered."""
    return tuple(known.name for known in OBJECTIVES.values() if not known.measured)


def the_quality(names: Sequence[str]) -> str:
    """The measured one of some objectives.

    Raises:
        ConfigError: If none is.
    """
    for name in names:
        if is_quality(name):
            return name
    raise ConfigError(f"objectives must name exactly one of {', '.join(quality_names())}, got {list(names)}")
