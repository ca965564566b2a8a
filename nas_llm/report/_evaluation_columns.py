"""Measured models as the columns of a table, for a terminal and a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_llm import display
from nas_llm.statistics import FEWEST_WINDOWS

if TYPE_CHECKING:
    from nas_llm.evaluation import HeldOutGap, MemoryScore, ModelRow, SpeedScore, TaskScore, TextScore, Workload

_NONE = "-"


@dataclass(frozen=True)
class EvaluationColumn:
    """One number of every model.

    Attributes:
        title: What it is.
        cells: One text a model.
    """

    title: str
    cells: tuple[str, ...]


def evaluation_columns(rows: Sequence[ModelRow]) -> list[EvaluationColumn]:
    """Everything that was measured of at least one model.

    Args:
        rows: The models.
    """
    sizes = [
        _column(rows, "ratio", lambda row: _NONE if row.inheriting_ratio is None else f"{row.inheriting_ratio:.4f}"),
        _column(rows, "MACs/token", lambda row: display.count(row.macs_per_token)),
        _column(rows, "params", lambda row: display.count(row.params)),
        _column(rows, "block params", lambda row: display.count(row.block_params)),
    ]
    return [*sizes, *_texts(rows), *_gaps(rows), *_tasks(rows), *_speeds(rows), *_memories(rows), *_predictions(rows)]


def evaluation_notes(rows: Sequence[ModelRow]) -> list[str]:
    """What the numbers were measured on, a line each.

    Args:
        rows: The models.
    """
    notes = [
        f"text: {score.text} ({score.digest[:12]}), {display.windows_of(score.windows, score.available)} of "
        f"{score.window} tokens"
        for score in rows[0].texts
    ]
    intervals = [score.interval for row in rows for score in row.texts if score.interval]
    if intervals:
        notes.append(
            f"[low, high]: where the perplexity on such text lies, {100 * intervals[0].confidence:.0f} % interval by "
            "resampling windows"
            + (
                ""
                if all(score.windows == score.available for score in rows[0].texts)
                else "; of text like the first ones"
            )
        )
    elif rows[0].texts:
        notes.append(f"no intervals: they take {FEWEST_WINDOWS} windows")
    notes.append(f"MACs per token at {rows[0].macs_tokens} tokens")
    if any(row.gap for row in rows):
        notes.append(
            "gap: held-out over fitness perplexity beside the same of the dense model; 0 % = nothing over-fitted"
        )
    tasks = [score for row in rows for score in row.tasks if score.headline]
    if tasks:
        shots = sorted({score.fewshot for score in tasks if score.fewshot is not None})
        documents = sorted({score.samples for score in tasks})
        notes.append(
            f"tasks by lm-eval, {'/'.join(map(str, shots)) or '0'}-shot, "
            f"{' / '.join(f'{count:,}' for count in documents)} documents, ± standard error; {_units(tasks)}"
        )
    speed = next((row.speed for row in rows if row.speed), None)
    if speed is not None:
        threads = f", {speed.threads} threads" if speed.threads else ""
        notes.append(
            f"speed on {speed.device}{threads}, {speed.dtype}, {_load(speed.workload)}, medians of "
            f"{speed.workload.rounds} rounds in turns with {speed.against} (x = of its speed, ± = interquartile range)"
        )
    memory = next((row.memory for row in rows if row.memory), None)
    if memory is not None:
        notes.append(
            f"memory on {memory.device}, {memory.dtype}, {_load(memory.workload)}: weights, activations and cache "
            f"(x = of {memory.against})"
        )
    return notes


def _texts(rows: Sequence[ModelRow]) -> list[EvaluationColumn]:
    texts = rows[0].texts
    if len(texts) == 1:
        return [_column(rows, "perplexity", lambda row: _perplexity(row.texts[0]))]
    return [
        EvaluationColumn(f"ppl {score.text}", tuple(_perplexity(row.texts[index]) for row in rows))
        for index, score in enumerate(texts)
    ]


def _perplexity(score: TextScore) -> str:
    return f"{score.perplexity:.3f}{display.interval(score.interval)}"


def _gaps(rows: Sequence[ModelRow]) -> list[EvaluationColumn]:
    def gap(title: str, cell: Callable[[HeldOutGap], str]) -> EvaluationColumn:
        return _column(rows, title, lambda row: _NONE if row.gap is None else cell(row.gap))

    if not any(row.gap for row in rows):
        return []
    return [
        gap("calibration ppl", lambda found: display.perplexity(found.calibration)),
        gap("fitness ppl", lambda found: display.perplexity(found.fitness)),
        gap(
            "held-out ppl", lambda found: display.perplexity(found.held_out) + display.interval(found.held_out_interval)
        ),
        gap("gap", lambda found: f"{100 * found.gap:+.1f} %"),
    ]


def _tasks(rows: Sequence[ModelRow]) -> list[EvaluationColumn]:
    def find(row: ModelRow, task: str, metric: str) -> TaskScore | None:
        return next((score for score in row.tasks if (score.task, score.metric) == (task, metric)), None)

    shown = dict.fromkeys((score.task, score.metric) for row in rows for score in row.tasks if score.headline)
    return [
        EvaluationColumn(f"{task} {metric}", tuple(_score(find(row, task, metric)) for row in rows))
        for task, metric in shown
    ]


def _units(scores: Sequence[TaskScore]) -> str:
    """In what metrics are given: ``acc in %; word_perplexity as lm-eval gives it, lower is better``."""
    shares = dict.fromkeys(score.metric for score in scores if score.share)
    others = dict.fromkeys(
        score.metric + {None: "", True: ", higher is better", False: ", lower is better"}[score.higher_is_better]
        for score in scores
        if not score.share
    )
    parts = [", ".join(shares) + " in %"] if shares else []
    return "; ".join([*parts, *(f"as lm-eval gives it: {other}" for other in others)])


def _score(score: TaskScore | None) -> str:
    if score is None:
        return _NONE
    numbers = [score.value] if score.stderr is None else [score.value, score.stderr]
    return " ± ".join(f"{100 * number:.1f}" if score.share else f"{number:.4g}" for number in numbers)


def _speeds(rows: Sequence[ModelRow]) -> list[EvaluationColumn]:
    def speed(title: str, cell: Callable[[SpeedScore], str]) -> EvaluationColumn:
        return _column(rows, title, lambda row: _NONE if row.speed is None else cell(row.speed))

    if not any(row.speed for row in rows):
        return []
    return [
        speed("prefill tok/s", lambda s: f"{s.prefill_tokens_per_second:.0f} ({s.prefill_speedup:.2f}x)"),
        speed("decode tok/s", lambda s: f"{s.decode_tokens_per_second:.1f} ({s.decode_speedup:.2f}x)"),
        speed("first token", lambda s: f"{1000 * s.first_token_seconds:.0f} ms ± {100 * s.first_token_spread:.0f} %"),
        speed("decode spread", lambda s: f"± {100 * s.decode_spread:.0f} %"),
    ]


def _memories(rows: Sequence[ModelRow]) -> list[EvaluationColumn]:
    def memory(title: str, cell: Callable[[MemoryScore], str]) -> EvaluationColumn:
        return _column(rows, title, lambda row: _NONE if row.memory is None else cell(row.memory))

    if not any(row.memory for row in rows):
        return []
    return [
        memory("peak memory", lambda m: f"{display.size(m.peak_bytes)} ({m.peak_ratio:.2f}x)"),
        memory("KV cache", lambda m: f"{display.size(m.kv_cache_bytes)} ({m.kv_cache_ratio:.2f}x)"),
    ]


def _predictions(rows: Sequence[ModelRow]) -> list[EvaluationColumn]:
    def seconds(row: ModelRow) -> str:
        if row.predicted is None or row.speed is None:
            return _NONE
        return _beside(row.predicted.seconds, row.speed.seconds, display.latency)

    def memory(row: ModelRow) -> str:
        if row.predicted is None or row.memory is None:
            return _NONE
        return _beside(float(row.predicted.peak_bytes), float(row.memory.peak_bytes), display.size)

    if not any(row.predicted for row in rows):
        return []
    columns = [_column(rows, "answer", seconds)] if any(row.speed for row in rows) else []
    return columns + ([_column(rows, "memory as predicted", memory)] if any(row.memory for row in rows) else [])


def _beside(predicted: float, measured: float, show: Callable[[float], str]) -> str:
    """``1.2 s, predicted 1.1 s (-8 %)``."""
    return f"{show(measured)}, predicted {show(predicted)} ({100 * (predicted / measured - 1.0):+.0f} %)"


def _column(rows: Sequence[ModelRow], title: str, cell: Callable[[ModelRow], str]) -> EvaluationColumn:
    return EvaluationColumn(title, tuple(cell(row) for row in rows))


def _load(workload: Workload) -> str:
    return f"batch {workload.batch}, {workload.prompt_tokens} prompt and {workload.new_tokens} new tokens"
