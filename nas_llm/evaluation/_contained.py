"""Keeps what lm-eval says and sets to itself."""

from __future__ import annotations

import contextlib
import io
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

OnRequests = Callable[[int, int], None]
"""Told how many requests are answered, and how many were made so far."""


@contextlib.contextmanager
def contained(on_requests: OnRequests = lambda done, total: None) -> Iterator[None]:
    """Keep lm-eval's prints, notes and progress bars, and the seeds that it sets, to itself.

    Args:
        on_requests: Takes the place of the bars.
    """
    # transformers warns of texts longer than the model, which lm-eval then cuts into windows.
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers")]
    levels, python, numpy = [logger.level for logger in loggers], random.getstate(), np.random.get_state()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(), _no_bars(on_requests):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _no_bars(on_requests: OnRequests) -> Iterator[None]:
    """No bar of tqdm is shown; those of requests that run are passed on."""
    from tqdm.std import tqdm

    made, done, total = tqdm.__init__, 0, 0

    def silent(bar: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal total
        made(bar, *args, **{**kwargs, "disable": True})
        if str(kwargs.get("desc")).startswith("Running"):
            total += int(kwargs.get("total") or 0)
            bar.update = answered

    def answered(count: int = 1) -> None:
        nonlocal done
        done += count
        on_requests(done, total)

    tqdm.__init__ = silent
    try:
        yield
    finally:
        tqdm.__init__ = made


@contextlib.contextmanager
def without_git() -> Iterator[None]:
    """Keep lm-eval from asking git for the current folder's commit: git complains where that is no repository."""
    import lm_eval.evaluator

    module: Any = lm_eval.evaluator
    asked = module.get_git_commit_hash
    module.get_git_commit_hash = lambda: None
    try:
        yield
    finally:
        module.get_git_commit_hash = asked
