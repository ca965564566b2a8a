"""What a subnet is measured by: which loss of a token, and how its mean is told."""

from __future__ import annotations

import math
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
    """

    name: str
    against_dense: bool
    exponential: bool

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
        Metric(name="perplexity", against_dense=False, exponential=True),
        Metric(name="kl", against_dense=True, exponential=False),
    )
}


def metric_named(name: str) -> Metric:
    """The metric of a quality objective.

    Raises:
        ConfigError: If it is unknown.
    """
    if name not in _METRICS:
        hint = did_you_mean(name, _METRICS, 0.4)
        raise ConfigError(
            f"unknown fitness metric '{name}'; {hint}{' ' if hint else ''}known are {', '.join(_METRICS)}"
        )
    return _METRICS[name]
