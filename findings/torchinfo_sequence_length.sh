#!/usr/bin/env bash
# Good guess:   the "mult-adds" of torchinfo's summary for a Linear of 64 x 64 over 1 x 128 x 64 are 128 x 64 x 64 =
#               524,288: one product per token. They are for convolutions: one per output position.
# What happens: 4,096. Outside of convolutions the parameters are multiplied by the batch alone, so a Linear costs the
#               same for 128 tokens and for 4,096, while 128 sequences of one token cost 128 times as much.
# Seen with:    torchinfo 1.8.0, torch 2.13.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 torchinfo==1.8.0
"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from torch import nn
from torchinfo import summary


def mult_adds(layer: nn.Module, *shape: int) -> int:
    return summary(layer, input_data=torch.zeros(shape), verbose=0).total_mult_adds


linear, convolution = nn.Linear(64, 64, bias=False), nn.Conv1d(64, 64, 1, bias=False)
seen = {
    "Linear, 1 x 128 x 64": mult_adds(linear, 1, 128, 64),
    "Linear, 1 x 4096 x 64": mult_adds(linear, 1, 4096, 64),
    "Linear, 128 x 1 x 64": mult_adds(linear, 128, 1, 64),
    "Conv1d of width 1 (the same sums), 1 x 64 x 128": mult_adds(convolution, 1, 64, 128),
}
print("torchinfo", version("torchinfo"))
for name, count in seen.items():
    print(f"{name}: {count}")
assert list(seen.values()) == [4096, 4096, 524288, 524288]
print("as described: the sequence length is not counted in a Linear")
PY
