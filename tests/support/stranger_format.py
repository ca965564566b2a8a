"""An export format of somebody else: one numpy archive, for models whose blocks all have an attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas_llm.export import register_format


def refusal(genome: Any, config: Any) -> str | None:
    missing = np.flatnonzero(genome.kv_groups == 0)
    return f"layer {missing[0]} has no attention" if len(missing) else None


@register_format("npz", dtypes=("f32", "f16"), loads="numpy.load('DIRECTORY/weights.npz')", refusal=refusal)
def write(subnet: Any, dense: Any, directory: Path, *, provenance: Any, settings: Any) -> None:
    directory.mkdir()
    kind = {"f32": np.float32, "f16": np.float16}[settings.dtype]
    np.savez(
        directory / "weights.npz",
        **{name: weight.float().numpy().astype(kind) for name, weight in subnet.state_dict().items()},
    )
    (directory / "point.txt").write_text(provenance.point, encoding="utf-8")
