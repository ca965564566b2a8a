"""A model of what each layer's units are worth, learned from the evaluations of the run itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from nas_llm.space import Architecture, AttentionLayout, FloatArray, Genome

# Loss grows faster than the share of units that is lost, because the least important ones go first.
EXPONENT = 1.5
_LEAST_ROWS = 16
_RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


class Sensitivities(NamedTuple):
    """Loss of quality if all units of a sublayer were lost, in search scale; all positive.

    Attributes:
        attn: ``L`` floats, of whole KV groups.
        mlp: ``L`` floats.
        heads: For each kind of unit inside heads ``L`` floats.
    """

    attn: FloatArray
    mlp: FloatArray
    heads: tuple[FloatArray, ...] = ()


class SensitivityModel:
    """Bayesian linear regression of quality on the share of units that each sublayer has lost.

    ``quality = intercept + sum_l s_attn[l] * x_attn[l]**1.5 + s_mlp[l] * x_mlp[l]**1.5`` with a common mean for all
    attention and one for all FFN sensitivities and Gaussian deviations from them; masks inside heads add a sum for each
    kind of unit (where all KV groups stay, its share of lost channels stands for ``x_attn``); ln(perplexity) of real
    models is close to additive over layers. Bad subnets weigh less, for it is the good ones that a search has to tell
    apart. Fitted anew after each generation on everything that was evaluated.

    Args:
        architecture: The dense model.
        layout: Of the attention masks; default ``kv_group``.
        whole_groups: Whether all KV groups of a sublayer that is there stay, so that there is nothing to learn of them.
    """

    def __init__(
        self, architecture: Architecture, layout: AttentionLayout | None = None, *, whole_groups: bool = False
    ) -> None:
        self._architecture = architecture
        self._axes = len(layout.axes) if layout is not None else 0
        self._of_groups = not (whole_groups and self._axes)
        self._features: dict[str, FloatArray] = {}
        self._mean: FloatArray | None = None
        self._scale = 0.0
        self._cholesky: FloatArray | None = None

    @property
    def fitted(self) -> bool:
        """Whether there was enough to learn from."""
        return self._mean is not None

    def knows(self, digest: str) -> bool:
        """Whether a genome was seen in an earlier fit, so that it need not be unpacked again."""
        return digest in self._features

    def features(self, genome: Genome) -> FloatArray:
        """``2 L`` or more numbers in [0, 1]: the lost share of each attention, then of each FFN, to the power 1.5.

        With masks inside heads the lost shares of each kind of unit stand before those of the FFN.
        """
        lost = [1.0 - genome.kv_groups / self._architecture.num_kv_heads] if self._of_groups else []
        lost += [1.0 - width / self._architecture.head_dim for width in genome.head_widths]
        lost.append(1.0 - genome.ffn_channels / self._architecture.intermediate_size)
        return np.asarray(np.concatenate(lost) ** EXPONENT, dtype=np.float64)

    def fit(self, evaluations: Iterable[tuple[str, Genome | None, float]]) -> None:
        """Learn from evaluations.

        Args:
            evaluations: Triples of digest, genome (None if :meth:`knows` says so) and quality in search scale. All of
                them every time: the result depends on nothing else.
        """
        rows, values = [], []
        for digest, genome, quality in evaluations:
            if genome is not None:
                self._features[digest] = self.features(genome)
            rows.append(self._features[digest])
            values.append(quality)
        self._mean = self._cholesky = None
        if len(rows) >= _LEAST_ROWS:
            self._solve(np.stack(rows), np.array(values))

    def _solve(self, rows: FloatArray, values: FloatArray) -> None:
        layers = self._architecture.num_layers
        kinds = [rows[:, first : first + layers].sum(axis=1) for first in range(0, rows.shape[1], layers)]
        means = np.column_stack([np.ones(len(rows)), *kinds])
        weights = 1.0 / (0.3 + values - values.min())
        design = np.column_stack([means, rows]) * weights[:, None]
        target = values * weights
        least = np.inf
        for ridge in _RIDGES:
            penalty = np.concatenate([np.full(means.shape[1], 1e-6), np.full(rows.shape[1], ridge)])
            precision = design.T @ design + np.diag(penalty)
            solution = np.linalg.solve(precision, design.T @ target)
            # Generalised cross-validation: residuals as if each row had been left out.
            fitted = float(np.trace(np.linalg.solve(precision, design.T @ design)))
            freedom = max(len(rows) - fitted, 1e-3)
            residual = float(((target - design @ solution) ** 2).sum())
            if residual / freedom**2 < least:
                least = residual / freedom**2
                self._mean, self._scale = solution, float(np.sqrt(residual / freedom))
                # A Cholesky factor is continuous in its input where eigenvectors are not, so draws repeat even if
                # another number of BLAS threads rounds differently.
                self._cholesky = np.linalg.cholesky(precision)

    def draw(self, rng: np.random.Generator) -> Sensitivities:
        """Sensitivities from the posterior (Thompson sampling: what is uncertain gets tried)."""
        assert self._mean is not None
        assert self._cholesky is not None
        noise = np.linalg.solve(self._cholesky.T, rng.standard_normal(len(self._mean)))
        sample = np.round(self._mean + self._scale * noise, 8)
        layers, kinds = self._architecture.num_layers, self._of_groups + self._axes + 1
        deviations = sample[1 + kinds :].reshape(kinds, layers)
        found = [mean + own for mean, own in zip(sample[1 : 1 + kinds], deviations, strict=True)]
        floor = 0.02 * max(*(float(np.abs(kind).mean()) for kind in found), 1e-9)
        *attention, mlp = [np.maximum(kind, floor) for kind in found]
        attn = attention.pop(0) if self._of_groups else np.full(layers, np.inf)
        return Sensitivities(attn, mlp, tuple(attention))
