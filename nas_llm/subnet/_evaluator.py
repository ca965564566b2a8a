"""The population evaluator: what each genome's subnet scores on a window set."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError, DataError
from nas_llm.models import DenseModel, fast_float32
from nas_llm.space import Genome
from nas_llm.subnet._blocks import BlockCache, Reconstructor
from nas_llm.subnet._loss import kl_sum, log_probabilities, nll_sum

logger = logging.getLogger(__name__)

OnResult = Callable[[int, float, float], None]


class PopulationEvaluator:
    """Prices genomes by ``perplexity`` or ``kl``, slicing and never masking.

    The population is walked as a trie: genomes are sorted by their layers' genes, and one whose first layers equal its
    predecessor's starts from the hidden state that is already there. A result does not depend on which other genomes
    are in the population. Memory beside the model: ``budget_bytes`` of sliced blocks, L + 1 hidden states of all
    tokens, and for ``kl`` tokens x vocabulary x 4 bytes.

    Args:
        dense: The model to slice.
        windows: The text that candidates are scored on.
        metric: ``perplexity``, exp(mean token NLL), or ``kl``, mean KL divergence from the dense model's next-token
            distribution; both over all but the first token of each window.
        device: Where to compute.
        dtype: Arithmetic of the blocks and the LM head; the loss is float32.
        reconstructor: Refits each sliced block before it is priced; None prices inherited weights.
        budget_bytes: Memory for sliced blocks.

    Raises:
        ConfigError: If the metric is unknown.
        DataError: If a window is longer than the model's positions.
    """

    def __init__(
        self,
        dense: DenseModel,
        windows: WindowSet,
        *,
        metric: str,
        device: torch.device,
        dtype: torch.dtype,
        reconstructor: Reconstructor | None = None,
        budget_bytes: int = 3 << 30,
    ) -> None:
        if metric not in ("perplexity", "kl"):
            raise ConfigError(f"unknown fitness metric '{metric}'; known are perplexity, kl")
        length = windows.tokens.shape[1]
        if length > dense.architecture.max_positions:
            raise DataError(
                f"windows of {length} tokens are longer than the model's {dense.architecture.max_positions} positions; "
                f"lower data.window"
            )
        self._adapter = dense.adapter
        self._metric = metric
        self._device = device
        self._blocks = BlockCache(
            dense, device=device, dtype=dtype, reconstructor=reconstructor, budget_bytes=budget_bytes
        )
        self._outer = copy.deepcopy(dense.adapter.outer(dense.model)).to(device, dtype)
        ids = torch.from_numpy(windows.tokens.copy()).to(device)
        self._targets = ids[:, 1:].reshape(-1)
        with torch.inference_mode():
            self._embedded, self._context = dense.adapter.embed(self._outer, ids)
        self._reference: list[Tensor] | None = None
        self._dense_genome = Genome.dense(dense.architecture)
        weights = reconstructor.identity if reconstructor else "inherited"
        self.identity = "|".join(("v1", dense.revision, windows.digest(), metric, str(dtype), device.type, weights))

    def evaluate(self, genomes: Sequence[Genome], *, on_result: OnResult | None = None) -> list[float]:
        """Price genomes.

        Args:
            genomes: The population; any order.
            on_result: Called with index, value and seconds as soon as a genome is priced; may raise to stop.

        Returns:
            One value a genome, in the order given.
        """
        values = [math.nan] * len(genomes)
        order = sorted(
            range(len(genomes)), key=lambda i: [genomes[i].layer_key(n) for n in range(genomes[i].num_layers)]
        )
        stack: list[Tensor] = []
        previous: Genome | None = None
        with torch.inference_mode(), fast_float32(self._device):
            if self._metric == "kl" and self._reference is None:
                self._reference = log_probabilities(self._logits, self._predicting(self._walk(self._dense_genome, [])))
            for index in order:
                started = time.perf_counter()
                genome = genomes[index]
                shared = _shared_layers(previous, genome)
                del stack[shared + 1 :]
                values[index] = self._score(self._walk(genome, stack))
                previous = genome
                if on_result is not None:
                    on_result(index, values[index], time.perf_counter() - started)
        return values

    def _walk(self, genome: Genome, stack: list[Tensor]) -> Tensor:
        """Run the layers whose hidden states are not on the stack yet; returns the last hidden state."""
        if not stack:
            stack.append(self._embedded)
        for layer in range(len(stack) - 1, genome.num_layers):
            stack.append(self._blocks.get(genome, layer)(stack[-1], **self._context))
        return stack[-1]

    def _score(self, hidden: Tensor) -> float:
        states = self._predicting(hidden)
        if self._reference is not None:
            return kl_sum(self._logits, states, self._reference) / len(self._targets)
        mean = nll_sum(self._logits, states, self._targets) / len(self._targets)
        # A subnet that is broken beyond float range is bad, not an error.
        return math.exp(min(mean, 80.0)) if math.isfinite(mean) else math.exp(80.0)

    def _predicting(self, hidden: Tensor) -> Tensor:
        """``N x E`` head inputs of the positions that predict a token of their window."""
        states = self._adapter.finish(self._outer, hidden[:, :-1])
        return states.reshape(-1, states.shape[-1])

    def _logits(self, states: Tensor) -> Tensor:
        logits: Any = self._adapter.lm_head(self._outer)(states)
        assert isinstance(logits, Tensor)
        return logits


def _shared_layers(previous: Genome | None, genome: Genome) -> int:
    """Leading layers in which two genomes agree; -1 before the first genome."""
    if previous is None:
        return -1
    for layer in range(genome.num_layers):
        if previous.layer_key(layer) != genome.layer_key(layer):
            return layer
    return genome.num_layers
