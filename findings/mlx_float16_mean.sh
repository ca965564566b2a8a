#!/usr/bin/env bash
# Good guess:   the mean of 1,000 float16 values of 100 is 100. numpy and torch add up in float32 for a mean and round
#               at the end.
# What happens: infinity. mlx adds float16 up as float16 (100,000 is above 65,504), so mean and var overflow where the
#               values themselves are small; only bfloat16 and float32 are safe for losses, norms and scores.
# Seen with:    mlx 0.32.4 (CPU wheel for Linux), numpy 2.4.6, Python 3.11, x86-64, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile "mlx[cpu]==0.32.4" numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import math

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
seen = {
    "numpy, float16": float(np.full(1000, 100, np.float16).mean()),
    "mlx, float16": mx.full((1000,), 100, dtype=mx.float16).mean().item(),
    "mlx, bfloat16": mx.full((1000,), 100, dtype=mx.bfloat16).mean().item(),
    "mlx, float16, variance": mx.full((1000,), 100, dtype=mx.float16).var().item(),
}
print("mlx", mx.__version__)
for name, value in seen.items():
    print(f"{name}: {value}")
assert seen["numpy, float16"] == 100.0
assert seen["mlx, float16"] == math.inf
assert abs(seen["mlx, bfloat16"] - 100.0) < 1.0
assert not math.isfinite(seen["mlx, float16, variance"])
print("as described: the mean of equal float16 values is infinite")
PY
