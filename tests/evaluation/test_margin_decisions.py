"""What the margin prefers is what lm-eval's acc_norm decides for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from local_tasks import write_tasks

from nas_llm.config import DataSection
from nas_llm.data import build_questions
from nas_llm.evaluation import load_any
from nas_llm.subnet.losses import QuestionBatch, padded_length


@pytest.mark.parametrize(
    ("task", "template"), [("made_up", "{goal} {answer}"), ("made_up_twin", "Question: {goal}\nAnswer: {answer}")]
)
def test_scores_decide_as_acc_norm_does(tmp_path: Path, task: str, template: str) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder = write_tasks(tmp_path / "tasks")
    model, tokenizer = load_any("tiny-llama")
    direct = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1),
        tasks=[task],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
    )
    assert direct is not None
    source = {"source": "made_up.jsonl", "template": template, "choices": "choices", "answer": "label"}
    data = DataSection.model_validate({"questions": {"count": 6, "sources": [source]}})
    questions = build_questions(data, tokenizer=tokenizer, base_dir=folder)
    assert questions is not None
    samples = sorted(direct["samples"][task], key=lambda sample: sample["doc_id"])
    assert len(samples) == len(questions) == 6
    right = 0
    for question, sample in zip(questions.questions, samples, strict=True):
        batch = QuestionBatch([question], padded_length(question, 256), torch.device("cpu"))
        with torch.no_grad():
            logits = batch.predicting(model(batch.ids).logits)[0]
        targets = torch.cat(
            [torch.from_numpy(row[start:]) for row, start in zip(question.rows, question.starts, strict=True)]
        )
        scores = batch.scores(torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
        likelihoods = torch.tensor([response[0] for response in sample["filtered_resps"]], dtype=torch.float64)
        torch.testing.assert_close(scores, likelihoods / torch.tensor(question.sizes), rtol=1e-4, atol=1e-5)
        decided = int(scores.argmax()) == question.answer
        assert decided == bool(sample["acc_norm"])
        right += decided
    assert right / 6 == pytest.approx(direct["results"][task]["acc_norm,none"])
