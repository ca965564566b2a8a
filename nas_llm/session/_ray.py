"""Evaluators in Ray actors: many on one machine, or over a cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_llm.errors import ConfigError, NasLlmError, RunError, first_line
from nas_llm.search.engine import OnResult, RacingEvaluator
from nas_llm.space import Genome

logger = logging.getLogger(__name__)

# Actors that may die one after the other without any result in between.
_MOST_DEATHS = 5

Host = Any
"""What an actor keeps loaded; whatever the pool's ``load`` returns."""


class _Actor:
    """Runs in a worker process: loads once, then evaluates genomes."""

    def __init__(self, load: Callable[[], Host]) -> None:
        self._host = load()
        self._evaluators: dict[str, RacingEvaluator] = {}

    def ready(self) -> int:
        """The process id, as soon as everything is loaded."""
        return os.getpid()

    def identity(self, key: str, build: Callable[[Host], RacingEvaluator]) -> str:
        """What the values of an evaluator depend on."""
        return str(getattr(self._evaluator(key, build), "identity", ""))

    def evaluate(
        self,
        key: str,
        build: Callable[[Host], RacingEvaluator],
        genomes: list[bytes],
        bars: list[float] | None,
    ) -> list[tuple[int, float, float, float]]:
        """Index, value, seconds and fidelity of each genome."""
        results: list[tuple[int, float, float, float]] = []

        def keep(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
            results.append((index, value, seconds, fidelity))

        arguments: dict[str, Any] = {} if bars is None else {"bars": bars}
        self._evaluator(key, build).evaluate([Genome.from_bytes(g) for g in genomes], on_result=keep, **arguments)
        return results

    def window_losses(self, key: str, build: Callable[[Host], Any], genomes: list[bytes]) -> npt.NDArray[np.float64]:
        """``genomes x windows`` losses."""
        evaluator: Any = self._evaluator(key, build)
        found: npt.NDArray[np.float64] = evaluator.window_losses([Genome.from_bytes(g) for g in genomes])
        return found

    def _evaluator(self, key: str, build: Callable[[Host], RacingEvaluator]) -> RacingEvaluator:
        if key not in self._evaluators:
            self._evaluators[key] = build(self._host)
        return self._evaluators[key]


class RayPool:
    """Ray actors that evaluate genomes; only genomes and values travel once they are loaded.

    An actor that dies is replaced and its work is done again elsewhere. Values do not depend on the number of workers.

    Args:
        load: Called once in each actor; what it returns is given to ``build`` of :meth:`evaluator`. Pickled.
        workers: Actors.
        address: A running cluster (``auto``, ``host:port`` or ``ray://...``); None starts Ray on this machine.
        threads: CPU cores of one actor.
        gpus: GPUs of one actor.

    Raises:
        ConfigError: If Ray is not installed, the cluster cannot be reached, or ``workers`` is below 1.
        RunError: If the actors cannot be started.
    """

    def __init__(
        self,
        load: Callable[[], Host],
        *,
        workers: int,
        address: str | None = None,
        threads: int = 1,
        gpus: float = 0.0,
    ) -> None:
        if workers < 1 or threads < 1:
            raise ConfigError(f"workers and their threads must be at least 1, got {workers} and {threads}")
        self._ray = ray = _import_ray()
        self._workers = workers
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _start(ray, address, cpus=workers * threads)
        self._actors: list[Any] = []
        self._check_room(ray, threads, gpus)
        self._kind = ray.remote(_Actor).options(num_cpus=threads, num_gpus=gpus, max_restarts=0)
        self._load = ray.put(load)
        self._actors = [self._new_actor() for _ in range(workers)]
        try:
            self.process_ids: list[int] = ray.get([actor.ready.remote() for actor in self._actors])
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            self.close()
            if isinstance(cause, NasLlmError):
                raise cause from None
            raise RunError(f"a worker did not start: {first_line(cause or error)}") from error

    def evaluator(self, key: str, build: Callable[[Host], RacingEvaluator]) -> RayEvaluator:
        """An evaluator whose genomes are evaluated by the pool.

        Args:
            key: Names the evaluator; each actor builds one for each key.
            build: Makes it from what ``load`` returned. Pickled.
        """
        return RayEvaluator(self, key, build)

    def close(self) -> None:
        """Stop the actors, and Ray if this pool started it."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        if self._owns_ray:
            self._ray.shutdown()

    def __enter__(self) -> RayPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call one actor and wait; another one if it is dead."""
        return self.map(method, [arguments], lambda place, result: None)[0]

    def map(
        self, method: str, calls: Sequence[tuple[Any, ...]], on_done: Callable[[int, Any], None], retry: bool = True
    ) -> list[Any]:
        """Spread calls over the actors.

        Args:
            method: The actor method.
            calls: Its arguments, one tuple a call.
            on_done: Called with each call's place and result as it comes in.
            retry: Whether calls of a dead actor are made again.

        Returns:
            All results, in the order of the calls.

        Raises:
            RunError: If actors die again and again without getting anything done.
        """
        ray = self._ray
        results: list[Any] = [None] * len(calls)
        waiting = deque(range(len(calls)))
        idle = list(self._actors)
        running: dict[Any, tuple[int, Any]] = {}
        deaths = 0
        while waiting or running:
            while waiting and idle:
                place, actor = waiting.popleft(), idle.pop()
                running[getattr(actor, method).remote(*calls[place])] = (place, actor)
            (done,), _ = ray.wait(list(running), num_returns=1)
            place, actor = running.pop(done)
            try:
                results[place] = ray.get(done)
            except ray.exceptions.RayActorError as error:
                deaths += 1
                if deaths > _MOST_DEATHS or not retry:
                    raise RunError(
                        f"{deaths} workers died one after the other ({first_line(error)}); give each more memory or "
                        f"use fewer"
                    ) from error
                logger.warning("a worker died; its work is done again by another")
                self._actors.remove(actor)
                actor = self._new_actor()
                self._actors.append(actor)
                waiting.appendleft(place)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise (cause if isinstance(cause, NasLlmError) else RunError(f"a worker failed: {cause}")) from error
            else:
                deaths = 0
                on_done(place, results[place])
            idle.append(actor)
        return results

    @property
    def workers(self) -> int:
        """Number of actors."""
        return self._workers

    def share(self, value: Any) -> Any:
        """Put something into Ray's object store, to be sent once."""
        return self._ray.put(value)

    def _new_actor(self) -> Any:
        return self._kind.remote(self._load)

    def _check_room(self, ray: Any, threads: int, gpus: float) -> None:
        """Actors that cannot be placed would be waited for without end."""
        have = ray.available_resources()
        for name, each in (("CPU", threads), ("GPU", gpus)):
            if each * self._workers > have.get(name, 0.0):
                self.close()
                raise ConfigError(
                    f"{self._workers} workers with {each:g} {name} each need {each * self._workers:g} {name}, Ray has "
                    f"{have.get(name, 0.0):g} free; use fewer workers or threads"
                )


class RayEvaluator:
    """Evaluates genomes with the actors of a pool; see :class:`nas_llm.search.Evaluator`.

    Args:
        pool: The actors.
        key: Names the evaluator.
        build: Makes it in an actor.
    """

    def __init__(self, pool: RayPool, key: str, build: Callable[[Host], RacingEvaluator]) -> None:
        self._pool = pool
        self._key = key
        self._build = pool.share(build)
        self.identity: str = pool.call("identity", key, self._build)

    def evaluate(
        self, genomes: Sequence[Genome], *, on_result: OnResult | None = None, bars: Sequence[float] | None = None
    ) -> list[float]:
        """Evaluate genomes; those with equal first blocks go to the same actor."""
        values = [0.0] * len(genomes)
        portions = self._portions(genomes)

        def on_done(place: int, results: list[tuple[int, float, float, float]]) -> None:
            for index, value, seconds, fidelity in results:
                genome = portions[place][index]
                values[genome] = value
                if on_result is not None:
                    on_result(genome, value, seconds, fidelity)

        calls = [
            (
                self._key,
                self._build,
                [genomes[i].to_bytes() for i in portion],
                None if bars is None else [bars[i] for i in portion],
            )
            for portion in portions
        ]
        self._pool.map("evaluate", calls, on_done)
        return values

    def window_losses(
        self, genomes: Sequence[Genome], *, on_done: Callable[[], None] = lambda: None
    ) -> npt.NDArray[np.float64]:
        """``genomes x windows`` mean token losses; see :class:`nas_llm.subnet.PopulationEvaluator`."""
        portions = self._portions(genomes)

        def told(place: int, result: Any) -> None:
            for _ in portions[place]:
                on_done()

        calls = [(self._key, self._build, [genomes[i].to_bytes() for i in portion]) for portion in portions]
        found = np.concatenate(self._pool.map("window_losses", calls, told))
        return found[np.argsort(np.concatenate(portions))]

    def _portions(self, genomes: Sequence[Genome]) -> list[list[int]]:
        """Places of genomes that go to an actor together."""
        order = sorted(
            range(len(genomes)), key=lambda i: [genomes[i].layer_key(n) for n in range(genomes[i].num_layers)]
        )
        # Several portions an actor: results come in regularly, and a slow one does not keep the others waiting.
        size = max(1, len(order) // (4 * self._pool.workers))
        return [order[first : first + size] for first in range(0, len(order), size)]


def _import_ray() -> Any:
    # Asked before the import: Ray reports its use over the network unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("workers need Ray, which is not installed; pip install 'nas-llm[ray]'") from error
    return ray


def _start(ray: Any, address: str | None, *, cpus: int) -> None:
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init(address="local", num_cpus=cpus, object_store_memory=200 << 20, **quiet)
        else:
            _check_reachable(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address is None else f"at '{address}'"
        raise ConfigError(f"cannot use Ray {where}: {first_line(error)}") from error


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10.0).close()
