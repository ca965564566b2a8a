"""llama.cpp itself, run in this process by the package xllamacpp."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LlamaCpp:
    """A loaded GGUF file.

    Args:
        path: The file.
        context: Longest sequence.
    """

    def __init__(self, path: Path, *, context: int = 512) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context
        params.n_parallel = 1
        params.n_gpu_layers = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.warmup = False
        params.verbosity = -1
        # Its flash attention and its default cache are of half precision.
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self._server = xllamacpp.Server(params)
        # A server that is thrown away before its queue runs waits for its own thread for ever.
        self.greedy([0], 1)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self._server.listening_address}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text; with ``special``, what the model puts around it too."""
        ids: list[int] = self._post("/tokenize", {"content": text, "add_special": special})["tokens"]
        return ids

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """The most probable continuation."""
        body = {"prompt": prompt, "n_predict": count, "temperature": 0.0, "ignore_eos": True, "return_tokens": True}
        tokens: list[int] = self._post("/completion", body)["tokens"]
        return tokens

    def sampled(
        self, prompt: list[int], count: int, *, banned: list[int], probs: int
    ) -> tuple[list[int], list[tuple[list[int], list[float]]]]:
        """A sampled continuation, and the ids and log-probabilities of the most probable tokens at each step."""
        body = {
            "prompt": prompt,
            "n_predict": count,
            "temperature": 1.0,
            "seed": 3,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "n_probs": probs,
            "ignore_eos": True,
            "return_tokens": True,
            "logit_bias": [[token, False] for token in banned],
        }
        reply = self._post("/completion", body)
        steps = [
            ([entry["id"] for entry in step["top_logprobs"]], [entry["logprob"] for entry in step["top_logprobs"]])
            for step in reply["completion_probabilities"]
        ]
        assert len(reply["tokens"]) == len(steps)
        return reply["tokens"], steps


def partial_characters(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[int]:
    """Tokens that are no text by themselves: llama.cpp's server reports no probabilities at their steps."""
    return [token for token in range(vocab_size) if "\ufffd" in tokenizer.decode([token])]


@torch.no_grad()
def largest_difference(
    served: LlamaCpp, model: PreTrainedModel, prompt: list[int], count: int, *, banned: list[int], probs: int
) -> float:
    """Largest gap of log-probabilities between llama.cpp and PyTorch on text that llama.cpp sampled."""
    tokens, steps = served.sampled(prompt, count, banned=banned, probs=probs)
    expected: Tensor = model(torch.tensor([prompt + tokens])).logits[0].float().log_softmax(-1)
    gaps = [
        (expected[len(prompt) - 1 + step, ids] - torch.tensor(values)).abs().max().item()
        for step, (ids, values) in enumerate(steps)
    ]
    return max(gaps)


@torch.no_grad()
def torch_greedy(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """The most probable continuation according to PyTorch."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]
