"""Scores of lm-eval in the unit that its metrics have, added up in float32, without a word of its own."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from nas_llm.evaluation import TaskScore, TaskSuite, load_any
from nas_llm.report import evaluation_columns, evaluation_notes, write_evaluation_page
from nas_llm.workflow import ModelRow

_TEXTS = ("A small text with a few plain words in it.", "The river runs past the old house.")


def _task(folder: Path, name: str, body: str, rows: list[dict[str, object]]) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n{body}",
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of rolling perplexities, one of last words as LAMBADA has it, one of choices with several metrics."""
    folder = tmp_path_factory.mktemp("units")
    _task(
        folder,
        "rolling",
        'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}}"\n'
        "metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]\n",
        [{"text": text} for text in _TEXTS],
    )
    _task(
        folder,
        "last_word",
        'output_type: loglikelihood\ndoc_to_text: "{{start}}"\ndoc_to_target: " {{last}}"\n'
        "metric_list: [{metric: perplexity}, {metric: acc}]\n",
        [{"start": text.rsplit(" ", 1)[0], "last": text.rsplit(" ", 1)[1]} for text in _TEXTS],
    )
    _task(
        folder,
        "choice",
        'output_type: multiple_choice\ndoc_to_text: "{{start}}"\ndoc_to_choice: "{{c}}"\ndoc_to_target: "{{gold}}"\n'
        "metric_list: [{metric: acc}, {metric: brier_score}]\n",
        [{"start": text, "c": ["yes", "no"], "gold": index} for index, text in enumerate(_TEXTS)],
    )
    (folder / "both.yaml").write_text("group: both\ntask: [rolling, choice]\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def scores(folder: Path) -> list[TaskScore]:
    # Standard errors of perplexities are bootstrapped, by processes that a test would wait for.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm_eval.api.metrics.bootstrap_stderr", lambda *_: 0.0)
    return TaskSuite(["both", "last_word"], include_path=folder).run(*load_any("tiny-llama"))


def test_only_shares_are_shares(scores: list[TaskScore]) -> None:
    kinds = {f"{score.task} {score.metric}": (score.share, score.higher_is_better) for score in scores}
    assert kinds == {
        "rolling word_perplexity": (False, False),
        "rolling bits_per_byte": (False, False),
        "last_word perplexity": (False, False),
        "last_word acc": (True, True),
        "choice acc": (True, True),
        "choice brier_score": (False, False),
    }
    # A group without a number of its own is shown by its tasks, each by its own first metric.
    shown = {f"{score.task} {score.metric}" for score in scores if score.headline}
    assert shown == {"choice acc", "last_word perplexity", "rolling word_perplexity"}


def test_tables_and_pages_show_each_metric_in_its_own_unit(scores: list[TaskScore], tmp_path: Path) -> None:
    row = ModelRow(
        name="tiny",
        params=1,
        block_params=1,
        inheriting_ratio=None,
        macs_per_token=1,
        macs_tokens=1,
        texts=(),
        tasks=tuple(scores),
    )
    cells = {column.title: column.cells[0] for column in evaluation_columns([row])}
    found = {f"{score.task} {score.metric}": score for score in scores}
    share = found["choice acc"]
    assert share.stderr is not None
    assert cells["choice acc"] == f"{100 * share.value:.1f} ± {100 * share.stderr:.1f}"
    for name in ("rolling word_perplexity", "last_word perplexity"):
        shown = float(cells[name].split(" ± ")[0])
        assert shown == pytest.approx(found[name].value, rel=1e-3)
        assert shown > 100
    [note] = [note for note in evaluation_notes([row]) if "lm-eval" in note]
    assert "acc in %; as lm-eval gives it: " in note
    assert "word_perplexity, lower is better" in note
    write_evaluation_page(tmp_path / "page.html", [row], versions={})
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"<td>{cells['rolling word_perplexity']}</td>" in page


@pytest.mark.parametrize(
    ("name", "summed_up", "share"),
    [
        ("acc_norm", "mean", True),
        ("exact_match", "mean", True),
        ("prompt_level_strict_acc", "mean", True),
        ("pass@1", "mean", True),
        ("em", "mean", True),
        ("bleu_max", "mean", False),
        ("rouge1", "mean", False),
        ("score", "mean", False),
        ("f1", "f1", True),
        ("mcc", "matthews_corrcoef", False),
        ("bleu", "bleu", False),
        ("f1", None, False),
        ("word_perplexity", "weighted_perplexity", False),
    ],
)
def test_metrics_of_a_task_alone_are_shares_by_what_they_count(name: str, summed_up: str | None, share: bool) -> None:
    from lm_eval.api.registry import get_aggregation

    from nas_llm.evaluation._task_metrics import metric_kinds

    class Task:
        def aggregation(self) -> dict[str, object]:
            return {name: get_aggregation(summed_up) if summed_up else lambda items: 100.0 * sum(items) / len(items)}

        def higher_is_better(self) -> dict[str, bool]:
            return {name: True}

    class Worse(Task):
        def higher_is_better(self) -> dict[str, bool]:
            return {name: False}

    assert metric_kinds([Task()])[name].share is share  # type: ignore[list-item]
    assert metric_kinds([Worse()])[name].share is False  # type: ignore[list-item]


def test_close_answers_of_a_bfloat16_model_do_not_tie(tmp_path: Path) -> None:
    """The model is the judge of its own answers, summed in float32: it is always right."""
    model, tokenizer = load_any("tiny-llama", dtype=torch.bfloat16)
    words = random.Random(0)
    known = "a of the river house car red blue very nice apples bread butter cheese farm old new small big".split()
    rows: list[dict[str, object]] = []
    for _ in range(60):
        question, base = " ".join(words.choices(known, k=6)), words.choices(known, k=8)
        choices = [" ".join([*base[:7], last]) for last in words.sample(known, 6)]
        sums = []
        for choice in choices:
            head, whole = tokenizer.encode(question), tokenizer.encode(f"{question} {choice}")
            with torch.inference_mode():
                logits = model(torch.tensor([whole])).logits[0, len(head) - 1 : -1].float().log_softmax(-1)
            sums.append(float(logits.gather(1, torch.tensor(whole[len(head) :])[:, None]).sum()))
        rows.append({"q": question, "c": choices, "gold": sums.index(max(sums))})
    _task(
        tmp_path,
        "own",
        'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: "{{c}}"\ndoc_to_target: "{{gold}}"\n'
        "metric_list: [{metric: acc}]\n",
        rows,
    )
    [score] = TaskSuite(["own"], include_path=tmp_path).run(model, tokenizer)
    assert score.value == 1.0


def test_answers_summed_in_another_type_are_not_mixed_in() -> None:
    from nas_llm.evaluation.tasks._lm_eval import _cache_file

    def before(dtype: str) -> str:
        parts = {
            "model": "it",
            "tokenizer": sorted(tokenizer.get_vocab().items()),
            "dtype": dtype,
            "device": "cpu",
            "versions": [version(name) for name in ("lm-eval", "torch", "transformers")],
        }
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()

    model, tokenizer = load_any("tiny-llama")
    assert _cache_file("it", model, tokenizer).name == before("torch.float32")
    assert _cache_file("it", model.to(torch.bfloat16), tokenizer).name != before("torch.bfloat16")


def test_lm_eval_keeps_quiet_and_its_bars_are_passed_on(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    suite = TaskSuite(["choice"], include_path=folder)
    suite.run(*load_any("tiny-llama"), on_requests=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    command = [sys.executable, "-c", "from nas_llm.cli import main; main()", "evaluate", "tiny-llama"]
    done = subprocess.run(
        [*command, "--tasks", "rolling,choice", "--include-path", str(folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rolling word_perplexity" in done.stdout
    for noise in ("fatal", "git repository", "it/s", "100%"):
        assert noise not in done.stdout + done.stderr
