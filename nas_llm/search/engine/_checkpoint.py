"""The algorithm's state after each generation, on disk.

Checkpoints are pickles: they are for the machine and the version that wrote them. NEVER load one from a stranger: the
hash in its header protects against damage, not against malice.
"""

from __future__ import annotations

import copyreg
import hashlib
import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_llm.events import EventHandler, Notice
from nas_llm.files import write_atomic
from nas_llm.space import Genome

_MAGIC = b"NASLLMCK"
_VERSION = 1
_HEADER = struct.Struct("<8sHQ32s")
_KEEP = 3


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """All that a search needs to go on.

    Attributes:
        generation: Completed generations.
        evaluations: Distinct genomes evaluated in them.
        stalled: How many generations in a row, the last one included, brought nothing new.
        algorithm: The pymoo algorithm with its population and random state.
    """

    generation: int
    evaluations: int
    stalled: int
    algorithm: Any


class CheckpointStore:
    """Reads and writes ``checkpoint/gen-NNNNN.ckpt`` of a run directory; the last three are kept.

    Args:
        directory: The run directory.
        shared: Objects that belong to the run, not to its state (the problem, scores, ...), by name. They are left
            out of checkpoints, and the ones given here are put in their places on loading.
    """

    def __init__(self, directory: Path, *, shared: Mapping[str, object]) -> None:
        self.directory = directory / "checkpoint"
        self.shared = dict(shared)

    def files(self) -> list[Path]:
        """Checkpoints on disk, the latest first."""
        return sorted(self.directory.glob("gen-*.ckpt"), reverse=True)

    def save(self, state: SearchState) -> None:
        """Write a state atomically: a crash leaves the old files or the old files and the new one.

        Raises:
            RunError: If the directory cannot be written.
        """
        buffer = io.BytesIO()
        _Pickler(buffer, self.shared).dump(state)
        payload = buffer.getvalue()
        header = _HEADER.pack(_MAGIC, _VERSION, len(payload), hashlib.sha256(payload).digest())
        path = self.directory / f"gen-{state.generation:05d}.ckpt"
        write_atomic(path, header + payload, parents=True, sync=True)
        # What a killed search left half-written goes with the old ones: the run's lock is held.
        for old in (*self.files()[_KEEP:], *self.directory.glob(".gen-*")):
            old.unlink(missing_ok=True)

    def load_latest(self, on_event: EventHandler) -> SearchState | None:
        """The latest readable state, or None; every file that had to be passed over is told as a notice."""
        files = self.files()
        for path in files:
            try:
                return self._load(path)
            except _DamagedError as error:
                on_event(Notice(f"checkpoint {path.name} {error}; falling back to the one before it"))
        if files:
            on_event(Notice("no checkpoint is usable; replaying from the start, known evaluations are not repeated"))
        return None

    def _load(self, path: Path) -> SearchState:
        data = path.read_bytes()
        if len(data) < _HEADER.size:
            raise _DamagedError("is cut short")
        magic, version, length, digest = _HEADER.unpack_from(data)
        payload = data[_HEADER.size :]
        if magic != _MAGIC:
            raise _DamagedError("is not a checkpoint")
        if version != _VERSION:
            raise _DamagedError(f"has format {version}, this version of nas-llm reads {_VERSION}")
        if len(payload) != length or hashlib.sha256(payload).digest() != digest:
            raise _DamagedError("is damaged (its hash does not match)")
        try:
            state = _Unpickler(io.BytesIO(payload), self.shared).load()
        except Exception as error:
            # A sound file that does not unpickle was written by other versions of the packages it refers to.
            raise _DamagedError(f"was written by another version ({type(error).__name__}: {error})") from error
        if not isinstance(state, SearchState):
            raise _DamagedError("holds no search")
        return state


class _DamagedError(Exception):
    """A checkpoint that cannot be used, and why."""


class _Pickler(pickle.Pickler):
    """Writes shared objects as names and genomes in their compact form."""

    dispatch_table = copyreg.dispatch_table.copy()

    def __init__(self, file: io.BytesIO, shared: Mapping[str, object]) -> None:
        super().__init__(file, protocol=5)
        self._names = {id(value): name for name, value in shared.items()}

    def persistent_id(self, obj: object) -> str | None:
        return self._names.get(id(obj))


def _reduce_genome(genome: Genome) -> tuple[Any, tuple[bytes]]:
    return Genome.from_bytes, (genome.to_bytes(),)


_Pickler.dispatch_table[Genome] = _reduce_genome


class _Unpickler(pickle.Unpickler):
    """Puts the run's own objects in the places of their names."""

    def __init__(self, file: io.BytesIO, shared: Mapping[str, object]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, pid: Any) -> object:
        return self._shared[pid]
