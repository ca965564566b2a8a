"""What users do with an export, in a process in which nas_llm cannot be imported; prints one JSON object."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.modules["nas_llm"] = None  # type: ignore[assignment]

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

PROMPTS = ("The man went", "A small house stood near the river and", "She")


def load(directory: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True, **options).eval()


def tokenizer(directory: Path) -> Any:
    loaded = AutoTokenizer.from_pretrained(directory, trust_remote_code=True, padding_side="left")
    loaded.pad_token = loaded.pad_token or loaded.eos_token
    return loaded


def tokens(model: Any, words: Any, prompts: tuple[str, ...], **options: Any) -> list[list[int]]:
    batch = words(list(prompts), return_tensors="pt", padding=True)
    width = batch["input_ids"].shape[1]
    found = model.generate(
        **batch, max_new_tokens=12, do_sample=False, pad_token_id=words.pad_token_id, eos_token_id=None, **options
    )
    return [row[width:].tolist() for row in found]


def caches(directory: Path, scratch: Path) -> dict[str, Any]:
    model, words = load(directory), tokenizer(directory)
    kinds = {"none": {"use_cache": False}, "dynamic": {}, "static": {"cache_implementation": "static"}}
    return {name: tokens(model, words, PROMPTS[:1], **options) for name, options in kinds.items()}


def padding(directory: Path, scratch: Path) -> dict[str, Any]:
    model, words = load(directory), tokenizer(directory)
    return {
        "batch": tokens(model, words, PROMPTS),
        "single": [tokens(model, words, (prompt,))[0] for prompt in PROMPTS],
    }


def lora(directory: Path, scratch: Path) -> dict[str, Any]:
    from peft import LoraConfig, get_peft_model

    model, words = load(directory), tokenizer(directory)
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    config = LoraConfig(r=4, target_modules=sorted(names - {"lm_head"}), task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config).train()
    ids = words(PROMPTS[1], return_tensors="pt")["input_ids"]
    trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    losses = []
    for _ in range(4):
        loss = tuned(input_ids=ids, labels=ids).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {
        "losses": losses,
        "without_gradient": sum(parameter.grad is None for parameter in trained),
        "nonzero": sum(bool(parameter.grad.abs().sum() > 0) for parameter in trained),
        "trained": len(trained),
    }


def device_map(directory: Path, scratch: Path) -> dict[str, Any]:
    from accelerate import infer_auto_device_map

    mapped, plain = load(directory, device_map="auto"), load(directory)
    ids = torch.arange(20)[None]
    # As it would be placed on two small devices.
    room = {0: 1_000_000, 1: 1_000_000, "cpu": 10**9}
    places = infer_auto_device_map(plain, max_memory=room, no_split_module_classes=plain._no_split_modules)
    with torch.no_grad():
        same = torch.equal(mapped(ids).logits, plain(ids).logits)
    return {"same": same, "places": {name: str(place) for name, place in places.items()}}


def again(directory: Path, scratch: Path) -> dict[str, Any]:
    model = load(directory)
    model.save_pretrained(scratch / "again", max_shard_size="200kB")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        same = torch.equal(load(scratch / "again")(ids).logits, model(ids).logits)
    return {"same": same, "files": len(list((scratch / "again").glob("*.safetensors")))}


def checkpointing(directory: Path, scratch: Path) -> dict[str, Any]:
    ids = torch.arange(40)[None]

    def gradients(enable: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model = load(directory).train()
        if enable:
            model.gradient_checkpointing_enable()
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        return loss.detach(), [parameter.grad for parameter in model.parameters()]

    (loss, plain), (checkpointed_loss, checkpointed) = gradients(False), gradients(True)
    return {
        "loss": torch.equal(loss, checkpointed_loss),
        "gradients": all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True)),
        "parameters": len(plain),
    }


def logits(directory: Path, scratch: Path) -> dict[str, Any]:
    ids = torch.arange(20)[None]
    model = load(directory)
    with torch.no_grad():
        torch.save(model(ids).logits, scratch / "logits.pt")
    return {"class": type(model).__name__, "dtype": str(model.dtype)}


def trunk(directory: Path, scratch: Path) -> dict[str, Any]:
    ids = torch.arange(20)[None]
    whole, found = load(directory), AutoModel.from_pretrained(directory, trust_remote_code=True).eval()
    with torch.no_grad():
        same = torch.equal(found(ids).last_hidden_state, whole.base_model(ids).last_hidden_state)
    # An export of the model's own weights has a tokenizer; one with random weights has none.
    if not (directory / "tokenizer.json").is_file():
        return {"class": type(found).__name__, "same": same}
    words = tokenizer(directory)
    features = pipeline("feature-extraction", model=found, tokenizer=words)(PROMPTS[1])
    length = words(PROMPTS[1], return_tensors="pt")["input_ids"].shape[1]
    right = [len(features), len(features[0]), len(features[0][0])] == [1, length, found.config.hidden_size]
    return {"class": type(found).__name__, "same": same, "features": right}


def classifier(directory: Path, scratch: Path) -> dict[str, Any]:
    options = {"trust_remote_code": True, "num_labels": 3, "pad_token_id": 1, "dtype": torch.float32}
    model = AutoModelForSequenceClassification.from_pretrained(directory, **options)
    ids, labels = torch.arange(2, 42).view(2, 20), torch.tensor([0, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    losses = []
    for _ in range(4):
        loss = model(ids, labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(scratch / "classifier")
    again = AutoModelForSequenceClassification.from_pretrained(scratch / "classifier", trust_remote_code=True).eval()
    with torch.no_grad():
        same = torch.equal(again(ids).logits, model(ids).logits)
    return {"class": type(model).__name__, "losses": losses, "same": same}


USES: tuple[Callable[[Path, Path], dict[str, Any]], ...] = (
    caches,
    padding,
    lora,
    device_map,
    again,
    checkpointing,
    logits,
    trunk,
    classifier,
)

if __name__ == "__main__":
    directory, scratch, wanted = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(",")
    # Others print their own notes; the answer is the only thing on standard output.
    with contextlib.redirect_stdout(sys.stderr):
        answers = {use.__name__: use(directory, scratch) for use in USES if use.__name__ in wanted}
    sys.stdout.write(json.dumps(answers))
