"""Tasks of lm-evaluation-harness on a model in memory; answers are kept, so no request is computed twice."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.cache import cache_dir
from nas_llm.errors import ConfigError, DataError, NasLlmError, first_line
from nas_llm.evaluation._scores import TaskScore
from nas_llm.evaluation.tasks import (
    COMMONSENSE7,
    COMMONSENSE7_METRICS,
    UNKNOWN,
    MetricKind,
    OnRequests,
    builtin_folder,
    commonsense7_mean,
    contained,
    expand,
    metric_kinds,
    require_lm_eval,
    task_folders,
    without_git,
)
from nas_llm.models import available_bytes

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task

# Beyond this a CPU gains nothing, and requests longer than this are rare.
_MOST_ON_CPU, _USUAL_TOKENS = 16, 512


class TaskSuite:
    """Tasks, loaded once for all models.

    Args:
        names: Tasks, groups and tags of lm-eval, and ``commonsense7``.
        include_path: A folder of task files; they come before lm-eval's own.
        limit: Documents of each task, from the beginning; None = all.
        keep_documents: Whether scores hold those of every document.

    Raises:
        ConfigError: If lm-eval is not installed, a name is unknown, or a number is not usable.
        DataError: If the data of a task cannot be had.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        include_path: Path | None = None,
        limit: int | None = None,
        keep_documents: bool = False,
    ) -> None:
        require_lm_eval("--tasks")
        if limit is not None and limit < 1:
            raise ConfigError(f"limit = {limit} should be at least 1")
        self._asked, self._limit = tuple(dict.fromkeys(names)), limit
        self._keep_documents = keep_documents
        self._tasks = _load(expand(self._asked), include_path)

    def run(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        identity: str | None = None,
        on_requests: OnRequests = lambda done, total: None,
    ) -> list[TaskScore]:
        """Scores of a model, zero-shot unless a task says otherwise.

        Log-probabilities of answers are summed in float32, whatever the model's own type: in bfloat16 close answers
        would tie, and the first one win.

        Args:
            model: A causal LM in evaluation mode; runs on its own device in its own dtype.
            tokenizer: Its tokenizer.
            identity: What its weights are told apart by; answers are kept under it. None keeps none.
            on_requests: Told how many requests are answered, and how many were made so far.

        Returns:
            Every metric of every task and group.
        """
        cache = None if identity is None else _cache_file(identity, model, tokenizer)
        reused = cache is not None and cache.with_name(f"{cache.name}_rank0.db").exists()
        most = _most_at_once(model)
        # Trying runs the longest requests five times over, which on a CPU takes minutes and finds nothing out.
        batch = most if model.device.type == "cpu" else "auto"
        try:
            with contained(on_requests), without_git():
                from lm_eval import simple_evaluate
                from lm_eval.models.huggingface import HFLM
                from lm_eval.tasks import TaskManager

                lm = HFLM(
                    pretrained=model,
                    backend="causal",
                    tokenizer=tokenizer,
                    batch_size=batch,
                    max_batch_size=most,
                    softmax_dtype="float32",
                )
                found = simple_evaluate(
                    lm,
                    tasks=list(self._tasks),
                    limit=self._limit,
                    # The tasks are loaded already; its own would read every task file there is.
                    task_manager=TaskManager(include_defaults=False),
                    use_cache=None if cache is None else str(cache),
                    log_samples=self._keep_documents,
                )
                # Asked for in here: lm-eval draws numbers even then.
                kinds, headlines = self._kinds(), self._headlines()
        except ValueError as error:
            raise ConfigError(f"lm-eval refuses: {first_line(error)}") from error
        assert found is not None
        scores = _scores(found, headlines, kinds, reused)
        return [*scores, commonsense7_mean(scores)] if COMMONSENSE7 in self._asked else scores

    def _headlines(self) -> Mapping[str, str]:
        """Task or group to the metric that tables show."""
        from lm_eval.api.group import Group

        headlines: dict[str, str] = {}
        for item in self._tasks:
            if isinstance(item, Group):
                metrics = [entry.metric for entry in item.aggregate_metric_list or ()]
                # A group without a number of its own is shown by its tasks.
                shown = {item.name: metrics[0]} if metrics else dict(map(_headline, item.get_all_tasks()))
                headlines |= shown
            else:
                headlines |= [_headline(item)]
        return headlines

    def _kinds(self) -> dict[str, dict[str, MetricKind]]:
        """The metrics of each task and group."""
        from lm_eval.api.group import Group

        found: dict[str, dict[str, MetricKind]] = {}
        for item in self._tasks:
            grouped = isinstance(item, Group)
            for group in [item, *item.get_all_groups()] if grouped else []:
                found[group.name] = metric_kinds(group.get_all_tasks())
            for task in item.get_all_tasks() if grouped else [item]:
                found[task.task_name] = metric_kinds([task])
        return found


def _headline(task: Task) -> tuple[str, str]:
    """A task's name and the metric to read."""
    own = list(task.aggregation())
    wanted = COMMONSENSE7_METRICS.get(task.task_name, own[0])
    return task.task_name, wanted if wanted in own else own[0]


@contained()
def _load(names: Sequence[str], include_path: Path | None) -> list[Task | Group]:
    folders = task_folders(names, include_path)

    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[*folders], include_defaults=False)
    loaded: list[Task | Group] = []
    for name in names:
        try:
            loaded += _objects(manager.load([name]))
        except KeyError:
            # A group of tasks that lie elsewhere.
            everything = [builtin_folder(), *([include_path] if include_path else [])]
            manager = TaskManager(include_path=everything, include_defaults=False)
            try:
                loaded += _objects(manager.load([name]))
            except Exception as error:
                raise _not_loaded(name, error) from error
        except Exception as error:
            raise _not_loaded(name, error) from error
    return loaded


def _objects(loaded: Mapping[str, Any]) -> list[Task | Group]:
    """The outermost groups and the tasks outside of any."""
    groups, tasks = loaded.get("groups", {}), loaded["tasks"]
    inner = {child for children in loaded.get("group_map", {}).values() for child in children}
    grouped = {task.task_name for group in groups.values() for task in group.get_all_tasks()}
    outermost = [group for name, group in groups.items() if name not in inner]
    return [*outermost, *(task for name, task in tasks.items() if name not in grouped)]


def _not_loaded(name: str, error: Exception) -> NasLlmError:
    reason = first_line(error).rstrip(".")
    if isinstance(error, ConnectionError) or "offline" in str(error).lower():
        return DataError(
            f"the data of task {name!r} are on a hub that is not in reach ({reason}); connect, or name a folder with "
            f"task files of local data with --include-path"
        )
    return DataError(f"task {name!r} cannot be loaded ({type(error).__name__}: {reason}); check its file and data")


def _scores(
    found: Mapping[str, Any],
    headlines: Mapping[str, str],
    kinds: Mapping[str, Mapping[str, MetricKind]],
    reused: bool,
) -> list[TaskScore]:
    scores = []
    for task, values in found["results"].items():
        samples = values.get("sample_len", 0)
        for key, value in values.items():
            name, comma, kind = key.partition(",")
            if not comma or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{name}_stderr,{kind}")
            metric = kinds.get(task, {}).get(name, UNKNOWN)
            fewshot = found["n-shot"].get(task)
            scores.append(
                TaskScore(
                    task=task,
                    metric=name if kind == "none" else f"{name} ({kind})",
                    value=float(value),
                    stderr=float(error) if isinstance(error, int | float) else None,
                    samples=int(samples),
                    fewshot=fewshot if isinstance(fewshot, int) else None,
                    headline=headlines.get(task) == name,
                    cached=reused,
                    share=metric.share,
                    higher_is_better=metric.higher_is_better,
                    documents=_documents(found.get("samples", {}).get(task, ()), name, kind, float(value)),
                )
            )
    return scores


def _documents(samples: Sequence[Mapping[str, Any]], metric: str, kind: str, mean: float) -> tuple[float, ...] | None:
    """Scores of documents, where the task's score is their mean."""
    own = sorted((sample for sample in samples if sample["filter"] == kind), key=lambda sample: int(sample["doc_id"]))
    values = [sample.get(metric) for sample in own]
    if not values or not all(isinstance(value, bool | int | float) for value in values):
        return None
    scores = tuple(float(value) for value in values if value is not None)
    return scores if math.isclose(math.fsum(scores) / len(scores), mean, rel_tol=1e-6, abs_tol=1e-9) else None


def _most_at_once(model: PreTrainedModel) -> int:
    """Batch on a CPU, where nothing would stop a larger one before memory is gone; on a GPU the first one to try."""
    if model.device.type != "cpu":
        return 64
    logits = 3 * 4 * _USUAL_TOKENS * int(model.config.vocab_size)
    return max(1, min(_MOST_ON_CPU, available_bytes() // 2 // logits))


def _cache_file(identity: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    """What answers depend on beside the request itself, which is lm-eval's key in the file."""
    parts: dict[str, Any] = {
        "model": identity,
        "tokenizer": sorted(tokenizer.get_vocab().items()),
        "dtype": str(model.dtype),
        "device": model.device.type,
        "versions": [version(name) for name in ("lm-eval", "torch", "transformers")],
    }
    if model.dtype != torch.float32:
        # Answers that were summed in the model's own type are not mixed with others.
        parts["softmax"] = "float32"
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
    return cache_dir() / "lm_eval" / digest
