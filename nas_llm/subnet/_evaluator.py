"""The population evaluator: what each genome's subnet scores on a window set."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas_llm.data import QuestionSet, WindowSet
from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel, fast_float32, on_device
from nas_llm.space import Genome
from nas_llm.subnet._blocks import BlockCache, Reconstructor
from nas_llm.subnet._lanes import in_lanes
from nas_llm.subnet._memory import MemoryPlan, plan_memory
from nas_llm.subnet._racing import Racing
from nas_llm.subnet._states import HiddenStates, prefix_keys
from nas_llm.subnet._walk import DepthFirstWalk, LayerMajorWalk, Walked, Windows
from nas_llm.subnet.losses import Batch, ScoredText, TokenLoss, quality_named


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
    """Evaluates genomes by ``perplexity``, ``kl``, ``margin`` or a sum of them, slicing and never masking.

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
        windows: The text that candidates are scored on; ``margin`` alone does not look at it.
        metric: ``perplexity``, exp(mean token NLL), or ``kl``, mean KL divergence from the dense model's next-token
            distribution; both over all but the first token of each window. ``margin``, the mean loss of the right
            choice of a question against the wrong ones, or ``fitness``, the weighted sum of ``terms``.
        device: Where to compute.
        dtype: Arithmetic of the blocks and the LM head, accumulated in float32; the loss is float32.
        reconstructor: Refits each sliced block before it is evaluated; None evaluates inherited weights.
        memory_bytes: Budget; None takes what is of use, at most half of the free memory, or four fifths of a GPU's.
        stream: Stream the blocks' weights even if they would fit.
        racing: Give candidates up that are clearly beaten (not when blocks are streamed); None scores all on all text.
        questions: What ``margin`` is measured on.
        terms: Weights of the mean losses that ``fitness`` adds up; the loss of ``perplexity`` is its logarithm.

    Attributes:
        plan: How the budget is shared out.
        statistics: What was done so far.
        identity: What values depend on, for caches.

    Raises:
        ConfigError: If the metric is unknown, lacks its terms or questions or cannot be raced for, or the budget is too
            small for one window.
        DataError: If a window or question is longer than the model's positions.
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
        questions: QuestionSet | None = None,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        quality = quality_named(metric, terms)
        self._raced = quality.raced
        if racing is not None and self._raced is None:
            raise ConfigError(f"racing cannot estimate {metric} from part of the text; leave it out")
        self._text = ScoredText(quality, windows, questions, positions=dense.architecture.max_positions)
        self._adapter = dense.adapter
        self._check_files = dense.check_files
        self._device = device
        self.plan: MemoryPlan = plan_memory(
            dense,
            total=memory_bytes,
            window=self._text.least_tokens,
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
        self._racing = racing
        self._dense_losses: Tensor | None = None
        parts = 1 if racing is None else racing.parts
        self._batches = self._text.batches(tokens=self.plan.batch_tokens, device=device, parts=parts)
        self._windows = [Windows(group, batch.ids, self._embed) for group, batch in enumerate(self._batches)]
        self._reference: list[Tensor] | None = None
        self._dense_genome = Genome.dense(dense.architecture)
        self._walk: DepthFirstWalk | LayerMajorWalk
        if resident and self._text.num_tokens >= _FEW_TOKENS.get(device.type, 0):
            self._walk = DepthFirstWalk(self.blocks, self.states, self._windows)
        else:
            together = max(1, self.plan.batch_tokens // self._text.longest)
            self._walk = LayerMajorWalk(self.blocks, self.states, self._windows, batch_windows=together)
        weights = reconstructor.identity if reconstructor else "inherited"
        text = (self._text.digest, quality.identity)
        self.identity = "|".join(("v4", dense.identity, *text, str(dtype), device.type, weights))

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
            if self._text.against_dense and self._reference is None:
                self._reference = self._dense_distribution()
            if self._racing is not None and bars is not None and self._dense_losses is None:
                # The dense model's losses are needed whole.
                ((_, losses, _),) = self._losses([self._dense_genome], None)
                self._dense_losses = torch.cat(losses)
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
            genomes: The population, at least one; any order. For a metric of one loss on windows of text.
            on_done: Called after each genome.

        Returns:
            ``genomes x windows`` mean token losses.

        Raises:
            ModelError: If the dense model's files were changed and its weights with them.
        """
        rows: list[npt.NDArray[np.float64]] = [np.empty(0)] * len(genomes)
        with torch.inference_mode(), fast_float32(self._device):
            if self._text.against_dense and self._reference is None:
                self._reference = self._dense_distribution()
            with closing(self._losses(genomes, None)) as evaluated:
                for index, losses, _ in evaluated:
                    self._check_files()
                    rows[index] = torch.cat([part.mean(1) for part in losses]).numpy()
                    on_done()
        return np.stack(rows)

    def _losses(
        self, genomes: Sequence[Genome], bars: Sequence[float] | None
    ) -> Generator[tuple[int, list[Tensor], float], None, None]:
        """Index, losses of each batch and the share of sequences of every genome, as soon as known."""
        order = sorted(range(len(genomes)), key=lambda i: [genomes[i].layer_key(n) for n in range(self._num_layers)])
        keys = [prefix_keys(genomes[index]) for index in order]

        def walk(places: range) -> Generator[tuple[int, Walked[Tensor]], None, None]:
            """A part of the sorted population."""

            def give_up(place: int, results: list[Tensor]) -> bool:
                if bars is None or self._racing is None or self._raced is None or self._dense_losses is None:
                    return False
                seen = torch.cat(results).view(-1)
                bar = self._raced.loss(bars[order[places[place]]])
                return self._racing.beaten(seen, self._dense_losses.view(-1), bar)

            chosen = [genomes[order[place]] for place in places]
            run = self._walk.run(chosen, [keys[place] for place in places], self._measured, give_up)
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
                seen = self._batches[: len(found.results)]
                fidelity = sum(len(batch.ids) for batch in seen) / sum(len(batch.ids) for batch in self._batches)
                self.statistics.candidates += 1
                self.statistics.blocks += self._num_layers * fidelity
                self.statistics.blocks_run += found.blocks_run
                self.statistics.tokens += round(self._text.num_tokens * fidelity)
                yield index, found.results, fidelity

    def _measured(self, windows: Windows, hidden: Tensor) -> Tensor:
        """The float64 losses of a batch, on the CPU."""
        batch = self._batches[windows.group]
        reference = None if self._reference is None else self._reference[windows.group]
        return batch.measure(self._loss(), self._predicting(batch, hidden), reference)

    def _dense_distribution(self) -> list[Tensor]:
        def finish(windows: Windows, hidden: Tensor) -> Tensor:
            batch = self._batches[windows.group]
            return batch.reference(self._loss(), self._predicting(batch, hidden))

        (found,) = self._walk.run([self._dense_genome], [prefix_keys(self._dense_genome)], finish)
        return found.results

    def _loss(self) -> TokenLoss:
        if not hasattr(self._local, "loss"):
            self._local.loss = TokenLoss(self._adapter.lm_head(self._outer))
        loss: TokenLoss = self._local.loss
        return loss

    def _embed(self, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return self._adapter.embed(self._outer, ids)

    def _value(self, losses: list[Tensor]) -> float:
        if len(losses) < len(self._batches):
            assert self._racing is not None
            assert self._raced is not None
            assert self._dense_losses is not None
            mean, _ = self._racing.estimate(torch.cat(losses).view(-1), self._dense_losses.view(-1))
            return self._raced.value(mean)
        return self._text.value(losses)

    def _predicting(self, batch: Batch, hidden: Tensor) -> Tensor:
        """``N x E`` head inputs of the positions that a token of interest is predicted from."""
        states = self._adapter.finish(self._outer, batch.predicting(hidden))
        return states.reshape(-1, states.shape[-1])
