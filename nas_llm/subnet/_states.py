"""Hidden states by gene prefix: where a walk may start."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from nas_llm.space import Genome


def prefix_keys(genome: Genome) -> list[bytes]:
    """``L + 1`` keys; two genomes share key n exactly when their first n blocks have equal genes."""
    keys, state = [b""], hashlib.blake2b(digest_size=16)
    for layer in range(genome.num_layers):
        state.update(genome.layer_key(layer))
        keys.append(state.digest())
    return keys


class HiddenStates:
    """Least-recently-used store of hidden states after gene prefixes, under a memory budget; threads may share it.

    States that were put with ``pinned`` stay until the same thread's :meth:`unpin`, whatever is used in between.

    Args:
        budget_bytes: Memory for states; one that does not fit is not kept.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.bytes = 0
        self.peak_bytes = 0
        self._states: OrderedDict[tuple[int, bytes], Tensor] = OrderedDict()
        self._pins: dict[int, set[tuple[int, bytes]]] = {}
        self._lock = threading.RLock()

    def deepest(self, group: int, keys: Sequence[bytes]) -> tuple[int, Tensor | None]:
        """The longest known prefix.

        Args:
            group: Which windows.
            keys: What :func:`prefix_keys` returned.

        Returns:
            Number of blocks that are done, and the hidden state after them; 0 and None if nothing is known.
        """
        with self._lock:
            for depth in range(len(keys) - 1, 0, -1):
                key = (group, keys[depth])
                if key in self._states:
                    self._states.move_to_end(key)
                    return depth, self._states[key]
        return 0, None

    def put(self, group: int, key: bytes, state: Tensor, *, pinned: bool) -> None:
        """Keep a state; the longest unused ones make room, pinned ones do not."""
        place = (group, key)
        with self._lock:
            if place in self._states:
                self._states.move_to_end(place)
            else:
                if not self._make_room(state.nbytes):
                    return
                self._states[place] = state
                self.bytes += state.nbytes
                self.observe(self.bytes)
            if pinned:
                self._own_pins().add(place)

    def pin(self, group: int, key: bytes) -> None:
        """Keep a state, if it is known, until :meth:`unpin`."""
        with self._lock:
            if (group, key) in self._states:
                self._own_pins().add((group, key))

    def unpin(self) -> None:
        """Let all states that this thread pinned be evicted again."""
        with self._lock:
            self._pins.pop(threading.get_ident(), None)

    def observe(self, nbytes: int) -> None:
        """Take note of hidden states that are held, for :attr:`peak_bytes`."""
        self.peak_bytes = max(self.peak_bytes, nbytes)

    def _make_room(self, wanted: int) -> bool:
        if wanted > self.budget_bytes:
            return False
        pinned = set().union(*self._pins.values())
        victims = [place for place in self._states if place not in pinned] if self._short(wanted) else []
        for place in victims:
            self.bytes -= self._states.pop(place).nbytes
            if not self._short(wanted):
                return True
        return not self._short(wanted)

    def _own_pins(self) -> set[tuple[int, bytes]]:
        return self._pins.setdefault(threading.get_ident(), set())

    def _short(self, wanted: int) -> bool:
        return self.bytes + wanted > self.budget_bytes
