"""Two orders in which a population's blocks are run; both share what equal gene prefixes have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from nas_llm.models.families import Block
from nas_llm.space import Genome
from nas_llm.subnet._blocks import BlockCache
from nas_llm.subnet._states import HiddenStates

# Hidden states kept for later calls are spread over about so many genomes.
_REMEMBERED = 48
# Genomes that go layer by layer together although their states would fit: results should come in regularly.
_TOGETHER = 64

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows that run through a block together.

    Attributes:
        group: 0, 1, ... in the order of the text.
        ids: ``count x T`` token ids.
        embed: Their hidden state before the first block, and what every block of them takes.
    """

    group: int
    ids: Tensor
    embed: Callable[[Tensor], tuple[Tensor, dict[str, Any]]]

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Walked(Generic[T]):
    """One genome's end of the walk.

    Attributes:
        index: Its place in the population given.
        results: What became of the last hidden state of each group of windows.
        blocks_run: Blocks that were run for it, averaged over the windows; a shared one counts for who ran it.
    """

    index: int
    results: list[T]
    blocks_run: float


class DepthFirstWalk:
    """One genome after the other, each from the deepest hidden state that is known.

    States at which a later genome of the population branches off are pinned; others are kept for later calls as far as
    the store allows: a child often shares its first blocks with a parent of an earlier generation.

    Args:
        blocks: Makes and keeps the blocks.
        states: Keeps the hidden states.
        windows: The text.
    """

    def __init__(self, blocks: BlockCache, states: HiddenStates, windows: Sequence[Windows]) -> None:
        self._blocks = blocks
        self._states = states
        self._windows = windows

    def run(
        self,
        genomes: Sequence[Genome],
        keys: Sequence[list[bytes]],
        finish: Callable[[Windows, Tensor], T],
        give_up: Callable[[int, list[T]], bool] = lambda index, results: False,
    ) -> Iterator[Walked[T]]:
        """Walk a population.

        Args:
            genomes: Sorted by their genes, first block first, so that equal prefixes are neighbours.
            keys: Their prefix keys.
            finish: Called with each group of windows and its hidden state after the last block.
            give_up: Called with a genome's place and its results so far after each group of windows but the last; True
                leaves the rest of its windows out.
        """
        try:
            for index, (genome, prefix) in enumerate(zip(genomes, keys, strict=True)):
                branches = _branches(keys, index)
                self._states.unpin()
                results: list[T] = []
                ran = 0
                for windows in self._windows:
                    if results and give_up(index, results):
                        break
                    hidden, blocks = self._one(genome, prefix, branches, windows)
                    results.append(finish(windows, hidden))
                    ran += blocks * windows.count
                yield Walked(index, results, ran / sum(windows.count for windows in self._windows))
        finally:
            self._states.unpin()

    def _one(self, genome: Genome, prefix: list[bytes], branches: set[int], windows: Windows) -> tuple[Tensor, int]:
        start, state = self._states.deepest(windows.group, prefix)
        for depth in branches & set(range(1, start + 1)):
            self._states.pin(windows.group, prefix[depth])
        hidden, context = windows.embed(windows.ids)
        hidden = hidden if state is None else state
        stride = self._stride(hidden.nbytes, genome.num_layers)
        for depth in range(start + 1, genome.num_layers + 1):
            hidden = self._blocks.get(genome, depth - 1)(hidden, **context)
            if depth in branches or depth % stride == 0:
                self._states.put(windows.group, prefix[depth], hidden, pinned=depth in branches)
        return hidden, genome.num_layers - start

    def _stride(self, nbytes: int, layers: int) -> int:
        """Every how many blocks a state is kept: what the store can hold, spread over the remembered genomes."""
        slots = self._states.budget_bytes // (nbytes * len(self._windows) * _REMEMBERED)
        return -(-layers // min(slots, layers)) if slots else layers + 1


def _branches(keys: Sequence[list[bytes]], index: int) -> set[int]:
    """Depths of a genome's states from which later ones start: what it shares with them."""
    depths: set[int] = set()
    shared = len(keys[index]) - 1
    for later in keys[index + 1 :]:
        while shared and keys[index][shared] != later[shared]:
            shared -= 1
        if not shared:
            break
        depths.add(shared)
    return depths


class LayerMajorWalk:
    """All genomes one block further at a time, so that each block's weights are needed once for the population.

    Genomes with equal prefixes are one node; nodes with the same next gene run through it together, joined into one
    product where that changes no bit of the result. Where the nodes' hidden states do not fit beside each other, the
    population, and if need be the text, is cut into parts, and each part is one more pass over the weights.

    Args:
        blocks: Makes the blocks; needs to keep none.
        states: Its budget bounds the hidden states.
        windows: The text.
        batch_windows: Most windows in one product.
    """

    def __init__(
        self, blocks: BlockCache, states: HiddenStates, windows: Sequence[Windows], *, batch_windows: int
    ) -> None:
        self._blocks = blocks
        self._states = states
        self._windows = windows
        self._batch_windows = batch_windows
        self._joining_is_exact: bool | None = None

    def run(
        self,
        genomes: Sequence[Genome],
        keys: Sequence[list[bytes]],
        finish: Callable[[Windows, Tensor], T],
        give_up: Callable[[int, list[T]], bool] = lambda index, results: False,
    ) -> Iterator[Walked[T]]:
        """Walk a population; see :meth:`DepthFirstWalk.run`. Nobody is given up: all share each pass."""
        if not genomes:
            return
        hidden, _ = self._windows[0].embed(self._windows[0].ids[:1])
        # Before and after a block, and the batch that is under way.
        parts = _parts(self._windows, max(1, self._states.budget_bytes // (3 * hidden.nbytes)))
        largest = max(sum(windows.count for windows in part) for part in parts)
        together = self._states.budget_bytes // (2 * largest * hidden.nbytes) - 1
        together = max(1, min(together, _TOGETHER))
        for first in range(0, len(genomes), together):
            chosen = range(first, min(first + together, len(genomes)))
            passes = [self._pass(genomes, keys, chosen, part, finish) for part in parts]
            count = sum(windows.count for windows in self._windows)
            for index in chosen:
                results = [result for done in passes for result in done[index][0]]
                ran = sum(
                    done[index][1] * sum(windows.count for windows in part)
                    for done, part in zip(passes, parts, strict=True)
                )
                yield Walked(index, results, ran / count)

    def _pass(
        self,
        genomes: Sequence[Genome],
        keys: Sequence[list[bytes]],
        chosen: range,
        part: Sequence[Windows],
        finish: Callable[[Windows, Tensor], T],
    ) -> dict[int, tuple[list[T], int]]:
        """Results and blocks run of each chosen genome on a part of the text."""
        ran = dict.fromkeys(chosen, 0)
        embedded = [windows.embed(windows.ids) for windows in part]
        contexts = [context for _, context in embedded]
        nodes = {keys[chosen[0]][0]: [hidden for hidden, _ in embedded]}
        del embedded
        for depth in range(1, genomes[chosen[0]].num_layers + 1):
            # One representative a child node; children are gathered by gene, parents freed with their last child.
            children = {keys[index][depth]: index for index in reversed(chosen)}
            genes: dict[bytes, list[int]] = {}
            for index in children.values():
                genes.setdefault(genomes[index].layer_key(depth - 1), []).append(index)
                ran[index] += 1
            waiting = [keys[index][depth - 1] for index in children.values()]
            after: dict[bytes, list[Tensor]] = {}
            for indices in genes.values():
                parents = [keys[index][depth - 1] for index in indices]
                block = self._blocks.get(genomes[indices[0]], depth - 1)
                found = self._run_block(block, [nodes[parent] for parent in parents], contexts)
                after |= dict(zip((keys[index][depth] for index in indices), found, strict=True))
                self._states.observe(sum(state.nbytes for node in (nodes, after) for s in node.values() for state in s))
                for parent in parents:
                    waiting.remove(parent)
                    if parent not in waiting:
                        del nodes[parent]
            nodes = after
        return {
            index: (
                [finish(windows, hidden) for windows, hidden in zip(part, nodes[keys[index][-1]], strict=True)],
                ran[index],
            )
            for index in chosen
        }

    def _run_block(
        self, block: Block, nodes: Sequence[list[Tensor]], contexts: Sequence[dict[str, Any]]
    ) -> list[list[Tensor]]:
        """Run several nodes' hidden states through one block."""
        results: list[list[Tensor]] = [[] for _ in nodes]
        for group, context in enumerate(contexts):
            count = len(nodes[0][group])
            most = max(1, self._batch_windows // count)
            for first in range(0, len(nodes), most):
                batch = [node[group] for node in nodes[first : first + most]]
                for offset, state in enumerate(self._run_batch(block, batch, context)):
                    results[first + offset].append(state)
        return results

    def _run_batch(self, block: Block, batch: list[Tensor], context: dict[str, Any]) -> Sequence[Tensor]:
        if len(batch) == 1 or self._joining_is_exact is False:
            return [block(state, **context) for state in batch]
        joined: Sequence[Tensor] = block(torch.cat(batch), **context).split(len(batch[0]))
        if self._joining_is_exact is None:
            # Some libraries add in another order in products of another size; tried once, on the first chance.
            alone = [block(state, **context) for state in batch]
            self._joining_is_exact = all(torch.equal(a, b) for a, b in zip(alone, joined, strict=True))
            return alone
        return joined


def _parts(windows: Sequence[Windows], most: int) -> list[list[Windows]]:
    """Consecutive groups of windows, at most so many windows a part (but at least one group)."""
    parts: list[list[Windows]] = [[]]
    for group in windows:
        if parts[-1] and sum(w.count for w in parts[-1]) + group.count > most:
            parts.append([])
        parts[-1].append(group)
    return parts
