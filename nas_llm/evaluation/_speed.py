"""How fast models are beside each other, in alternating runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils import benchmark
from transformers import PreTrainedModel

from nas_llm.evaluation._generation import Generation
from nas_llm.evaluation._scores import SpeedScore, Workload
from nas_llm.space import FloatArray


@dataclass(frozen=True, eq=False)
class Times:
    """Seconds of one model, ``(rounds,)`` each.

    Attributes:
        first_token: From the prompt to the first token.
        decode: All tokens after the first.
    """

    first_token: FloatArray
    decode: FloatArray


def alternating_times(
    models: Sequence[PreTrainedModel], workload: Workload, *, on_round: Callable[[int], None] = lambda done: None
) -> list[Times]:
    """Time a workload on some models, in turns: each round runs every model once.

    On a CPU by ``torch.utils.benchmark``, which warms up before every timed run; on CUDA by events, after one run of
    each model that is not counted.

    Args:
        models: Causal LMs in evaluation mode, all on the same device.
        workload: What they are put through.
        on_round: Called with the number of rounds that are done.

    Returns:
        One entry a model.

    Raises:
        ConfigError: If the workload is longer than a model's positions.
    """
    device = models[0].device
    runs = [Generation(model, workload) for model in models]
    seconds = _cuda_seconds if device.type == "cuda" else _cpu_seconds
    found = np.empty((len(runs), 2, workload.rounds))
    for run in runs:
        run.first_token()
        run.decode()
    for turn in range(workload.rounds):
        for index, run in enumerate(runs):
            found[index, :, turn] = seconds(run.first_token), seconds(run.decode)
        on_round(turn + 1)
    return [Times(first_token=first, decode=decode) for first, decode in found]


def speed_score(model: PreTrainedModel, times: Times, dense: Times, *, workload: Workload, against: str) -> SpeedScore:
    """Medians, spreads and speed-ups.

    Args:
        model: The model.
        times: Its times.
        dense: The dense model's times in the same rounds.
        workload: What was timed.
        against: Name of the dense model.
    """
    first, decode = float(np.median(times.first_token)), float(np.median(times.decode))
    return SpeedScore(
        device=model.device.type,
        threads=0 if model.device.type == "cuda" else torch.get_num_threads(),
        dtype=str(model.dtype).removeprefix("torch."),
        workload=workload,
        first_token_seconds=first,
        first_token_spread=_spread(times.first_token),
        prefill_tokens_per_second=workload.batch * workload.prompt_tokens / first,
        decode_tokens_per_second=workload.batch * workload.new_tokens / decode,
        decode_spread=_spread(times.decode),
        against=against,
        prefill_speedup=float(np.median(dense.first_token / times.first_token)),
        decode_speedup=float(np.median(dense.decode / times.decode)),
    )


def _spread(seconds: FloatArray) -> float:
    low, middle, high = np.percentile(seconds, (25, 50, 75))
    return float((high - low) / middle)


def _cpu_seconds(run: Callable[[], None]) -> float:
    timer = benchmark.Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return float(timer.timeit(1).median)


def _cuda_seconds(run: Callable[[], None]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1000
