#!/usr/bin/env bash
# Good guess:   cache.crop(n) shortens a key-value cache to n tokens, as it did for years (a negative n removes -n).
# What happens: a positive n is a ValueError now, even where it would change nothing, so only "remove this many" is
#               left; and crop(0), once "empty the cache", leaves every token in place without a word.
# Seen with:    transformers 5.24.0 (5.23.0 alike), torch 2.13.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 transformers==5.24.0
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import DynamicCache


def cropped(count: int) -> str:
    cache = DynamicCache()
    cache.update(torch.zeros(1, 2, 10, 4), torch.zeros(1, 2, 10, 4), 0)
    try:
        cache.crop(count)
    except ValueError as error:
        return f"ValueError: {error}"
    return f"{cache.get_seq_length()} tokens left"


print("transformers", transformers.__version__)
seen = {count: cropped(count) for count in (5, 10, -3, 0)}
for count, what in seen.items():
    print(f"10 tokens, crop({count}): {what}")
assert seen[5].startswith("ValueError") and seen[10].startswith("ValueError")
assert seen[-3] == "7 tokens left"
assert seen[0] == "10 tokens left"
print("as described: a positive length is refused, and 0 removes nothing")
PY
