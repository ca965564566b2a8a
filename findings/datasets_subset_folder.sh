#!/usr/bin/env bash
# Good guess:   The hub converts data sets to parquet on a branch of their own, laid out as SUBSET/SPLIT/0000.parquet. So
#               load_dataset(that branch or a copy of it, SUBSET, split=SPLIT) finds the subset by its folder, as the
#               viewer shows it.
# What happens: A ValueError: the only configuration is "default", whatever the folders are called. Without a subset the
#               folders' splits of all subsets are run together: the two subsets below, of other meaning, give one
#               "test" of all rows, silently. What works is data_files with the path.
# Seen with:    datasets 5.2.0, Python 3.11, x86-64, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
cd "$work"
HF_HOME="$work/hf" "$work/venv/bin/python" - <<'PY'
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

for subset, text in (("news", "a headline"), ("code", "x = 1")):
    folder = Path("copy") / subset / "test"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"text": [text]}), folder / "0000.parquet")

print("datasets", datasets.__version__)
try:
    datasets.load_dataset("copy", "news", split="test")
    raise SystemExit("the subset was found by its folder")
except ValueError as error:
    print("with the subset:", str(error).splitlines()[0])
    assert "default" in str(error)
together = datasets.load_dataset("copy", split="test")["text"]
print("without it:", list(together))
assert sorted(together) == ["a headline", "x = 1"]
one = datasets.load_dataset("copy", data_files={"test": "news/test/0000.parquet"}, split="test")["text"]
print("by its path:", list(one))
assert list(one) == ["a headline"]
print("as described: folders are no subsets, and without a subset all of them are one split")
PY
