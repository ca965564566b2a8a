"""What users do with exports of several families, in one process without nas_llm; writes one file of results.

Arguments: a folder of exports, one of several token sequences as JSON, where the results go.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.modules["nas_llm"] = None  # type: ignore[assignment]

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, DynamicCache  # noqa: E402


def load(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True).eval()


def uses(directory: Path, ids: torch.Tensor, scratch: Path) -> dict[str, Any]:
    model = load(directory)
    model.save_pretrained(scratch / directory.name)
    found: dict[str, Any] = {"class": type(model).__name__}
    with torch.no_grad():
        found["logits"] = model(ids).logits
        found["same"] = torch.equal(found["logits"], load(scratch / directory.name)(ids).logits)
        short = ids[:2, :8]
        options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        kinds: dict[str, dict[str, Any]] = {
            "none": {"use_cache": False},
            "dynamic": {},
            "static": {"cache_implementation": "static"},
        }
        for name, more in kinds.items():
            mask = torch.ones_like(short)
            found[name] = model.generate(short, attention_mask=mask, **options, **more)
        padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), short], dim=1)
        mask = (torch.arange(padded.shape[1])[None] >= 3).long().expand(2, -1)
        found["padded"] = model.generate(padded, attention_mask=mask, **options)[:, 3:]
        # Without generate, which passes positions: the cache alone says how far the text has come.
        cache = DynamicCache(config=model.config)
        steps = [model(part, past_key_values=cache).logits for part in (ids[:, :7], ids[:, 7:8], ids[:, 8:])]
        found["stepwise"] = torch.cat(steps, dim=1)
    model.train().requires_grad_(True)
    model(ids, labels=ids).loss.backward()
    found["without_gradient"] = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is None or not torch.isfinite(weight.grad).all()
    ]
    return found


if __name__ == "__main__":
    exports, given, results = Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
    results.mkdir()
    torch.save(
        {path.name: uses(path, torch.tensor(given), results) for path in sorted(exports.iterdir())},
        results / "found.pt",
    )
