#!/usr/bin/env bash
# Good guess:   quantize_4bit and dequantize_4bit agree on their blocks of 64 values, so the error of a round trip is
#               that of NF4 (about 0.15 of the largest value of a block), whatever the shape of the matrix.
# What happens: on the CPU, quantising cuts the flattened matrix into blocks, which run over row ends where 64 does
#               not divide the width; dequantising counts blocks by row, and multiplies by other blocks' scales. At
#               widths 96 or 160 the weights come back several times further off, silently; at 64, 128 and 192 all is
#               well.
# Seen with:    bitsandbytes 0.50.2 (its CPU library), torch 2.13.0, Python 3.11, x86-64, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 bitsandbytes==0.50.2
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

torch.manual_seed(0)


def errors(width: int) -> tuple[float, float]:
    """Largest error of the library's round trip, and of the same codes times the scale of their own block."""
    weight = torch.randn(32, width)
    packed, state = quantize_4bit(weight, quant_type="nf4", blocksize=64)
    back = dequantize_4bit(packed, state)
    blocks = weight.flatten().view(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    assert torch.allclose(state.absmax, scale.flatten())
    nearest = (blocks / scale).unsqueeze(-1).sub(state.code).abs().argmin(-1)
    expected = (state.code[nearest] * scale).view_as(weight)
    return float((back - weight).abs().max()), float((expected - weight).abs().max())


print("bitsandbytes", version("bitsandbytes"))
seen = {width: errors(width) for width in (64, 96, 128, 160, 192)}
for width, (found, possible) in seen.items():
    print(f"width {width}: largest error {found:.3f}, with each block's own scale {possible:.3f}")
for width, (found, possible) in seen.items():
    if width % 64:
        assert found > 1.5 * possible
    else:
        assert abs(found - possible) < 1e-4
print("as described: widths that 64 does not divide come back wrong")
PY
