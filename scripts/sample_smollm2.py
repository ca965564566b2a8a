"""Writes the text that a packaged model sampled itself, as it is shipped in ``nas_llm/data/samples/``.

The shipped files come from ``python scripts/sample_smollm2.py MODEL_DIRECTORY``, and the same with ``--kinds``,
MODEL_DIRECTORY being the packaged SmolLM2-135M-Instruct as a transformers directory in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer

from nas_llm.config import SelfSampleSection
from nas_llm.data import cached_self_texts, sample_documents
from nas_llm.settings import AUTO_KINDS, OFF_KIND

SAMPLES = Path(__file__).resolve().parents[1] / "nas_llm" / "data" / "samples"
KINDS = (*AUTO_KINDS, OFF_KIND)


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token: query heads of a group become rows, so the KV cache is read once, not g times.

    Args:
        query: ``(B, H, 1, d)``.
        key: ``(B, K, t, d)``, as ``value``.
    """
    rows, heads, length, width = query.shape
    if length != 1 or attention_mask is not None:
        raise ValueError("grouped_attention takes one new token and no mask")
    grouped = query.reshape(rows, key.shape[1], -1, width)
    out = scaled_dot_product_attention(grouped, key, value, scale=scaling)
    return out.reshape(rows, 1, heads, width), None


def write_sample(path: Path, documents: list[str]) -> None:
    """Write one JSON object a document, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)
    partial.write_text("".join(lines), encoding="utf-8")
    os.replace(partial, path)


def main() -> None:
    """Sample and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="model directory or hub name")
    parser.add_argument("--output", type=Path, default=SAMPLES / "smollm2-135m.jsonl")
    parser.add_argument("--tokens", type=int, default=72_000)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--document-tokens", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, help="of the source auto; each a file of its own")
    parser.add_argument("--kind-tokens", type=int, default=4096, help="per part of a kind in the mix")
    arguments = parser.parse_args()

    # On some CPUs another library path: faster, with the same error.
    torch.set_float32_matmul_precision("medium")
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    AttentionInterface.register("grouped", grouped_attention)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="grouped")
    begin = time.monotonic()
    if arguments.kinds is not None:
        for kind in arguments.kinds or KINDS:
            tokens = round(arguments.kind_tokens * AUTO_KINDS.get(kind, 1))
            with tempfile.TemporaryDirectory() as folder:
                documents = cached_self_texts(
                    model,
                    tokenizer,
                    identity=arguments.model,
                    settings=SelfSampleSection(temperature=arguments.temperature),
                    min_tokens=tokens,
                    cache_dir=Path(folder),
                    kind=kind,
                    on_progress=lambda done: print(
                        f"\r{done} tokens, {time.monotonic() - begin:.0f} s", end="", flush=True
                    ),
                )
            path = arguments.output.with_stem(f"{arguments.output.stem}-{kind}")
            write_sample(path, documents)
            print(f"\n{len(documents)} documents, {path.stat().st_size} bytes: {path}")
        return
    documents = sample_documents(
        model,
        tokenizer,
        tokens=arguments.tokens,
        temperature=arguments.temperature,
        document_tokens=arguments.document_tokens,
        seed=arguments.seed,
        on_progress=lambda done: print(f"\r{done} tokens, {time.monotonic() - begin:.0f} s", end="", flush=True),
    )
    write_sample(arguments.output, documents)
    print(f"\n{len(documents)} documents, {arguments.output.stat().st_size} bytes: {arguments.output}")


if __name__ == "__main__":
    main()
