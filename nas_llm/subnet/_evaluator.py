"""The population evaluator: what each genome's subnet scores on a window set."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas_llm.data import WindowSet
from nas_llm.errors import DataError
from nas_llm.models import DenseModel, fast_float32, on_device
from nas_llm.space import Genome
from nas_llm.subnet._blocks import BlockCache, Reconstructor
from nas_llm.subnet._lanes import in_lanes
from nas_llm.subnet._loss import TokenLoss
from nas_llm.subnet._memory import MemoryPlan, plan_memory
from nas_llm.subnet._metric import metric_named
from nas_llm.subnet._racing import Racing
from nas_llm.subnet._states import HiddenStates, prefix_keys
from nas_llm.subnet._walk import DepthFirstWalk, LayerMajorWalk, Walked, Windows


class OnResult(Protocol):
    """Called with each evaluated genome."""

    def __call__(self, index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
        """Take a result.

        Args:
            index: Place of the genome in the population.
            value: What it scored.
            seconds: What that took.
            fidelity: Share of the text that it was scored on; below 1 the value is an estimate.
        """


# Below so many tokens one genome alone does not fill the device: genomes with the same gene run together.
_FEW_TOKENS = {"cpu": 256, "cuda": 8192}


@dataclass
class WalkStatistics:
    """What an evaluator has done so far.

    Attributes:
        candidates: Genomes evaluated.
        blocks: Blocks that they have, for all windows: candidates x L.
        blocks_run: Of these, blocks that were run; the others were shared with another genome.
        tokens: Tokens that were scored.
    """

    candidates: int = 0
    blocks: float = 0.0
    blocks_run: float = 0.0
    tokens: int = 0

    @property
    def reused(self) -> float:
        """Share of blocks that did not have to be run."""
        return 1.0 - self.blocks_run / self.blocks if self.blocks else 0.0


class PopulationEvaluator:
    """Evaluates genomes by ``perplexity`` or ``kl``, slicing and never masking.

    Where the dense blocks fit on the device, genomes are walked one by one, each from the deepest hidden state that
    is known for a prefix of its genes: its neighbour's in the sorted population, or one kept from earlier calls.
    Otherwise blocks are streamed: every block's weights visit the device once for the whole population
    (layer-major), and genomes with the same gene run through it together. Both give the same values; a value does not
    depend on which other genomes are in the population.

    Memory stays under the budget, whatever the population and the text: hidden states that do not fit are computed
    again, a population whose states do not fit beside each other is streamed in groups. Beside the budget there are
    the model itself, each thread's LM head buffers (256 x vocabulary x 10 bytes) and, for ``kl``, tokens x vocabulary x
    4 bytes.

    Args:
        dense: The model to slice.
        windows: The text that candidates are scored on.
        metric: ``perplexity``, exp(mean token NLL), or ``kl``, mean KL divergence from the dense model's next-token
            distribution; both over all but the first token of each window.
        device: Where to compute.
        dtype: Arithmetic of the blocks and the LM head, accumulated in float32; the loss is float32.
        reconstructor: Refits each sliced block before it is evaluated; None evaluates inherited weights.
        memory_bytes: Budget; None takes what is of use, at most half of the free memory, or four fifths of a GPU's.
        stream: Stream the blocks' weights even if they would fit.
        racing: Give candidates up that are clearly beaten (not when blocks are streamed); None scores all on all text.

    Attributes:
        plan: How the budget is shared out.
        statistics: What was done so far.
        identity: What values depend on, for caches.

    Raises:
        ConfigError: If the metric is unknown or the budget too small for one window.
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
        memory_bytes: int | None = None,
        stream: bool = False,
        racing: Racing | None = None,
    ) -> None:
        self._metric = metric_named(metric)
        count, length = windows.tokens.shape
        if length > dense.architecture.max_positions:
            raise DataError(
                f"windows of {length} tokens are longer than the model's {dense.architecture.max_positions} positions; "
                f"lower data.window"
            )
        self._adapter = dense.adapter
        self._check_files = dense.check_files
        self._device = device
        self.plan: MemoryPlan = plan_memory(
            dense,
            total=memory_bytes,
            window=length,
            device=device,
            dtype=dtype,
            refitted=reconstructor is not None,
        )
        resident = self.plan.resident and not stream
        self.blocks = BlockCache(
            dense,
            device=device,
            dtype=dtype,
            reconstructor=reconstructor,
            budget_bytes=self.plan.blocks if resident else 0,
            resident=resident,
        )
        self.states = HiddenStates(self.plan.states)
        self.statistics = WalkStatistics()
        self._outer = on_device(copy.deepcopy(dense.adapter.outer(dense.model)), device, dtype)
        # Buffers of its own for each thread.
        self._local = threading.local()
        self._num_layers = dense.architecture.num_layers
        ids = torch.from_numpy(windows.tokens.copy()).to(device)
        batch_windows = max(1, self.plan.batch_tokens // length)
        if racing is not None:
            batch_windows = max(1, min(batch_windows, count // racing.parts))
        self._racing = racing
        self._dense_losses: Tensor | None = None
        self._windows = [Windows(group, batch, self._embed) for group, batch in enumerate(ids.split(batch_windows))]
        self._count = count
        self._tokens = windows.num_tokens
        self._reference: list[Tensor] | None = None
        self._dense_genome = Genome.dense(dense.architecture)
        self._walk: DepthFirstWalk | LayerMajorWalk
        if resident and windows.num_tokens >= _FEW_TOKENS.get(device.type, 0):
            self._walk = DepthFirstWalk(self.blocks, self.states, self._windows)
        else:
            self._walk = LayerMajorWalk(self.blocks, self.states, self._windows, batch_windows=batch_windows)
        weights = reconstructor.identity if reconstructor else "inherited"
        self.identity = "|".join(("v4", dense.identity, windows.digest(), metric, str(dtype), device.type, weights))

    def evaluate(
        self,
        genomes: Sequence[Genome],
        *,
        on_result: OnResult | None = None,
        bars: Sequence[float] | None = None,
    ) -> list[float]:
        """Evaluate genomes.

        Args:
            genomes: The population; any order.
            on_result: Called as soon as a genome is evaluated; may raise to stop.
            bars: For racing: what each genome has to beat to be of use, inf = nothing.

        Returns:
            One value a genome, in the order given.

        Raises:
            ModelError: If the dense model's files were changed and its weights with them.
        """
        values = [math.nan] * len(genomes)
        with torch.inference_mode(), fast_float32(self._device):
            if self._metric.against_dense and self._reference is None:
                self._reference = self._dense_distribution()
            if self._racing is not None and bars is not None and self._dense_losses is None:
                # The dense model's losses are needed whole.
                ((_, self._dense_losses, _),) = self._losses([self._dense_genome], None)
            started = time.perf_counter()
            # Closed at once when the listener raises: threads may be at work.
            with closing(self._losses(genomes, bars)) as evaluated:
                for index, losses, fidelity in evaluated:
                    # Whoever is told of a value may keep it, under the name of the model as it was loaded.
                    self._check_files()
                    values[index] = self._value(losses)
                    now = time.perf_counter()
                    if on_result is not None:
                        on_result(index, values[index], now - started, fidelity)
                    started = now
        return values

    def window_losses(
        self, genomes: Sequence[Genome], *, on_done: Callable[[], None] = lambda: None
    ) -> npt.NDArray[np.float64]:
        """Losses window by window, whose mean is what :meth:`evaluate` tells of; racing has no say.

        Args:
            genomes: The population; any order.
            on_done: Called after each genome.

        Returns:
            ``genomes x windows`` mean token losses.

        Raises:
            ModelError: If the dense model's files were changed and its weights with them.
        """
        found = np.full((len(genomes), self._count), np.nan)
        with torch.inference_mode(), fast_float32(self._device):
            if self._metric.against_dense and self._reference is None:
                self._reference = self._dense_distribution()
            with closing(self._losses(genomes, None)) as evaluated:
                for index, losses, _ in evaluated:
                    self._check_files()
                    found[index] = losses.mean(1).numpy()
                    on_done()
        return found

    def _losses(
        self, genomes: Sequence[Genome], bars: Sequence[float] | None
    ) -> Generator[tuple[int, Tensor, float], None, None]:
        """Index, ``windows x (T - 1)`` token losses and the share of windows of every genome, as soon as known."""
        order = sorted(range(len(genomes)), key=lambda i: [genomes[i].layer_key(n) for n in range(self._num_layers)])
        keys = [prefix_keys(genomes[index]) for index in order]

        def walk(places: range) -> Generator[tuple[int, Walked[Tensor]], None, None]:
            """A part of the sorted population."""

            def give_up(place: int, results: list[Tensor]) -> bool:
                if bars is None or self._racing is None or self._dense_losses is None:
                    return False
                seen = torch.cat(results).view(-1)
                bar = self._metric.loss(bars[order[places[place]]])
                return self._racing.beaten(seen, self._dense_losses.view(-1), bar)

            chosen = [genomes[order[place]] for place in places]
            run = self._walk.run(chosen, [keys[place] for place in places], self._token_losses, give_up)
            for found in run:
                yield order[places[found.index]], found

        lanes = min(self.plan.lanes, len(genomes)) if isinstance(self._walk, DepthFirstWalk) else 1
        everything = range(len(genomes))
        if lanes > 1:
            # Neighbours share most, so a lane takes several; but not so many that others wait at the end.
            size = max(1, len(genomes) // (3 * lanes))
            chunks = [everything[first : first + size] for first in range(0, len(genomes), size)]
            evaluated = in_lanes(chunks, walk, lanes=lanes)
        else:
            evaluated = walk(everything)
        with closing(evaluated):
            for index, found in evaluated:
                losses = torch.cat(found.results)
                fidelity = len(losses) / self._count
                self.statistics.candidates += 1
                self.statistics.blocks += self._num_layers * fidelity
                self.statistics.blocks_run += found.blocks_run
                self.statistics.tokens += round(self._tokens * fidelity)
                yield index, losses, fidelity

    def _token_losses(self, windows: Windows, hidden: Tensor) -> Tensor:
        """``count x (T - 1)`` float64 token losses, on the CPU."""
        states = self._predicting(hidden)
        if self._reference is not None:
            losses = self._loss().kl(states, self._reference[windows.group])
        else:
            losses = self._loss().nll(states, windows.ids[:, 1:].reshape(-1))
        return losses.double().view(windows.count, -1).cpu()

    def _dense_distribution(self) -> list[Tensor]:
        def finish(windows: Windows, hidden: Tensor) -> Tensor:
            return self._loss().log_probabilities(self._predicting(hidden))

        (found,) = self._walk.run([self._dense_genome], [prefix_keys(self._dense_genome)], finish)
        return found.results

    def _loss(self) -> TokenLoss:
        if not hasattr(self._local, "loss"):
            self._local.loss = TokenLoss(self._adapter.lm_head(self._outer))
        loss: TokenLoss = self._local.loss
        return loss

    def _embed(self, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return self._adapter.embed(self._outer, ids)

    def _value(self, losses: Tensor) -> float:
        if len(losses) < self._count and self._racing is not None and self._dense_losses is not None:
            mean, _ = self._racing.estimate(losses.view(-1), self._dense_losses.view(-1))
        else:
            # Window by window, so that it does not matter how windows were grouped.
            mean = float(losses.sum(1).sum()) / losses.numel()
        return self._metric.value(mean)

    def _predicting(self, hidden: Tensor) -> Tensor:
        """``N x E`` head inputs of the positions that predict a token of their window."""
        states = self._adapter.finish(self._outer, hidden[:, :-1])
        return states.reshape(-1, states.shape[-1])
