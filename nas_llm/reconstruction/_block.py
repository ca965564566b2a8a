"""Refit of one sliced block: its output projections, and its queries where masks lie inside heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nas_llm.calibration import Gram
from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel
from nas_llm.reconstruction._admm import AdmmRefit
from nas_llm.reconstruction._closed_form import closed_form
from nas_llm.reconstruction._queries import refit_queries
from nas_llm.reconstruction._refit import Projection, Refit
from nas_llm.settings import ReconstructionDefaults, several
from nas_llm.space import BoolArray


class GramSource(Protocol):
    """Grams of a dense model on some text, such as a calibration."""

    @property
    def key(self) -> str:
        """Identity of model and text."""

    def grams(self, layer: int) -> tuple[Gram, Gram]:
        """Grams of the inputs of a block's o and fc2."""

    def score_gram(self, layer: int) -> Tensor:
        """What the channels of q and k add to the attention scores: ``H x d x d``; for masks inside heads alone."""


class Solver(Protocol):
    """Refits one projection, as :func:`closed_form` does."""

    def __call__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        gram: Gram,
        kept: BoolArray,
        *,
        damping: float,
        dtype: torch.dtype,
        residuals: bool,
    ) -> Refit:
        """The refitted projection."""


@dataclass(frozen=True)
class Residual:
    """Relative squared output error of one projection, before and after its refit."""

    layer: int
    projection: str
    before: float
    after: float


@dataclass(frozen=True)
class BlockResidual(Residual):
    """Residual of a refit on the dense model's inputs.

    Attributes:
        damping: The damping that was used.
        held_out: Residual on the held-out text, solved without it; None if there was nothing to choose.
        primal: ||V - Z|| / ||W|| after the last iteration of ADMM; None for other solvers.
        dual: rho ||Z - Z_previous|| / ||W|| after it; None for other solvers.
    """

    damping: float
    held_out: float | None
    primal: float | None
    dual: float | None


class BlockReconstructor:
    """Reconstruction of single blocks from the dense model's Grams (non-sequential).

    Output projections are solved for; queries whose heads lost channels get factors (see :func:`refit_queries`).

    Args:
        dense: The model that subnets inherit from.
        calibration: Its Grams.
        damping: Ridge on the update, fraction of the mean diagonal. Of several, each projection takes the one with the
            least residual on ``held_out``, and is then refitted on both texts.
        held_out: Grams of other text, to choose between several dampings.
        solve: The solver.
        label: What the solver is called, its settings included.
        device: Where to solve.
        dtype: Arithmetic of the solve; float64 for models that are kept, float32 is enough to evaluate candidates.
        residuals: Whether to record residuals.

    Attributes:
        residuals: In the order of the refits, of all calls.

    Raises:
        ConfigError: If there are several dampings and no held-out Grams.
    """

    def __init__(
        self,
        dense: DenseModel,
        calibration: GramSource,
        *,
        damping: float | Sequence[float] = ReconstructionDefaults.damping,
        held_out: GramSource | None = None,
        solve: Solver = closed_form,
        label: str = "closed_form",
        device: torch.device,
        dtype: torch.dtype = torch.float64,
        residuals: bool = False,
    ) -> None:
        self._dense = dense
        self._calibration = calibration
        self._dampings = several(damping)
        self._held_out = held_out if len(self._dampings) > 1 else None
        if not self._dampings or (len(self._dampings) > 1 and held_out is None):
            raise ConfigError(f"dampings {self._dampings} need held-out text to choose one by; give a single damping")
        self._solve = solve
        self._label = label
        self._device = device
        self._dtype = dtype
        self._want_residuals = residuals
        self.residuals: list[BlockResidual] = []

    @property
    def identity(self) -> str:
        """What results depend on, for cache keys."""
        if self._held_out is None:
            return f"{self._label}:{self._calibration.key}:{self._dampings[0]!r}:{self._dtype}"
        return f"{self._label}:{self._calibration.key}+{self._held_out.key}:{self._dampings!r}:{self._dtype}"

    def refit(
        self, layer: int, sliced: Mapping[str, Tensor], attn_mask: BoolArray, mlp_mask: BoolArray
    ) -> dict[str, Tensor]:
        """Replace the output projections of a sliced block, and its queries where heads are cut, by their refits.

        Args:
            layer: Index of the block.
            sliced: State dict of the sliced block.
            attn_mask: A row of the attention masks; in mode ``kv_group`` ``K`` bool.
            mlp_mask: ``P`` bool.

        Returns:
            The state dict with refitted weights, in the dtype of ``sliced``.
        """
        names, architecture = self._dense.adapter.names, self._dense.architecture
        qk, vo = architecture.head_channels(attn_mask)
        heads = architecture.of_query_heads(vo)
        result = dict(sliced)
        if (qk.any(axis=1) != qk.all(axis=1)).any():
            result |= self._queries(layer, sliced, qk)
        wanted = [
            (name, kept, index)
            for index, (name, kept) in enumerate(((names.o, heads), (names.fc2, mlp_mask)))
            if kept.any() and not kept.all()
        ]
        if not wanted:
            return result
        grams, dense = self._calibration.grams(layer), self._dense.block_state(layer)
        judges = None if self._held_out is None else self._held_out.grams(layer)
        for name, kept, index in wanted:
            weight, bias = dense[f"{name}.weight"], dense.get(f"{name}.bias")
            gram, damping, judged = grams[index].to(self._device), self._dampings[0], None
            if judges is not None:
                judge = judges[index].to(self._device)
                damping, judged = self._choose(weight, bias, gram, judge, kept)
                gram = gram.merged(judge)
            refit = self._solve(
                weight, bias, gram, kept, damping=damping, dtype=self._dtype, residuals=self._want_residuals
            )
            result[f"{name}.weight"] = refit.weight.to(weight.device, weight.dtype)
            if bias is not None and refit.bias is not None:
                result[f"{name}.bias"] = refit.bias.to(bias.device, bias.dtype)
            if self._want_residuals:
                self.residuals.append(_residual(layer, name, refit, damping, judged))
        return result

    def _queries(self, layer: int, sliced: Mapping[str, Tensor], kept: BoolArray) -> dict[str, Tensor]:
        """Refitted queries."""
        name = self._dense.adapter.names.q
        refit = refit_queries(self._dense.architecture, self._calibration.score_gram(layer), kept)
        if refit is None:
            return {}
        if self._want_residuals:
            before, after = refit.residual_before, refit.residual_after
            self.residuals.append(BlockResidual(layer, name, before, after, self._dampings[0], None, None, None))
        keys = (key for key in (f"{name}.weight", f"{name}.bias") if key in sliced)
        return {key: refit.apply(sliced[key]) for key in keys}

    def _choose(
        self, weight: Tensor, bias: Tensor | None, gram: Gram, judge: Gram, kept: BoolArray
    ) -> tuple[float, float]:
        """The damping with the least residual on the held-out text, and that residual."""
        problem = Projection(weight, bias, judge, kept, self._dtype)
        residuals = []
        for damping in self._dampings:
            refit = self._solve(weight, bias, gram, kept, damping=damping, dtype=self._dtype, residuals=False)
            residuals.append(problem.refit(refit.weight, residuals=True).residual_after)
        best = min(range(len(residuals)), key=residuals.__getitem__)
        return self._dampings[best], residuals[best]


def _residual(layer: int, name: str, refit: Refit, damping: float, held_out: float | None) -> BlockResidual:
    primal = dual = None
    if isinstance(refit, AdmmRefit) and refit.primal:
        primal, dual = refit.primal[-1], refit.dual[-1]
    return BlockResidual(layer, name, refit.residual_before, refit.residual_after, damping, held_out, primal, dual)
