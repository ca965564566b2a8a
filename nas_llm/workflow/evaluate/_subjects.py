"""Models to be measured, whatever they come from: a name, a directory, or points of a run that lie on no disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.errors import ConfigError
from nas_llm.evaluation import count_block_params, load_any
from nas_llm.events import EventHandler
from nas_llm.export import read_provenance
from nas_llm.finishing import Finisher, plan_of_run, with_reconstruction
from nas_llm.front import FrontPoint, load_genome
from nas_llm.models import PACKAGED_MODELS, on_device, quiet_transformers, read_config, resolve_model
from nas_llm.runs import Run, named_run, open_run
from nas_llm.session import Prepared, reopen
from nas_llm.space import GENOME_FILE, Genome
from nas_llm.subnet import build_subnet


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A model in evaluation mode on its device.

    Attributes:
        name: What its row is called.
        model: The model.
        tokenizer: Its tokenizer.
        identity: What its weights are told apart by, as far as that is known.
        path: What a process of its own loads it from; None = it is only in memory.
        inheriting_ratio: Of a point, or as an export says of itself while its size is what it says; None of others.
        genome: Which subnet it is, where that is known.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    identity: str | None
    path: str | None
    inheriting_ratio: float | None
    genome: Genome | None = None


class Subject(Protocol):
    """One or more models."""

    @property
    def names(self) -> list[str]:
        """Names of their rows."""

    def load(self, device: torch.device, dtype: torch.dtype, *, on_event: EventHandler) -> Iterator[Loaded]:
        """Load them one by one, in the order of their names."""


@dataclass(frozen=True)
class Named:
    """A dense model or an export.

    Attributes:
        source: Packaged name, hub name, directory or ``.gguf`` file.
        revision: Hub revision.
    """

    source: str
    revision: str | None = None

    @property
    def names(self) -> list[str]:
        """The source."""
        return [self.source]

    @cached_property
    def resolved(self) -> tuple[str, str | None]:
        """What ``from_pretrained`` takes, and the identity of the weights, which are read for it once.

        Raises:
            ModelError: If there is no such model.
        """
        return resolve_model(self.source)

    @property
    def where(self) -> str:
        """What ``from_pretrained`` takes; the weights of a directory are not read for it.

        Raises:
            ModelError: If there is no such model.
        """
        path = Path(self.source).expanduser()
        return str(path) if (path / "config.json").is_file() else self.resolved[0]

    @cached_property
    def provenance(self) -> dict[str, Any] | None:
        """What it says of itself, if it is an export.

        Raises:
            ModelError: If that is damaged.
        """
        return read_provenance(Path(self.source).expanduser())

    @property
    def genome(self) -> Genome | None:
        """Which subnet it is, if it is an export.

        Raises:
            RunError: If that is damaged.
        """
        directory = Path(self.source).expanduser()
        return load_genome(directory) if (directory / GENOME_FILE).is_file() else None

    @property
    def genomes(self) -> list[Genome]:
        """Its genome, if it is an export."""
        return [] if self.genome is None else [self.genome]

    def check(self) -> None:
        """Refuse a name that stands for nothing, or whose configuration or record is damaged.

        Raises:
            ModelError: If it does.
        """
        with quiet_transformers():
            read_config(self.source, self.where, revision=self.revision)
        _ = self.provenance

    def load(self, device: torch.device, dtype: torch.dtype, *, on_event: EventHandler) -> Iterator[Loaded]:
        """Load it.

        Raises:
            ModelError: If it cannot be loaded.
        """
        path, identity = self.resolved
        model, tokenizer = load_any(self.source, revision=self.revision, dtype=dtype, where=path)
        commit = getattr(model.config, "_commit_hash", None)
        yield Loaded(
            name=self.source,
            model=on_device(model, device),
            tokenizer=tokenizer,
            identity=identity or commit,
            path=path,
            inheriting_ratio=_stated_ratio(self.provenance or {}, model),
            genome=self.genome,
        )


class RunPoints:
    """Points of a run, finished in memory as ``nas-llm export`` would.

    Args:
        run: The run.
        points: Points of its front.
        on_event: Told while its model and text are loaded.
    """

    def __init__(self, run: Run, points: Sequence[FrontPoint], *, on_event: EventHandler) -> None:
        self.run, self.points, self.plan = run, tuple(points), plan_of_run(run)
        self._on_event = on_event

    @property
    def names(self) -> list[str]:
        """``runs/demo:p03``, ..."""
        return [f"{self.run.directory}:{point.id}" for point in self.points]

    @property
    def genomes(self) -> list[Genome]:
        """The genomes of the points."""
        return [point.genome for point in self.points]

    @property
    def dense(self) -> Named:
        """The model that the points come from."""
        return Named(str(self.run.front.model["source"]), self.run.problem.model.revision)

    @cached_property
    def prepared(self) -> Prepared:
        """The run's model, text and calibration."""
        return reopen(self.run, on_event=self._on_event)

    def load(self, device: torch.device, dtype: torch.dtype, *, on_event: EventHandler) -> Iterator[Loaded]:
        """Finish the points, as many at a time as memory allows.

        Raises:
            NasLlmError: If the run cannot be reopened or its points not be finished.
        """
        prepared = self.prepared
        finisher = Finisher(prepared, plan=self.plan, on_event=on_event)
        size = finisher.at_once()
        for start in range(0, len(self.points), size):
            group = self.points[start : start + size]
            for point, finished in zip(group, finisher.finish(group, on_event=on_event), strict=True):
                yield Loaded(
                    name=f"{self.run.directory}:{point.id}",
                    # In no variable, so that it is gone when the caller is done with it.
                    model=on_device(build_subnet(prepared.dense, point.genome, edit=finished.edit), device, dtype),
                    tokenizer=prepared.dense.tokenizer,
                    identity=self._identity(point),
                    path=None,
                    inheriting_ratio=point.cost.inheriting_ratio,
                    genome=point.genome,
                )

    def _identity(self, point: FrontPoint) -> str:
        parts = {
            "genome": point.digest,
            "model_revision": self.run.front.model["revision"],
            "texts": [self.prepared.splits.calibration.digest(), self.prepared.splits.finish.digest()],
            "reconstruction": self.plan.identity(),
        }
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _stated_ratio(said: Mapping[str, Any], model: PreTrainedModel) -> float | None:
    return float(said["inheriting_ratio"]) if said.get("block_params") == count_block_params(model) else None


def find_subjects(
    models: Sequence[str],
    *,
    points: Sequence[str] = (),
    method: str | None = None,
    samples: int | None = None,
    model: str | None = None,
    repeated: bool = False,
    on_event: EventHandler,
) -> list[Named | RunPoints]:
    """What some names stand for; nothing is loaded yet.

    Args:
        models: Packaged names, hub names, directories, ``.gguf`` files, and run directories or their names inside
            ``runs/``.
        points: Points of each run, as :func:`nas_llm.workflow.select_points` takes them; default: its knee.
        method: How points are finished; default: the run's own.
        samples: Calibration windows of the finish; default: as the run says.
        model: Where the dense model of the runs is now, if it was moved.
        repeated: Whether a name may stand there twice.
        on_event: Told when a run is loaded.

    Raises:
        RunError: If a run has no front yet.
        SelectionError: If a run has no such point.
        ConfigError: If points are asked for and there is no run, or a name stands there twice.
    """
    found: list[Named | RunPoints] = []
    for name in models:
        # A run often bears its model's name.
        directory = None if name in PACKAGED_MODELS else named_run(name)
        if directory is None:
            found.append(Named(name))
            continue
        run = with_reconstruction(open_run(directory, model=model), method=method, samples=samples)
        found.append(RunPoints(run, run.front.select(points), on_event=on_event))
    if not any(isinstance(subject, RunPoints) for subject in found):
        for option, value in (("--point", points), ("--method", method), ("--samples", samples), ("--model", model)):
            if value:
                raise ConfigError(f"{option} is for points of a run, and none of {', '.join(models)} is a run")
    names = [name for subject in found for name in subject.names]
    if repeated:
        return found
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is named twice; leave one away")
    return found
