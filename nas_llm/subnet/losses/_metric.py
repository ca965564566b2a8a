"""What a subnet is measured by: which loss of a token or question, how its mean is told, and sums of several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_llm.errors import ConfigError
from nas_llm.hints import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to measure subnets.

    Attributes:
        name: The quality objective.
        against_dense: Whether a token's loss is the KL divergence from the dense model's distribution, else its
            negative log-likelihood.
        exponential: Whether the value is exp(mean loss), else the mean loss itself.
        asks: Whether it is a loss of questions, else of tokens.
    """

    name: str
    against_dense: bool = False
    exponential: bool = False
    asks: bool = False

    def value(self, loss: float) -> float:
        """The value of a mean token loss."""
        if not self.exponential:
            return loss
        # A subnet that is broken beyond float range is bad, not an error.
        return math.exp(min(loss, 80.0)) if math.isfinite(loss) else math.exp(80.0)

    def loss(self, value: float) -> float:
        """Inverse of :meth:`value`; what is not finite stays."""
        return math.log(value) if self.exponential and math.isfinite(value) else value


_METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="perplexity", exponential=True),
        Metric(name="kl", against_dense=True),
        Metric(name="margin", asks=True),
    )
}


_SUM = "fitness"


@dataclass(frozen=True, kw_only=True)
class Term:
    """One loss in the sum that a subnet is measured by.

    Attributes:
        metric: Which loss.
        weight: What its mean is multiplied by.
    """

    metric: Metric
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What a subnet is measured by: one loss in its own scale, or a weighted sum of the mean losses of several.

    Attributes:
        name: The quality objective.
        terms: Its losses.
    """

    name: str
    terms: tuple[Term, ...]

    @property
    def asks(self) -> bool:
        """Whether it needs questions."""
        return any(term.metric.asks for term in self.terms)

    @property
    def reads(self) -> bool:
        """Whether it needs windows of text."""
        return not all(term.metric.asks for term in self.terms)

    @property
    def raced(self) -> Metric | None:
        """Its metric, where part of the text gives an estimate of the whole."""
        return None if self.name == _SUM or self.asks else self.terms[0].metric

    @property
    def identity(self) -> str:
        """Name, with the weights of a sum, for caches."""
        weights = ",".join(f"{term.metric.name}={term.weight!r}" for term in self.terms)
        return f"{self.name}({weights})" if self.name == _SUM else self.name

    def value(self, losses: Sequence[float]) -> float:
        """The value of the terms' mean losses, in the order of the terms."""
        if self.name != _SUM:
            return self.terms[0].metric.value(losses[0])
        return sum(term.weight * loss for term, loss in zip(self.terms, losses, strict=True))


def quality_named(name: str, weights: Mapping[str, float] | None = None) -> Quality:
    """A quality objective; ``fitness`` is the sum of the terms in ``weights``, in the order of their names.

    Args:
        name: ``perplexity``, ``kl``, ``margin`` or ``fitness``.
        weights: Names and weights of the terms of ``fitness``.

    Raises:
        ConfigError: If a name is unknown, or ``fitness`` has no terms.
    """
    if name != _SUM:
        return Quality(name=name, terms=(Term(metric=_metric_named(name, (*_METRICS, _SUM))),))
    if not weights:
        raise ConfigError(f"the metric {_SUM} is a sum of terms; give their weights, e.g. kl = 1.0, margin = 0.5")
    terms = tuple(Term(metric=_metric_named(key, _METRICS), weight=weights[key]) for key in sorted(weights))
    return Quality(name=name, terms=terms)


def _metric_named(name: str, known: Iterable[str]) -> Metric:
    if name not in _METRICS:
        hint = did_you_mean(name, known, 0.4)
        raise ConfigError(f"unknown fitness metric '{name}'; {hint}{' ' if hint else ''}known are {', '.join(known)}")
    return _METRICS[name]
