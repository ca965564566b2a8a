"""One forward pass of a model, timed as often as one likes."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import timer
from transformers import PreTrainedModel

from nas_llm.config import LatencySection
from nas_llm.errors import ConfigError
from nas_llm.space import FloatArray

# Other work on the machine only ever adds time: of many rounds the fast ones say what the pass itself takes, and of
# them not the very fastest, which rests on a single reading.
_QUANTILE = 0.25
_WARM_UP = 2


class TimedPass:
    """A prefill up to the next token, or the decoding of one token behind a KV cache.

    The cache is filled once and cut back to its length after each pass. torch's ``Timer`` would warm the processor's
    caches with the very weights just before it starts; here other passes may be interleaved, so that weights come
    from memory as they do in use. With one CPU thread the clock is that thread's own time, which stands still while
    something else has the core; otherwise it is the wall's, behind a wait for the device.

    Args:
        model: A causal LM, or its trunk, in evaluation mode; runs on its own device in its own dtype.
        settings: What to run.

    Raises:
        ConfigError: If the model has fewer positions than that takes.
    """

    def __init__(self, model: PreTrainedModel, settings: LatencySection) -> None:
        check_positions(settings, getattr(model.config, "max_position_embeddings", None))
        self._model = model
        alone = model.device.type == "cpu" and torch.get_num_threads() == 1
        self._clock: Callable[[], float] = time.thread_time if alone else timer
        self._decode = settings.phase == "decode"
        generator = torch.Generator().manual_seed(0)
        shape = (settings.batch, settings.length)
        ids = torch.randint(model.config.vocab_size, shape, generator=generator).to(model.device)
        head = model.get_output_embeddings() is not None
        # Of a prompt's logits only the last ones are of use.
        self._inputs: dict[str, Any] = {"input_ids": ids, "use_cache": True, **({"logits_to_keep": 1} if head else {})}
        if self._decode:
            with torch.inference_mode():
                cache = model(**self._inputs).past_key_values
            self._inputs |= {"input_ids": ids[:, -1:], "past_key_values": cache}

    def __call__(self) -> float:
        """Run once.

        Returns:
            Seconds, on CUDA up to the end of the last kernel.
        """
        with torch.inference_mode():
            started = self._clock()
            self._model(**self._inputs)
            seconds = self._clock() - started
            if self._decode:
                self._inputs["past_key_values"].crop(-1)
        return float(seconds)


def interleaved_seconds(
    passes: Sequence[Callable[[], float]], *, repeats: int, on_round: Callable[[int], None] = lambda done: None
) -> FloatArray:
    """Typical seconds of each of some passes: the first quartile of rounds in which each runs once.

    Args:
        passes: Each runs something and returns its seconds.
        repeats: Rounds, after two that do not count.
        on_round: Called with the number of rounds that are done.

    Returns:
        One number a pass.
    """
    rounds = []
    for done in range(-_WARM_UP, repeats):
        seconds = [run() for run in passes]
        if done >= 0:
            rounds.append(seconds)
            on_round(done + 1)
    return np.asarray(np.quantile(np.array(rounds), _QUANTILE, axis=0), dtype=np.float64)


def check_positions(settings: LatencySection, positions: int | None) -> None:
    """Refuse a pass that is longer than a model's positions.

    Raises:
        ConfigError: Names the key and the limit.
    """
    key, needed = ("context", settings.length + 1) if settings.phase == "decode" else ("tokens", settings.length)
    if positions is not None and needed > positions:
        raise ConfigError(
            f"latency.{key} = {settings.length} takes {needed} positions, the model has {positions}; lower it"
        )


def device_name(device: torch.device) -> str:
    """What the processor calls itself: two machines of one name take the same time."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
