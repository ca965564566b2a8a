"""lm-eval for real, on tasks of our own and the packaged test model."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from local_tasks import write_tasks
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.errors import ConfigError, DataError
from nas_llm.evaluation import COMMONSENSE7_METRICS, TaskScore, TaskSuite, load_any
from nas_llm.evaluation.tasks._task_groups import commonsense7_mean

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("lm-eval") / "tasks")


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_any("tiny-llama")


def _find(scores: list[TaskScore], task: str, metric: str) -> TaskScore:
    return next(score for score in scores if (score.task, score.metric) == (task, metric))


def test_scores_are_those_of_lm_eval_itself(tasks: Path, loaded: Loaded) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = loaded
    direct = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1),
        tasks=["made_up_pair"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
    )
    assert direct is not None
    scores = TaskSuite(["made_up_pair"], include_path=tasks).run(model, tokenizer)
    for task in ("made_up", "made_up_twin"):
        for metric in ("acc", "acc_norm"):
            found = _find(scores, task, metric)
            assert found.value == direct["results"][task][f"{metric},none"]
            assert found.stderr == pytest.approx(direct["results"][task][f"{metric}_stderr,none"])
            assert (found.samples, found.fewshot, found.headline, found.cached) == (6, 0, False, False)
    group = _find(scores, "made_up_pair", "acc")
    assert group.headline
    assert group.samples == 12
    assert group.value == direct["groups"]["made_up_pair"]["acc,none"]


def test_answers_are_kept_for_the_same_model_alone(tasks: Path, loaded: Loaded) -> None:
    model, tokenizer = loaded
    suite = TaskSuite(["made_up"], include_path=tasks, limit=4)
    first = suite.run(model, tokenizer, identity="first")
    assert not any(score.cached for score in first)
    assert _find(first, "made_up", "acc").samples == 4

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    hook = model.register_forward_pre_hook(refuse)
    try:
        again = suite.run(model, tokenizer, identity="first")
        with pytest.raises(AssertionError, match="computed again"):
            suite.run(model, tokenizer, identity="second")
    finally:
        hook.remove()
    assert all(score.cached for score in again)
    assert [score.value for score in again] == [score.value for score in first]


def test_a_cpu_runs_each_request_once_and_no_tries(tasks: Path, loaded: Loaded) -> None:
    model, tokenizer = loaded
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    try:
        TaskSuite(["made_up"], include_path=tasks, limit=4).run(model, tokenizer)
    finally:
        hook.remove()
    # Two answers to each of four questions.
    assert sum(sizes) == 4 * 2


def test_one_task_is_a_headline_by_its_first_metric_and_seeds_are_left_alone(tasks: Path, loaded: Loaded) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    scores = TaskSuite(["made_up"], include_path=tasks).run(*loaded)
    assert [score.metric for score in scores if score.headline] == ["acc"]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_mean_of_seven_takes_the_metric_of_each() -> None:
    def score(task: str, metric: str, value: float) -> TaskScore:
        return TaskScore(
            task=task,
            metric=metric,
            value=value,
            stderr=0.07,
            samples=10,
            fewshot=0,
            headline=True,
            cached=False,
            share=True,
            higher_is_better=True,
        )

    scores = [score(task, "acc", 0.5 if metric == "acc" else 0.0) for task, metric in COMMONSENSE7_METRICS.items()]
    scores += [score(task, "acc_norm", 0.9) for task, metric in COMMONSENSE7_METRICS.items() if metric == "acc_norm"]
    mean = commonsense7_mean(scores)
    assert mean.value == pytest.approx((4 * 0.5 + 3 * 0.9) / 7)
    assert mean.stderr == pytest.approx(0.07 / math.sqrt(7))
    assert mean.samples == 70


def test_a_misspelt_task_is_answered_with_the_nearest(tasks: Path) -> None:
    with pytest.raises(ConfigError, match="'arc_esay'.*did you mean arc_easy"):
        TaskSuite(["arc_esay"])
    with pytest.raises(ConfigError, match="'made_upp'.*did you mean made_up"):
        TaskSuite(["made_upp"], include_path=tasks)
    with pytest.raises(ConfigError, match="'commonsense'.*commonsense7"):
        TaskSuite(["commonsense"])


@pytest.mark.parametrize("name", ["piqa", "commonsense7", "mmlu"])
def test_data_on_a_hub_out_of_reach_are_named(name: str) -> None:
    with pytest.raises(DataError, match="hub that is not in reach.*--include-path"):
        TaskSuite([name])


def test_bad_input_is_named(tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="limit = 0"):
        TaskSuite(["made_up"], include_path=tasks, limit=0)
    with pytest.raises(ConfigError, match="nowhere is no folder"):
        TaskSuite(["made_up"], include_path=tmp_path / "nowhere")
    broken = write_tasks(tmp_path / "tasks")
    (broken / "made_up.jsonl").write_text("no json", encoding="utf-8")
    with pytest.raises(DataError, match="task 'made_up' cannot be loaded"):
        TaskSuite(["made_up"], include_path=broken)


def test_without_lm_eval_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match=r"--tasks needs lm-eval: pip install 'nas-llm\[eval\]'"):
        TaskSuite(["piqa"])
