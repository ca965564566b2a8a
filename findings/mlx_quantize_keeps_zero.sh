#!/usr/bin/env bash
# Good guess:   mlx's affine quantisation stores lowest value and step of a group, like Q4_1 of GGUF: both ends of the
#               group are exact, and a zero inside falls between two levels and is lost.
# What happens: the other way round. The step is bent until zero is a level: exact zeros stay zero (to float32
#               rounding) at 2 to 8 bits, and the price is paid at one end of the group, which may be off by a whole
#               step. Q4_1 by gguf is as guessed.
# Seen with:    mlx 0.32.4 (CPU wheel for Linux), gguf 0.19.0, Python 3.11, x86-64, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile "mlx[cpu]==0.32.4" numpy==2.4.6 gguf==0.19.0
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

import gguf
import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
weights = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
weights[:, 5] = 0.0
rows = np.arange(64)
low, high = weights.argmin(1), weights.argmax(1)


def off(back: np.ndarray) -> tuple[float, float]:
    """Largest value at the zeros, and largest error at the lowest and highest weight of a group."""
    wrong = np.abs(back - weights)
    return float(wrong[:, 5].max()), float(max(wrong[rows, low].max(), wrong[rows, high].max()))


print("mlx", mx.__version__, "gguf", version("gguf"))
seen = {}
for bits in (2, 3, 4, 5, 6, 8):
    parts = mx.quantize(mx.array(weights), group_size=32, bits=bits)
    seen[f"mlx, {bits} bits"] = off(np.array(mx.dequantize(*parts, group_size=32, bits=bits)))
kind = gguf.GGMLQuantizationType.Q4_1
seen["gguf Q4_1"] = off(gguf.quants.dequantize(gguf.quants.quantize(weights, kind), kind))
for name, (zero, ends) in seen.items():
    print(f"{name}: zeros come back within {zero:.2g}, the ends within {ends:.2g}")
assert all(zero < 1e-6 for name, (zero, _) in seen.items() if name.startswith("mlx"))
assert seen["mlx, 4 bits"][1] > 0.05
assert seen["gguf Q4_1"][0] > 0.05 and seen["gguf Q4_1"][1] < 0.005
print("as described: mlx keeps zeros and gives up an end of the group")
PY
