"""Trains the small packaged model ``tiny-llama`` on the shipped sample of SmolLM2, and samples it in turn.

The model is for tests and first steps: it loads in no time and has learnt enough that pruning it hurts measurably.
Run ``python scripts/train_test_model.py``; it takes a few minutes on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from sample_smollm2 import SAMPLES, write_sample
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nas_llm.data import read_texts, sample_documents, token_windows

PACKAGED = Path(__file__).resolve().parents[1] / "nas_llm" / "models" / "packaged"
END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 1024
CONTEXT = 512
WINDOW = 128
SEED = 0
HELD_OUT_EVERY = 12

README = """# tiny-llama

A LLaMA of {params:,} parameters (hidden 96, 6 blocks, 6 query heads in 3 KV groups, head width 16, 256 FFN
channels, tied embeddings, vocabulary 1,024) for tests and first steps. It is no useful language model.

* Made by `python scripts/train_test_model.py`, seed {seed}: {steps} steps of AdamW, {batch} windows of {window}
  tokens each; stored as float16.
* Text: `nas_llm/data/samples/smollm2-135m.jsonl` ({train_tokens:,} training tokens), which SmolLM2-135M-Instruct
  (Apache-2.0) wrote itself; its byte-level BPE tokenizer was trained on the same documents.
* Training loss at the end: {train_loss:.3f} nats a token.
* Every {every}th document was held out ({held_tokens:,} tokens). Perplexity there, windows of {window}:
  {perplexity:.1f}; of the unigram distribution of the training text: {unigram:.1f}.
"""


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose only special token is the end of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model() -> LlamaForCausalLM:
    """The untrained model."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=3,
            head_dim=16,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def train(model: LlamaForCausalLM, stream: torch.Tensor, *, steps: int, batch: int, minutes: float) -> float:
    """AdamW with warm-up and cosine decay on random windows.

    Args:
        stream: ``(n,)`` tokens.
        steps: Steps of the schedule.
        batch: Windows of a step.
        minutes: Time cap.

    Returns:
        Mean loss of the last 50 steps, in nats a token.

    Raises:
        SystemExit: If the time is over before the schedule, as the result would depend on the machine.
    """
    generator = np.random.default_rng(SEED)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.98))
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / warm_up) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))),
    )
    begin = time.monotonic()
    losses: list[float] = []
    model.train()
    for step in range(steps):
        starts = generator.integers(0, len(stream) - WINDOW, size=batch)
        ids = torch.stack([stream[start : start + WINDOW] for start in starts])
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}: loss {np.mean(losses[-100:]):.3f}, {time.monotonic() - begin:.0f} s")
        if time.monotonic() - begin > 60 * minutes:
            raise SystemExit(f"stopped at step {step + 1} of {steps}: over {minutes:g} minutes; raise --minutes")
    return float(np.mean(losses[-50:]))


def perplexity(model: LlamaForCausalLM, windows: np.ndarray) -> float:
    """exp of the mean loss over ``(n, T)`` windows."""
    model.train(False)
    with torch.inference_mode():
        losses = [model(input_ids=ids[None], labels=ids[None]).loss.item() for ids in torch.from_numpy(windows)]
    return math.exp(float(np.mean(losses)))


def unigram_perplexity(train_tokens: np.ndarray, windows: np.ndarray) -> float:
    """Perplexity of the add-one-smoothed unigram distribution, on the tokens that the model is asked for."""
    counts = np.bincount(train_tokens, minlength=VOCABULARY) + 1.0
    return math.exp(float(-np.log(counts / counts.sum())[windows[:, 1:]].mean()))


def main() -> None:
    """Train, save, sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=15.0, help="time cap of the training")
    parser.add_argument("--name", default="tiny-llama")
    parser.add_argument("--text", type=Path, default=SAMPLES / "smollm2-135m.jsonl")
    parser.add_argument("--sample-tokens", type=int, default=40_000)
    arguments = parser.parse_args()

    torch.manual_seed(SEED)
    texts = read_texts(arguments.text)
    held_out = texts[::HELD_OUT_EVERY]
    training = [text for index, text in enumerate(texts) if index % HELD_OUT_EVERY]
    tokenizer = train_tokenizer(training)
    train_tokens = token_windows(tokenizer, training, window=1)[:, 0]
    held_windows = token_windows(tokenizer, held_out, window=WINDOW)
    model = build_model()
    train_loss = train(
        model,
        torch.from_numpy(train_tokens),
        steps=arguments.steps,
        batch=arguments.batch,
        minutes=arguments.minutes,
    )
    # Through half precision, so that every number below is of the weights that are shipped.
    model.half().float()
    reached = perplexity(model, held_windows)
    unigram = unigram_perplexity(train_tokens, held_windows)
    print(f"held-out perplexity {reached:.1f}, unigram {unigram:.1f}, training loss {train_loss:.3f}")

    folder = PACKAGED / arguments.name
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    readme = README.format(
        params=model.num_parameters(),
        seed=SEED,
        steps=arguments.steps,
        batch=arguments.batch,
        window=WINDOW,
        train_tokens=len(train_tokens),
        train_loss=train_loss,
        every=HELD_OUT_EVERY,
        held_tokens=held_windows.size,
        perplexity=reached,
        unigram=unigram,
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")
    documents = sample_documents(
        LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32),
        tokenizer,
        tokens=arguments.sample_tokens,
        temperature=1.0,
        document_tokens=CONTEXT,
        seed=SEED,
    )
    write_sample(SAMPLES / f"{arguments.name}.jsonl", documents)
    print(json.dumps({path.name: path.stat().st_size for path in sorted(folder.iterdir())}), len(documents))


if __name__ == "__main__":
    main()
