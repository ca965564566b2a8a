#!/usr/bin/env bash
# Good guess:   where few-shot examples come from the split that is scored, the scored document is kept out of its own
#               prompt: the sampler draws one more than asked for and drops it.
# What happens: only where the task names fewshot_split and it is the same name as test_split. A task that names
#               test_split alone (examples then come from it) or a validation_split for both shows the model the
#               question with its answer: here half of the prompts, no warning, and any score is too good.
# Seen with:    lm-eval 0.4.13, datasets 5.2.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 lm-eval==0.4.13 datasets==5.2.0
cd "$work"
HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME="$work/hf" WORK="$work" "$work/venv/bin/python" - <<'PY'
import json
import os
from importlib.metadata import version
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

work = Path(os.environ["WORK"])
rows = [{"question": f"question {number}", "choices": ["yes", "no"], "answer": number % 2} for number in range(8)]
(work / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


class Listener(LM):
    """A model that remembers its prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []

    def loglikelihood(self, requests, **_):
        self.prompts += [request.args[0] for request in requests]
        return [(-1.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests, **_):
        raise NotImplementedError

    def generate_until(self, requests, **_):
        raise NotImplementedError


def leaks(name: str, *splits: str) -> int:
    """Of 8 documents, those whose own question is among the 4 examples before it."""
    folder = work / name
    folder.mkdir()
    data_split = "validation" if any("validation" in line for line in splits) else "test"
    lines = [
        f"task: {name}", "dataset_path: json", "dataset_kwargs:", "  data_files:",
        f"    {data_split}: {work / 'rows.jsonl'}", *splits, "output_type: multiple_choice",
        'doc_to_text: "{{question}}:"', 'doc_to_choice: "{{choices}}"', 'doc_to_target: "{{answer}}"',
        "metric_list:", "  - metric: acc",
    ]
    (folder / "task.yaml").write_text("\n".join(lines) + "\n")
    listener = Listener()
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    simple_evaluate(listener, tasks=[name], task_manager=manager, num_fewshot=4, bootstrap_iters=0)
    prompts = set(listener.prompts)
    assert len(prompts) == 8 and all(prompt.count("question") == 5 for prompt in prompts)
    return sum(prompt.split("\n\n")[-1] in "\n\n".join(prompt.split("\n\n")[:-1]) for prompt in prompts)


seen = {
    "test_split and fewshot_split: test": leaks("named", "test_split: test", "fewshot_split: test"),
    "test_split: test alone": leaks("unnamed", "test_split: test"),
    "validation_split and fewshot_split: validation": leaks(
        "validated", "validation_split: validation", "fewshot_split: validation"
    ),
}
print("lm-eval", version("lm-eval"))
for name, count in seen.items():
    print(f"{name}: {count} of 8 prompts hold their own answer")
found = list(seen.values())
assert found[0] == 0 and found[1] > 0 and found[2] > 0
print("as described: the scored document is among its own examples")
PY
