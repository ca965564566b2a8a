"""Small lm-eval tasks with their data beside them."""

from __future__ import annotations

import json
from pathlib import Path

_ROWS = (
    ("The kettle on the stove began to", ("whistle when the water boiled", "recite the alphabet"), 0),
    ("Before the rain came, the farmer", ("ate a mountain of chalk", "brought the hay inside"), 1),
    ("To keep the soup warm, put", ("a lid on the pot", "the pot into the river at night"), 0),
    ("The sailors saw the lighthouse and", ("turned towards the harbour", "became much older bricks"), 0),
    ("A ladder is used to", ("whisper to distant clouds", "reach high shelves"), 1),
    ("After the lamp broke, the room was", ("dark", "made of seven small trumpets"), 0),
)


def write_tasks(folder: Path) -> Path:
    """Two tasks of two choices each, ``made_up`` and ``made_up_twin``, and a group of both, ``made_up_pair``."""
    folder.mkdir(parents=True)
    data = folder / "made_up.jsonl"
    rows = [{"goal": goal, "choices": list(choices), "label": label} for goal, choices, label in _ROWS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, prompt in (("made_up", "{{goal}}"), ("made_up_twin", "Question: {{goal}}\\nAnswer:")):
        (folder / f"{name}.yaml").write_text(
            f"""task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{prompt}"
doc_to_choice: choices
doc_to_target: label
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
""",
            encoding="utf-8",
        )
    (folder / "pair.yaml").write_text(
        """group: made_up_pair
task:
  - made_up
  - made_up_twin
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
""",
        encoding="utf-8",
    )
    return folder
