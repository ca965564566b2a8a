"""What the workflow hands out: fronts, runs, export records, measured models. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.config import QUALITY_OBJECTIVES, Problem
from nas_llm.space import Cost, Genome
from nas_llm.workflow._front_csv import write_front_csv
from nas_llm.workflow._select import select_points

if TYPE_CHECKING:
    from nas_llm.evaluation import HeldOutGap, MemoryScore, SpeedScore, TaskScore, TextScore


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """One subnet of a front.

    Attributes:
        id: ``"p01"``, ..., or ``"dense"``.
        genome: Its masks.
        objectives: Objective name to the value that the search saw; all are minimised.
        cost: Its exact cost.
        fitness_perplexity: Perplexity on the windows that the search saw.
        held_out_perplexity: Perplexity on windows that the search never saw; None before they are scored.
        generation: Generation in which it was found, 1 = the first population; 0 for the dense model.
        knee: Whether this is the front's knee.
    """

    id: str
    genome: Genome
    objectives: Mapping[str, float]
    cost: Cost
    fitness_perplexity: float | None
    held_out_perplexity: float | None
    generation: int
    knee: bool = False

    @property
    def digest(self) -> str:
        """32 hex digits that identify the masks."""
        return self.genome.digest()

    @property
    def layers(self) -> tuple[Mapping[str, int], ...]:
        """``L`` mappings with ``kv_groups`` and ``ffn_channels``; 0 = that sublayer is removed."""
        pairs = zip(self.genome.kv_groups.tolist(), self.genome.ffn_channels.tolist(), strict=True)
        return tuple({"kv_groups": groups, "ffn_channels": channels} for groups, channels in pairs)


@dataclass(frozen=True, kw_only=True)
class Front:
    """The reported points of a search, with what the numbers were measured on.

    Attributes:
        problem: Name of the problem.
        seed: Seed of the search.
        model: ``source`` and ``revision`` of the dense model.
        data: ``calibration``, ``fitness`` and ``held_out`` to the description of their windows.
        objectives: Names of the objectives, the measured one among them.
        weights: Weights that candidates were priced with, ``inherited`` or ``reconstructed``.
        hypervolume: Normalised hypervolume of all evaluated genomes, in [0, 1].
        dense: The model that the subnets come from.
        points: The non-dominated points.
    """

    problem: str
    seed: int
    model: Mapping[str, Any]
    data: Mapping[str, Mapping[str, Any]]
    objectives: tuple[str, ...]
    weights: str
    hypervolume: float
    dense: FrontPoint
    points: tuple[FrontPoint, ...]

    @property
    def quality(self) -> str:
        """The measured objective, ``perplexity`` or ``kl``."""
        return next(name for name in self.objectives if name in QUALITY_OBJECTIVES)

    @property
    def price(self) -> str:
        """The first cost objective."""
        return self.prices[0]

    @property
    def prices(self) -> tuple[str, ...]:
        """All cost objectives."""
        return tuple(name for name in self.objectives if name not in QUALITY_OBJECTIVES)

    def select(
        self,
        point: Sequence[str] = (),
        *,
        max_macs: float | None = None,
        max_params: float | None = None,
        min_ratio: float | None = None,
        max_ratio: float | None = None,
    ) -> list[FrontPoint]:
        """Choose points by name, by bounds, or both; see :func:`nas_llm.workflow.select_points`."""
        return select_points(
            self, point, max_macs=max_macs, max_params=max_params, min_ratio=min_ratio, max_ratio=max_ratio
        )

    def to_json(self) -> str:
        """The text of ``front.json``; :meth:`from_json` is its inverse."""
        # Late, because that module builds the classes of this one.
        from nas_llm.workflow._front_json import front_to_json

        return front_to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Front:
        """Read what :meth:`to_json` wrote.

        Raises:
            RunError: If the text is no front of a known schema, or a genome does not match its digest.
        """
        from nas_llm.workflow._front_json import front_from_json

        return front_from_json(text)

    def to_csv(self, path: Path, *, force: bool = False) -> None:
        """Write one row a point, the dense model first.

        Raises:
            RunError: If the file exists and ``force`` is not given, or it cannot be written.
        """
        write_front_csv(self, path, force=force)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory that holds a front."""

    directory: Path
    problem: Problem
    front: Front


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What came of a search.

    Attributes:
        run_dir: Where everything was written.
        front: The front; None when the search was interrupted before it had one.
        interrupted: Whether it stopped before its budget was spent; it can be resumed.
        evaluations: Distinct genomes evaluated, those before a resumption included.
        seconds: Time of this call.
        report: The HTML report, or None when none was written.
    """

    run_dir: Path
    front: Front | None
    interrupted: bool
    evaluations: int
    seconds: float
    report: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """One exported point in one format, measured and found on disk as it was measured.

    Attributes:
        point: The point of the front.
        path: The written directory.
        cost: Its exact cost.
        fitness_perplexity: Perplexity on the windows that the search saw.
        held_out_perplexity: Perplexity on windows that the search never saw.
        format: Name of the format.
        dtype: Type of the weights, in the format's own words.
        size: Bytes of the weight files.
        already: Whether an earlier call had finished it.
    """

    point: FrontPoint
    path: Path
    cost: Cost
    fitness_perplexity: float | None
    held_out_perplexity: float | None
    format: str = "hf"
    dtype: str = "keep"
    size: int = 0
    already: bool = False


ResidualRow = Mapping[str, int | float | str | None]
"""One refitted projection: ``layer``, ``projection``, ``residual_before``, ``residual_after``, ``damping``,
``held_out`` (residual on windows held out to choose it), and ``primal`` and ``dual`` of the last iteration of ADMM."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionRecord:
    """One point finished by a method, and what it brought.

    Attributes:
        point: The point of the front.
        settings: ``method``, and for methods but ``none`` its settings, ``tokens`` and ``text``.
        fitness_perplexity: (before, after) on the windows that the search saw; before = inherited weights.
        held_out_perplexity: (before, after) on windows that the search never saw.
        seconds: Time of the reconstruction; of points that went through in one pass, each has an equal share.
        residuals: One row a refitted projection.
        path: The same as a CSV file.
    """

    point: FrontPoint
    settings: Mapping[str, Any]
    fitness_perplexity: tuple[float, float]
    held_out_perplexity: tuple[float, float]
    seconds: float
    residuals: tuple[ResidualRow, ...]
    path: Path

    @property
    def cost(self) -> Cost:
        """The point's exact cost."""
        return self.point.cost


@dataclass(frozen=True, kw_only=True)
class PosttrainRecord:
    """One export that was trained and written again.

    Attributes:
        path: The written directory.
        curve: Its learning curve: one JSON object a line.
        method: ``lora`` or ``full``.
        steps: Optimizer steps.
        tokens: Tokens seen, repetitions counted.
        seconds: Training time, without loading, measuring and writing.
        loss: Of the last step.
        held_out_perplexity: (before, after) on held-out text; None where there was none.
        interrupted: Whether it was stopped before its budget was spent.
    """

    path: Path
    curve: Path
    method: str
    steps: int
    tokens: int
    seconds: float
    loss: float | None
    held_out_perplexity: tuple[float | None, float | None]
    interrupted: bool


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One measured model.

    Attributes:
        name: The model as it was named; points are ``RUN:p03``.
        params: All parameters.
        block_params: Parameters inside decoder blocks, norms excluded.
        inheriting_ratio: ``block_params`` over those of the base model; without a base what an export says of itself.
        macs_per_token: Multiply-accumulates per token at ``macs_tokens`` tokens.
        macs_tokens: Sequence length of the MACs.
        texts: Perplexity on each text.
        gap: Seen against unseen text, for points of a run and its dense model.
        tasks: Scores of lm-eval.
        speed: Speed beside the dense model.
        memory: Memory beside the dense model.
    """

    name: str
    params: int
    block_params: int
    inheriting_ratio: float | None
    macs_per_token: int
    macs_tokens: int
    texts: tuple[TextScore, ...] = ()
    gap: HeldOutGap | None = None
    tasks: tuple[TaskScore, ...] = ()
    speed: SpeedScore | None = None
    memory: MemoryScore | None = None

    @property
    def perplexity(self) -> float | None:
        """Perplexity on the first text; None if there was none."""
        return self.texts[0].perplexity if self.texts else None
