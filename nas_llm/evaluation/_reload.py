"""What was written is what lies on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from nas_llm.data import WindowSet
from nas_llm.errors import ExportError
from nas_llm.evaluation._measured import load_weights


def check_reload(written: PreTrainedModel, found_at: Path, target: Path, windows: WindowSet) -> None:
    """Load an export back and compare it bit for bit.

    Args:
        written: The model in memory.
        found_at: Where its export lies now.
        target: Where it is to appear.
        windows: Text whose first window both are run on.

    Raises:
        ExportError: If they differ.
    """
    reloaded = load_weights(str(target), str(found_at), dtype=None)
    wanted, found = written.state_dict(), reloaded.state_dict()
    ids = torch.from_numpy(windows.tokens[:1].copy())
    with torch.inference_mode():
        same = wanted.keys() == found.keys() and all(torch.equal(found[name], value) for name, value in wanted.items())
        same = same and torch.equal(reloaded(ids).logits, written(ids).logits)
    if not same:
        raise ExportError(
            f"{target} does not reload to what was written; please report this with your versions of torch, "
            f"transformers and safetensors"
        )
