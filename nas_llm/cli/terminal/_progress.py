"""Progress of anything that reports events: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from nas_llm import display
from nas_llm.cli.terminal._console import line, progress_output
from nas_llm.cli.terminal._monitor import SearchMonitor, best_at_levels
from nas_llm.events import Event, EventHandler, GenerationFinished, Notice, StageFinished, StageStarted, TrialFinished

_LEVELS = 5


@contextmanager
def progress(console: Console | None = None) -> Iterator[EventHandler]:
    """An event handler that shows what happens while the context is entered."""
    console = console or progress_output()
    monitor = SearchMonitor()
    if not console.is_terminal:

        def plain(event: Event) -> None:
            monitor.update(event)
            _print(console, event, monitor, generations=True)

        yield plain
        return

    # Without its own thread a bar would stand still inside one long step.
    with Live(get_renderable=lambda: _display(monitor), console=console, refresh_per_second=4, transient=True) as live:

        def lively(event: Event) -> None:
            monitor.update(event)
            _print(live.console, event, monitor, generations=False)
            if isinstance(event, StageStarted | GenerationFinished):
                live.refresh()

        yield lively


def _print(console: Console, event: Event, monitor: SearchMonitor, *, generations: bool) -> None:
    match event:
        case StageStarted(stage=stage, detail=detail) if detail:
            line(console, f"{stage}: {detail}")
        case StageFinished(stage=stage, detail=detail):
            line(console, f"{stage}: {detail or 'done'} ({display.duration(monitor.seconds_in(stage))})")
        case Notice(message=message):
            line(console, f"note: {message}", style="yellow")
        case TrialFinished():
            line(console, _trial(event))
        case GenerationFinished() if generations:
            best = "; ".join(_pair(point) for point in best_at_levels(monitor.front, _LEVELS))
            line(console, f"{', '.join(_facts(monitor))}{': ' if best else ''}{best}")


def _trial(event: TrialFinished) -> str:
    name = f"trial {event.number}" + (f" ({event.label})" if event.label else "")
    values = ", ".join(f"{key} {value:.4f}" for key, value in event.values.items())
    best = "" if event.best is None else f"; best hypervolume {event.best:.4f}"
    return f"{name}: {event.state}{', ' if values else ''}{values}; {event.done}/{event.total} trials{best}"


def _facts(monitor: SearchMonitor) -> list[str]:
    facts = [f"generation {monitor.generation}", f"{monitor.evaluations}/{monitor.budget} evaluations"]
    if monitor.hypervolume is not None:
        facts.append(f"hypervolume {monitor.hypervolume:.4f}")
    if monitor.per_minute is not None:
        facts.append(f"{monitor.per_minute:.1f}/min")
    if monitor.seconds_left is not None:
        facts.append(f"{display.duration(monitor.seconds_left)} left")
    return facts


def _pair(point: Mapping[str, float]) -> str:
    return " at ".join(_shown(name, value) for name, value in list(point.items())[:2])


def _shown(name: str, value: float) -> str:
    from nas_llm.space import objective

    return objective(name).show(value)


def _display(monitor: SearchMonitor) -> RenderableType:
    parts: list[RenderableType] = []
    stage = monitor.stage
    if monitor.budget and (stage is None or stage.stage == "search"):
        parts.append(_bar("search", monitor.evaluations, monitor.budget, "  ".join(_facts(monitor))))
        if monitor.front:
            parts.append(_best(monitor))
    elif stage is not None:
        detail = display.duration(monitor.seconds_in(stage.stage))
        if stage.total:
            detail = f"{monitor.stage_done}/{stage.total}  {detail}"
        parts.append(_bar(stage.stage, monitor.stage_done, stage.total, detail))
    return Group(*parts)


def _bar(name: str, done: int, total: int | None, detail: str) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_row(name, ProgressBar(total=total, completed=done, width=24, pulse=total is None), detail)
    return row


def _best(monitor: SearchMonitor) -> RenderableType:
    points = best_at_levels(monitor.front, _LEVELS)
    table = Table(
        box=None, padding=(0, 2), title=f"best of {len(monitor.front)} points on the front", title_style="dim"
    )
    for name in points[0]:
        table.add_column(name, justify="right")
    for point in points:
        table.add_row(*(escape(_shown(name, value)) for name, value in point.items()))
    return table
