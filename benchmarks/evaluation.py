"""Evaluation: the whole table of the dense SmolLM2-135M and two exports, and its tasks against lm-eval alone.

``make bench NAME=evaluation DATA=folder``; DATA is a folder with ``text/`` and ``lm_eval_tasks/``. The exports are those
that ``make bench NAME=front`` leaves. Set HF_HUB_OFFLINE=1 and HF_DATASETS_OFFLINE=1 where there is no hub.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks._result import write_result
from nas_llm.evaluation import Workload, load_any
from nas_llm.events import Event, StageFinished, StageStarted
from nas_llm.workflow import ModelRow, evaluate_models, measured_with

DENSE = "smollm2-135m"
EXPORTS = ("r80", "r60")
TASKS = ("piqa_local", "arc_easy_local", "openbookqa_local")
MMLU = "mmlu_local"


def show(event: Event) -> None:
    """What happens, for whoever waits."""
    if isinstance(event, StageStarted | StageFinished):
        print(event, file=sys.stderr, flush=True)


def find_exports(folder: Path) -> list[Path]:
    """The exports to measure.

    Raises:
        SystemExit: If one is missing; says what makes it.
    """
    found = [folder / name for name in EXPORTS]
    missing = [path.name for path in found if not (path / "config.json").is_file()]
    if missing:
        raise SystemExit(
            f"error: {folder} has no export {' and '.join(missing)}; run make bench NAME=front DATA=<folder> first, or "
            f"name a folder that holds {' and '.join(EXPORTS)} with --exports"
        )
    return found


def lm_eval_alone(tasks: Sequence[str], include_path: Path, limit: int) -> dict[tuple[str, str], float]:
    """Accuracies of the dense model by lm-eval as its own documentation calls it."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = load_any(DENSE)
    found = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8),
        tasks=list(tasks),
        limit=limit,
        task_manager=TaskManager(include_path=str(include_path), include_defaults=False),
        log_samples=False,
    )
    assert found is not None
    return {
        (task, key.partition(",")[0]): value
        for task, values in found["results"].items()
        for key, value in values.items()
        if key in ("acc,none", "acc_norm,none")
    }


def as_row(row: ModelRow) -> dict[str, Any]:
    """One line of the table."""
    assert row.speed is not None
    assert row.memory is not None
    tasks = {
        f"{score.task} {score.metric}": f"{100 * score.value:.1f} ± {100 * (score.stderr or 0):.1f}"
        for score in row.tasks
        if score.task in (*TASKS, MMLU)
    }
    return {
        "model": Path(row.name).name,
        "inheriting ratio": row.inheriting_ratio,
        "MACs per token": row.macs_per_token,
        "params": row.params,
        **{Path(score.text).name: score.perplexity for score in row.texts},
        **tasks,
        "prefill tokens/s": row.speed.prefill_tokens_per_second,
        "prefill speed-up": row.speed.prefill_speedup,
        "decode tokens/s": row.speed.decode_tokens_per_second,
        "decode speed-up": row.speed.decode_speedup,
        "first token ms": 1000 * row.speed.first_token_seconds,
        "peak MB": row.memory.peak_bytes / 1e6,
        "KV cache MB": row.memory.kv_cache_bytes / 1e6,
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--exports", type=Path, default=Path("runs/bench-front/exports"))
    parser.add_argument("--limit", type=int, default=100, help="documents of each task")
    parser.add_argument("--windows", type=int, default=16, help="of 1,024 tokens, of the text")
    parser.add_argument("--rounds", type=int, default=7, help="of the timing")
    parser.add_argument(
        "--mmlu-limit", type=int, default=5, help="documents of each of its 57 subjects; 0 = without it"
    )
    parser.add_argument("--try", dest="is_try", action="store_true", help="write no result")
    arguments = parser.parse_args()
    exports = find_exports(arguments.exports)
    include_path = arguments.data.resolve() / "lm_eval_tasks"
    workload = Workload(prompt_tokens=256, new_tokens=32, rounds=arguments.rounds)
    names = [DENSE, *map(str, exports)]
    models = evaluate_models(
        names,
        text=arguments.data / "text" / "wikitext2_test.raw",
        windows=arguments.windows,
        base=DENSE,
        tasks=TASKS,
        include_path=include_path,
        limit=arguments.limit,
        latency=True,
        memory=True,
        workload=workload,
        on_event=show,
    )
    alone = lm_eval_alone(TASKS, include_path, arguments.limit)
    if arguments.mmlu_limit:
        # A limit holds for each subject.
        more = evaluate_models(
            names, base=DENSE, tasks=[MMLU], include_path=include_path, limit=arguments.mmlu_limit, on_event=show
        )
        models = [replace(row, tasks=(*row.tasks, *other.tasks)) for row, other in zip(models, more, strict=True)]
        alone |= lm_eval_alone([MMLU], include_path, arguments.mmlu_limit)
    ours = {(score.task, score.metric): score.value for score in models[0].tasks}
    rows = [as_row(row) for row in models]
    speeds = {Path(row.name).name: row.speed for row in models[1:]}
    headline = {
        "max_task_difference": max(abs(ours[key] - value) for key, value in alone.items()),
        **{f"perplexity_{Path(row.name).name.replace('-', '_')}": row.texts[0].perplexity for row in models},
        **{f"prefill_speedup_{name}": speed.prefill_speedup for name, speed in speeds.items() if speed},
        **{f"decode_speedup_{name}": speed.decode_speedup for name, speed in speeds.items() if speed},
    }
    for row in rows:
        print(json.dumps(row), flush=True)
    print(json.dumps(headline), flush=True)
    if arguments.is_try:
        return
    speed = models[0].speed
    assert speed is not None
    write_result(
        "evaluation",
        about=(
            f"SmolLM2-135M-Instruct and its exports at inheriting ratios 0.8 and 0.6 (of `NAME=front`) by one call of "
            f"`evaluate_models`, float32 on {speed.device}. Perplexity: WikiText-2 test as released (that of `NAME=front` has no blank lines), first "
            f"{arguments.windows} windows of 1,024 tokens. Tasks: lm-eval {measured_with()['lm-eval']}, zero-shot, first "
            f"{arguments.limit} documents of each ({arguments.mmlu_limit} of each subject of MMLU), in % with standard error; `max_task_difference` is the largest "
            f"difference of any accuracy of the dense model, subtasks too, from lm-eval called alone. Speed: "
            f"{workload.prompt_tokens} prompt and {workload.new_tokens} new tokens, {speed.threads} threads, medians of "
            f"{workload.rounds} rounds, each export in turns with the dense model. Memory: weights, activations and "
            f"cache of a process of its own."
        ),
        headline=headline,
        rows=rows,
    )


if __name__ == "__main__":
    main()
