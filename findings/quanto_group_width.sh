#!/usr/bin/env bash
# Good guess:   4-bit weights share a scale in groups of 128 along a row (quanto's default); a width that 128 does not
#               divide is refused, padded, or split into the largest power of two that divides it.
# What happens: the group is 128, 96, 64 or 32, the first that divides the width, if the width is above 128; else,
#               silently, one scale serves a whole row. So width 192 has groups of 96, 160 of 32, and 200 or 1,000 one
#               scale a row.
# Seen with:    optimum-quanto 0.2.7, torch 2.13.0 (CPU), Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 optimum-quanto==0.2.7
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

from optimum.quanto import freeze, qint4, quantize
from torch import nn


def scales_per_row(width: int) -> int:
    model = nn.Sequential(nn.Linear(width, 16, bias=False))
    quantize(model, weights=qint4)
    freeze(model)
    return model[0].weight._scale.numel() // 16


print("optimum-quanto", version("optimum-quanto"))
seen = {width: scales_per_row(width) for width in (128, 160, 192, 200, 256, 1000)}
for width, scales in seen.items():
    print(f"width {width}: {scales} scale(s) a row, groups of {width // scales}")
assert seen == {128: 1, 160: 5, 192: 2, 200: 1, 256: 2, 1000: 1}
print("as described: the width decides between groups of 32, 96, 128 and whole rows")
PY
