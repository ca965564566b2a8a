#!/usr/bin/env bash
# Good guess:   dataset[[True, False, True]] is a mask, as in numpy, pandas and torch, or is refused (its length is
#               not even that of the dataset).
# What happens: True and False are taken for 1 and 0: rows 1, 0 and 1, without a word, also from a numpy array of
#               bools of the right length. select(), which else takes the same row numbers, refuses bools.
# Seen with:    datasets 5.2.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME="$work/hf" "$work/venv/bin/python" - <<'PY'
import datasets
import numpy as np

rows = datasets.Dataset.from_dict({"id": [10, 11, 12, 13]})
mask = [False, False, True, True]
seen = {
    "dataset[list]": rows[mask]["id"],
    "dataset[array]": rows[np.array(mask)]["id"],
}
try:
    rows.select(mask)
except Exception as error:  # pyarrow's own kind
    refused = f"{type(error).__name__}: {error}"
print("datasets", datasets.__version__)
for name, ids in seen.items():
    print(f"{name} with {mask} of ids 10 to 13: {ids}")
assert seen["dataset[list]"] == [10, 10, 11, 11]
assert seen["dataset[array]"] == [10, 10, 11, 11]
print("select():", refused)
assert "bool" in refused
print("as described: a list of bools is a list of row numbers")
PY
