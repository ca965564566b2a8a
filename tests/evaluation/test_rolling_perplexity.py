"""docs/evaluation.md says how lm-eval's rolling perplexity comes about, and what it is beside ours on tiny-llama."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from nas_llm.data import packaged_sample, perplexity_windows, read_texts
from nas_llm.evaluation import TaskSuite, load_any, model_perplexity

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


def _nll(model: PreTrainedModel, context: list[int], scored: list[int]) -> float:
    with torch.inference_mode():
        logits = model(torch.tensor([[*context, *scored][:-1]])).logits[0, len(context) - 1 :]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(scored), reduction="sum"))


@pytest.mark.parametrize("length", [600, 10_240])
def test_the_last_window_is_filled_up_with_earlier_text(length: int, tmp_path: Path) -> None:
    model, tokenizer = load_any("tiny-llama")
    sample = packaged_sample("tiny-llama")
    assert sample is not None
    ids = tokenizer("\n\n".join(read_texts(sample)), add_special_tokens=False, verbose=False)["input_ids"]
    text = tokenizer.decode(ids[:length])
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    (tmp_path / "rolling.jsonl").write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
    (tmp_path / "rolling.yaml").write_text(
        "task: rolling\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/rolling.jsonl}}}}\ntest_split: test\n"
        'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}}"\n'
        "metric_list: [{metric: bits_per_byte}]\n",
        encoding="utf-8",
    )
    [score] = TaskSuite(["rolling"], include_path=tmp_path).run(model, tokenizer)
    theirs = math.exp(score.value * math.log(2) * len(text.encode()) / len(ids))

    starts = range(0, len(ids), 512)
    filled = unfilled = 0.0
    for start in starts:
        scored, before = ids[start : start + 512], [tokenizer.eos_token_id, *ids[:start]]
        filled += _nll(model, before[len(scored) - 513 :], scored)
        unfilled += _nll(model, before[-1:], scored)
    assert theirs == pytest.approx(math.exp(filled / len(ids)), rel=1e-5)

    ours = model_perplexity(model, perplexity_windows([text], tokenizer=tokenizer, window=512, special_tokens=True))
    row = f"| {len(ids):,} | {ours:.2f} | {theirs:.2f} | {math.exp(unfilled / len(ids)):.2f} |"
    assert row in DOCS.read_text(encoding="utf-8"), row
