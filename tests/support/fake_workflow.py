"""The library's verbs replaced by canned answers, for tests of what the command line makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from example_fronts import example_front

from nas_llm.config import LoadedProblem, Problem, load_problem
from nas_llm.evaluation import TextScore
from nas_llm.events import (
    CandidateEvaluated,
    Event,
    EventHandler,
    GenerationFinished,
    Notice,
    StageFinished,
    StageStarted,
)
from nas_llm.front import Front
from nas_llm.statistics import Interval, WindowLosses
from nas_llm.workflow import (
    ExportRecord,
    ExportRefused,
    FrontPoint,
    ModelRow,
    ReconstructionRecord,
    Resources,
    Run,
    RunSummary,
)
from nas_llm.workflow.compare import Comparison, Measured, compared_group

SCORE = TextScore(
    text="text.txt",
    perplexity=29.2,
    interval=Interval(low=28.5, high=30.125),
    window=1024,
    windows=8,
    available=12,
    tokens=8192,
    digest="d" * 32,
    losses=WindowLosses(nll=(3452.0,) * 8, tokens=(1023,) * 8),
)


@dataclass
class Outcome:
    """Exit code and what was written."""

    code: int
    out: str
    err: str


@dataclass
class FakeMirror:
    """Stands where the mirror of a search into a study would be: hands events on, and knows how it was ended."""

    problem: Problem
    directory: Path
    url: str | None
    on_event: EventHandler
    summaries: list[RunSummary] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.on_event(event)

    def finish(self, summary: RunSummary) -> None:
        self.summaries.append(summary)


@dataclass
class FakeWorkflow:
    """Stands where the models would be: takes calls down and answers with the example front."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    mirrors: list[FakeMirror] = field(default_factory=list)
    during_search: Callable[[], None] = lambda: None
    during_reconstruction: Callable[[], None] = lambda: None
    during_others: Callable[[], None] = lambda: None
    refused: tuple[str, ...] = ()
    servable: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    def run_search(
        self,
        loaded: LoadedProblem,
        *,
        run_dir: Path,
        resume: bool,
        on_event: EventHandler,
        should_stop: Callable[[], bool],
        resources: Resources,
    ) -> RunSummary:
        call = {"loaded": loaded, "run_dir": run_dir, "resume": resume, "resources": resources}
        self.calls.append(call | {"mirrored": any(on_event is mirror for mirror in self.mirrors)})
        on_event(StageStarted("data", "reading text"))
        on_event(Notice("the sample was cut [bold]short[/bold]"))
        on_event(StageFinished("data", "8 windows"))
        on_event(CandidateEvaluated(16, 64, {"perplexity": 12.0, "macs_per_token": 2e5}, 0.5))
        front = ({"perplexity": 12.0, "macs_per_token": 2e5}, {"perplexity": 20.0, "macs_per_token": 1e5})
        on_event(GenerationFinished(1, 16, 64, 0.25, front, 8.0))
        self.during_search()
        return RunSummary(
            run_dir=run_dir,
            front=None if should_stop() else example_front(),
            interrupted=should_stop(),
            evaluations=16,
            seconds=75.0,
            report=None if should_stop() else run_dir / "report.html",
        )

    def mirror(self, problem: Problem, directory: Path, *, url: str | None, on_event: EventHandler) -> FakeMirror:
        self.mirrors.append(FakeMirror(problem, directory, url, on_event))
        return self.mirrors[-1]

    def convert_export(self, export: Path, format: str, **options: Any) -> Path:
        self.calls.append({"export": export, "format": format} | options)
        self.during_others()
        return export

    def serve_dashboard(self, source: str, **options: Any) -> None:
        self.calls.append({"source": source} | options)
        self.during_others()

    def open_front(self, run_dir: Path) -> Front:
        self.calls.append({"run_dir": run_dir})
        self.during_others()
        return example_front()

    def open_run(self, run_dir: Path, *, model: str | None = None) -> Run:
        self.calls.append({"run_dir": run_dir} | ({} if model is None else {"model": model}))
        return Run(directory=run_dir, problem=load_problem("tiny-llama").problem, front=example_front())

    def export_points(
        self,
        run: Run,
        points: Sequence[FrontPoint],
        *,
        out: Path | None,
        on_event: EventHandler,
        **options: Any,
    ) -> list[ExportRecord]:
        self.calls.append({"points": [point.id for point in points], "out": out} | options)
        self.during_others()
        target = out or run.directory / "exports"
        records = [
            ExportRecord(
                point=point,
                path=target / point.id / name,
                cost=point.cost,
                fitness_perplexity=point.fitness_perplexity,
                held_out_perplexity=point.held_out_perplexity,
                format=name,
                dtype=options["dtype"].get(name, "keep"),
                size=270_123_456,
            )
            for point in points
            for name in options["formats"]
            if f"{point.id}/{name}" not in self.refused
        ]
        if self.refused:
            raise ExportRefused(records, [f"{name}: has no form there" for name in self.refused])
        return records

    def reconstruct_points(
        self, run: Run, points: Sequence[FrontPoint], *, on_event: EventHandler, **options: Any
    ) -> list[ReconstructionRecord]:
        self.calls.append({"points": [point.id for point in points]} | options)
        method = options["method"] or "closed_form"
        on_event(StageStarted("reconstruction", f"p02: {method} on 4,096 tokens", 4))
        self.during_reconstruction()
        numbers = {"residual_before": 0.25, "residual_after": 0.0625, "damping": 0.01, "held_out": None}
        iterated = {"primal": 0.0005, "dual": 0.0007} if method == "admm" else {"primal": None, "dual": None}
        return [
            ReconstructionRecord(
                point=point,
                settings={"method": method, "tokens": 4096, "text": run.front.data["calibration"]},
                fitness_perplexity=(20.0, 14.5),
                held_out_perplexity=(22.0, 15.25),
                seconds=1.25,
                residuals=({"layer": 0, "projection": "mlp.down_proj"} | numbers | iterated,),
                path=run.directory / "reconstruction" / f"{point.id}-{method}.csv",
            )
            for point in points
        ]

    def compare_models(self, models: Sequence[str], **options: Any) -> Comparison:
        self.calls.append({"models": list(models)} | options)
        self.during_others()
        measured = [Measured(name=name, params=134_515_008, inheriting_ratio=None, score=SCORE) for name in models]
        return Comparison(
            text="text.txt",
            digest="d" * 32,
            window=1024,
            windows=8,
            available=12,
            groups=(compared_group(measured),),
            fronts=(),
        )

    def what_is_servable(self, problem: Problem) -> dict[str, Any]:
        self.calls.append({"problem": problem})
        self.during_others()
        return self.servable

    def measured_with(self) -> dict[str, str]:
        return {"torch": "2.0"}

    def evaluate_models(self, models: Sequence[str], **options: Any) -> list[ModelRow]:
        self.calls.append({"models": list(models)} | options)
        self.during_others()
        rows = [
            ModelRow(
                name=name,
                params=134_515_008,
                block_params=106_200_000,
                inheriting_ratio=None if options["base"] is None else 0.5,
                macs_per_token=145_000_000,
                macs_tokens=1024,
                texts=(SCORE,),
            )
            for name in models
        ]
        return [replace(row, **self.measured) for row in rows]
