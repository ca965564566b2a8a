#!/usr/bin/env bash
# Good guess:   mlx.core.linalg.cholesky of a matrix that is not positive definite raises, as numpy and torch do
#               (mlx's own inv raises for a singular matrix), or gives NaN, as JAX does.
# What happens: it returns finite numbers without a word: the factor as far as it got and what stood there before. A
#               solve with it is garbage that no isnan() finds; whether a damping was enough must be checked by
#               multiplying back.
# Seen with:    mlx 0.32.4 (CPU wheel for Linux), Python 3.11, x86-64, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile "mlx[cpu]==0.32.4" numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
matrix = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
factor = np.array(mx.linalg.cholesky(mx.array(matrix)))
print("mlx", mx.__version__)
print("eigenvalues:", np.linalg.eigvalsh(matrix))
print("factor:", factor.tolist())
print("factor times its transpose:", (factor @ factor.T).tolist())
try:
    np.linalg.cholesky(matrix)
except np.linalg.LinAlgError as error:
    print("numpy:", error)
else:
    raise SystemExit("numpy took it")
assert np.isfinite(factor).all()
assert np.abs(factor @ factor.T - matrix).max() > 1
print("as described: a finite factor of a matrix that has none")
PY
