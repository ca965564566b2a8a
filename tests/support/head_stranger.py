"""What users do with exports whose heads keep some of their channels, without nas_llm; prints one JSON object.

Arguments: a scratch folder, then folders with an export in ``float32`` and one in ``bfloat16`` each.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from pathlib import Path
from typing import Any

sys.modules["nas_llm"] = None  # type: ignore[assignment]

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DynamicCache,
)

PADDED = 5


def load(directory: Path, kind: Any = AutoModelForCausalLM, **options: Any) -> Any:
    return kind.from_pretrained(directory, trust_remote_code=True, **options).eval()


def generated(model: Any, ids: torch.Tensor, mask: torch.Tensor | None = None, **options: Any) -> list[list[int]]:
    mask = torch.ones_like(ids) if mask is None else mask
    found = model.generate(
        ids, attention_mask=mask, max_new_tokens=10, do_sample=False, pad_token_id=1, eos_token_id=None, **options
    )
    return found[:, ids.shape[1] :].tolist()


def gap(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return (found - wanted).abs().max().item()


def tuned(model: Any, ids: torch.Tensor) -> dict[str, float]:
    from peft import LoraConfig, get_peft_model

    before = model(ids).logits
    out = "out_proj" if "opt" in model.config.model_type else "o_proj"
    config = LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj", out], task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(model), config).train()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(2):
        loss = adapted(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = adapted.eval()(input_ids=ids).logits
        merged = adapted.merge_and_unload()(ids).logits
    return {"moved": gap(after, before), "merged": gap(merged, after)}


def answers(directory: Path, scratch: Path) -> dict[str, Any]:
    ids = torch.load(directory / "ids.pt")
    with torch.no_grad():
        for dtype in ("float32", "bfloat16"):
            torch.save(load(directory / dtype)(ids).logits, directory / f"{dtype}.pt")
        model, eager = load(directory / "float32"), load(directory / "float32", attn_implementation="eager")
        logits = model(ids).logits
        model.save_pretrained(scratch / directory.name)
        start, rest = ids[:, :9], ids[:, 9:]
        cache = DynamicCache()
        parts = [model(part, past_key_values=cache, use_cache=True).logits for part in (start, rest)]
        mask = torch.ones_like(start)
        mask[0, :PADDED] = 0
        trunk = load(directory / "float32", AutoModel)
        classifier = load(directory / "float32", AutoModelForSequenceClassification, num_labels=3, pad_token_id=1)
        found = {
            "again": torch.equal(load(scratch / directory.name)(ids).logits, logits),
            "eager": gap(eager(ids).logits, logits),
            "continued": gap(torch.cat(parts, dim=1), logits),
            "cache_numbers": sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers),
            "none": generated(model, start, use_cache=False),
            "dynamic": generated(model, start),
            "static": generated(model, start, cache_implementation="static"),
            "static_eager": generated(eager, start, cache_implementation="static"),
            "padded": generated(model, start, mask)[0],
            "padded_eager": generated(eager, start, mask)[0],
            "single": generated(model, start[:1, PADDED:])[0],
            "trunk": torch.equal(trunk(ids).last_hidden_state, model.base_model(ids).last_hidden_state),
            "classifier": list(classifier(ids).logits.shape),
        }
    return {**found, "lora": tuned(model, ids)}


if __name__ == "__main__":
    scratch, *directories = (Path(argument) for argument in sys.argv[1:])
    # Others print their own notes; the answer is the only thing on standard output.
    with contextlib.redirect_stdout(sys.stderr):
        found = {directory.name: answers(directory, scratch) for directory in directories}
    sys.stdout.write(json.dumps(found))
