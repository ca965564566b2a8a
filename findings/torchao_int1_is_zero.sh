#!/usr/bin/env bash
# Good guess:   1-bit weight-only quantisation keeps the signs of the weights (two levels around zero, or 0 and -1 as
#               the range of a 1-bit two's complement number), so a layer stays a crude copy of itself.
# What happens: with IntxWeightOnlyConfig(weight_dtype=torch.int1) every weight becomes 0, whatever it was: the layer
#               is gone. int2 uses all of its four levels.
# Seen with:    torchao 0.18.0, torch 2.13.0 (CPU), Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 torchao==0.18.0
"$work/venv/bin/python" - <<'PY'
import copy
from importlib.metadata import version

import torch
from torch import nn
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup

torch.manual_seed(0)
layer = nn.Sequential(nn.Linear(64, 32, bias=False))
print("torchao", version("torchao"))
levels = {}
for name in ("int1", "int2"):
    small = copy.deepcopy(layer)
    quantize_(small, IntxWeightOnlyConfig(weight_dtype=getattr(torch, name), granularity=PerGroup(32)))
    levels[name] = small[0].weight.qdata.unique().tolist()
    back = small[0].weight.dequantize()
    print(f"{name}: stored levels {levels[name]}, largest weight after it {float(back.abs().max()):.3f}")
print(f"largest weight before: {float(layer[0].weight.detach().abs().max()):.3f}")
assert levels == {"int1": [0], "int2": [-2, -1, 0, 1]}
print("as described: nothing is left of a 1-bit layer")
PY
