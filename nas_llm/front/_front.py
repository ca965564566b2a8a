"""The reported points of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas_llm.front._csv import write_front_csv
from nas_llm.front._json import front_fields, front_text
from nas_llm.front._point import FrontPoint
from nas_llm.front._select import Limit, select_points
from nas_llm.front._warnings import front_warnings
from nas_llm.space import Objective, is_quality, objective, plain_cost, the_quality


@dataclass(frozen=True, kw_only=True)
class Front:
    """The reported points of a search, with what the numbers were measured on.

    Attributes:
        problem: Name of the problem.
        seed: Seed of the search.
        model: ``source`` and ``revision`` of the dense model.
        data: ``calibration``, ``fitness``, ``held_out`` and ``off_text`` to the description of their windows.
        objectives: Names of the objectives, the measured one among them.
        weights: Weights that candidates were evaluated with, ``inherited`` or ``reconstructed``.
        hypervolume: Normalised hypervolume of all evaluated genomes, in [0, 1].
        dense: The model that the subnets come from.
        points: The non-dominated points.
        labels: ``title`` and ``unit`` of costs that the package does not compute itself, by name: a front is read
            where their classes are not at hand, too.
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
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def quality(self) -> str:
        """The measured objective, ``perplexity`` or ``kl``."""
        return the_quality(self.objectives)

    @property
    def price(self) -> str:
        """The first cost objective."""
        return self.prices[0]

    @property
    def prices(self) -> tuple[str, ...]:
        """All cost objectives."""
        return tuple(name for name in self.objectives if not is_quality(name))

    @property
    def optional_costs(self) -> tuple[Objective, ...]:
        """Records of the costs that not every front has: predicted latency and costs of one's own."""
        return tuple(self.record(name) for name in self.dense.cost.optional)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know before believing the points; see :func:`front_warnings`."""
        return front_warnings(self)

    def times_dense(self, point: FrontPoint) -> Mapping[str, float]:
        """Perplexity of a point over the dense model's, of every kind of text.

        Args:
            point: A point of the front.
        """
        return {kind: value / self.dense.texts[kind] for kind, value in point.texts.items() if kind in self.dense.texts}

    def record(self, name: str) -> Objective:
        """What is known of an objective or cost.

        Args:
            name: Its name.
        """
        known, said = objective(name), self.labels.get(name)
        if said is None:
            return known
        plain = plain_cost(name, title=said["title"], unit=said["unit"])
        return plain if known.model is None else replace(plain, show=known.show)

    def select(
        self,
        point: Sequence[str] = (),
        *,
        max_macs: float | None = None,
        max_params: float | None = None,
        min_ratio: float | None = None,
        max_ratio: float | None = None,
        limits: Sequence[Limit] = (),
    ) -> list[FrontPoint]:
        """Choose points by name, by bounds, or both; see :func:`nas_llm.front.select_points`."""
        return select_points(
            self,
            point,
            max_macs=max_macs,
            max_params=max_params,
            min_ratio=min_ratio,
            max_ratio=max_ratio,
            limits=limits,
        )

    def to_json(self) -> str:
        """The text of ``front.json``; :meth:`from_json` is its inverse."""
        return front_text(
            {
                "problem": self.problem,
                "seed": self.seed,
                "model": dict(self.model),
                "data": {name: dict(windows) for name, windows in self.data.items()},
                "objectives": list(self.objectives),
                "weights": self.weights,
                "hypervolume": self.hypervolume,
                **({"labels": {name: dict(said) for name, said in self.labels.items()}} if self.labels else {}),
            },
            dense=self.dense,
            points=self.points,
        )

    @classmethod
    def from_json(cls, text: str) -> Front:
        """Read what :meth:`to_json` wrote.

        Raises:
            RunError: If the text is no front of a known schema, or a genome does not match its digest.
        """
        return cls(**front_fields(text))

    def to_csv(self, path: Path, *, force: bool = False) -> None:
        """Write one row a point, the dense model first.

        Raises:
            RunError: If the file exists and ``force`` is not given, or it cannot be written.
        """
        write_front_csv((self.dense, *self.points), path, quality=self.quality, force=force)
