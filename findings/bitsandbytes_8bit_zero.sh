#!/usr/bin/env bash
# Good guess:   blockwise 8-bit quantisation keeps exact zeros: its code book has an entry that is 0, and the nearest
#               entry is chosen.
# What happens: on the CPU a zero gets the code four entries above the 0 and comes back as 2.1e-5 of the block's
#               largest value. A pruned row is no longer zero after a round trip.
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
from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise

values = torch.zeros(300)
values[0] = 1.0
codes, state = quantize_blockwise(values)
back = dequantize_blockwise(codes, state)
zero = int((state.code == 0).nonzero())
print("bitsandbytes", version("bitsandbytes"))
print(f"entry of the code book that is 0: {zero}; entry chosen for 0.0: {int(codes[1])}")
print(f"0.0 comes back as {float(back[1]):.4g} beside a largest value of {float(back[0])}")
assert zero == 127 and codes[1:].unique().tolist() == [131]
assert 2e-5 < float(back[1]) < 2.2e-5 and float(back[0]) == 1.0
print("as described: zeros come back as small positive numbers")
PY
