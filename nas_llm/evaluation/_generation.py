"""One prefill and greedy decoding, in pieces that can be timed."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from nas_llm.errors import ConfigError
from nas_llm.evaluation._scores import Workload


def check_workload(model: PreTrainedModel, workload: Workload) -> None:
    """Refuse a workload that is longer than the model's positions.

    Raises:
        ConfigError: If it is.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and workload.prompt_tokens + workload.new_tokens > positions:
        raise ConfigError(
            f"{workload.prompt_tokens} prompt and {workload.new_tokens} new tokens are more than the model's "
            f"{positions} positions; use --prompt-tokens and --new-tokens"
        )


class Generation:
    """A workload on a model.

    Args:
        model: A causal LM in evaluation mode, on its device.
        workload: What to do.

    Raises:
        ConfigError: If the workload is longer than the model's positions.
    """

    def __init__(self, model: PreTrainedModel, workload: Workload) -> None:
        check_workload(model, workload)
        self._model, self._workload = model, workload
        generator = torch.Generator().manual_seed(0)
        shape = (workload.batch, workload.prompt_tokens)
        self._prompt = torch.randint(model.config.vocab_size, shape, generator=generator).to(model.device)
        self._token: Tensor | None = None
        self._cache: Cache | None = None

    @torch.inference_mode()
    def first_token(self) -> None:
        """Run the prompt through; only the last position goes through the LM head, as when text is generated."""
        out = self._model(self._prompt, use_cache=True, logits_to_keep=1)
        self._token, self._cache = out.logits[:, -1].argmax(-1), out.past_key_values

    @torch.inference_mode()
    def decode(self) -> None:
        """Write the new tokens; a cache that was decoded into before is cut back to the prompt."""
        assert self._token is not None
        assert self._cache is not None
        surplus = self._cache.get_seq_length() - self._workload.prompt_tokens
        if surplus > 0:
            self._cache.crop(-surplus)
        token = self._token
        for _ in range(self._workload.new_tokens):
            out = self._model(token[:, None], past_key_values=self._cache, use_cache=True)
            token = out.logits[:, -1].argmax(-1)

    def cache_bytes(self) -> int:
        """What the cache holds now."""
        assert self._cache is not None
        held = (getattr(layer, name, None) for layer in self._cache.layers for name in ("keys", "values"))
        return sum(tensor.nbytes for tensor in held if tensor is not None)
