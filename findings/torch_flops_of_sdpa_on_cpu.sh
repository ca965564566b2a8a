#!/usr/bin/env bash
# Good guess:   torch.utils.flop_counter counts scaled_dot_product_attention (it has a formula for it), so a CPU
#               forward of 8 heads, 128 tokens and width 24 gives 2 products x 2 x 8 x 128 x 128 x 24 = 12,582,912
#               FLOPs.
# What happens: 0. The fused CPU kernel has a name of its own that no formula is registered for, so every ordinary
#               call is free: plain, causal, masked, grouped-query. Give the values another width than the keys, and
#               torch takes the unfused way, which is counted in full: a count of the same model jumps with a head
#               width.
# Seen with:    torch 2.13.0 (CPU), Python 3.11, x86-64, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa
from torch.utils.flop_counter import FlopCounterMode

heads, tokens, width = 8, 128, 24


def flops(value_width: int, kv_heads: int = heads, **options: object) -> int:
    q = torch.randn(1, heads, tokens, width)
    k = torch.randn(1, kv_heads, tokens, width)
    v = torch.randn(1, kv_heads, tokens, value_width)
    with FlopCounterMode(display=False) as counter:
        sdpa(q, k, v, **options)
    return counter.get_total_flops()


seen = {
    "same widths": flops(width),
    "causal": flops(width, is_causal=True),
    "grouped, 2 KV heads": flops(width, kv_heads=2, enable_gqa=True),
    "values 40 wide": flops(40),
}
print("torch", torch.__version__)
for name, count in seen.items():
    print(f"{name}: {count} FLOPs")
assert [seen["same widths"], seen["causal"], seen["grouped, 2 KV heads"]] == [0, 0, 0]
assert seen["values 40 wide"] == 2 * heads * tokens * tokens * (width + 40)
print("as described: attention of equal widths counts as nothing on a CPU")
PY
