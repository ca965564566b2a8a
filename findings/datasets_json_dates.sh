#!/usr/bin/env bash
# Good guess:   load_dataset("json") gives strings as strings; a column "text" of JSON strings can be handed to a
#               tokenizer.
# What happens: a column whose strings all look like ISO dates becomes timestamps, and its rows datetime objects;
#               str() of one is not what the file said. One row that is no date, and all are strings again, so it
#               depends on the shard. (A CSV reader is expected to guess; JSON has types.)
# Seen with:    datasets 5.2.0, pyarrow 26.0.1, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME="$work/hf" WORK="$work" "$work/venv/bin/python" - <<'PY'
import datetime
import json
import os
from pathlib import Path

import datasets

work = Path(os.environ["WORK"])


def loaded(name: str, *texts: str) -> list[object]:
    path = work / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts) + "\n")
    return datasets.load_dataset("json", data_files=str(path), split="train")["text"][:]


print("datasets", datasets.__version__)
dates = loaded("dates", "2026-11-27", "2026-01-01T10:00")
mixed = loaded("mixed", "2026-11-27", "2026-01-01T10:00", "Monday")
print("all dates:", dates)
print("one word among them:", mixed)
assert dates == [datetime.datetime(2026, 11, 27), datetime.datetime(2026, 1, 1, 10, 0)]
assert mixed == ["2026-11-27", "2026-01-01T10:00", "Monday"]
print("as described: JSON strings came back as datetimes")
PY
