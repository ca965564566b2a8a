"""What was measured of a model, each number with what it was measured on. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from nas_llm.settings import WorkloadDefaults
from nas_llm.statistics import Interval, WindowLosses


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """Perplexity on one text.

    Attributes:
        text: ``wikitext2``, ``ptb``, ``c4`` or a file.
        perplexity: exp(mean token NLL) over non-overlapping windows.
        interval: Where the perplexity of such text lies, as far as these windows say; None for fewer windows than it
            takes.
        window: Tokens of one window.
        windows: Windows that were scored: of ``nas-llm evaluate`` the first ones, of ``nas-llm compare`` spread evenly.
        available: Windows in the whole text; None where documents behind the last window were not tokenised.
        tokens: Tokens in these windows.
        digest: Content hash of the windows.
        losses: Loss and predicted tokens of each window.
    """

    text: str
    perplexity: float
    interval: Interval | None = None
    window: int
    windows: int
    available: int | None = None
    tokens: int
    digest: str
    losses: WindowLosses


@dataclass(frozen=True, kw_only=True)
class HeldOutGap:
    """Perplexities on the text that a run used and on text that it never saw.

    Attributes:
        calibration: On the beginning of the windows that weights were refitted on, as many as there are held-out ones.
        fitness: On the windows that the search saw.
        held_out: On windows that neither saw.
        held_out_interval: Where that lies on such text, as far as these windows say; None for fewer than it takes.
        gap: held_out / fitness over the same of the dense model, minus 1: 0 for a subnet that loses as much on unseen
            text as on the search's, positive for one that is fitted to the latter.
    """

    calibration: float
    fitness: float
    held_out: float
    held_out_interval: Interval | None = None
    gap: float


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One metric of one task.

    Attributes:
        task: Task or group.
        metric: ``acc``, ``acc_norm``, ...
        value: The metric.
        stderr: Its standard error; None where there is none.
        samples: Documents that were scored.
        fewshot: Examples in the prompt; None for a group of tasks that differ.
        headline: Whether tables show it: the task or its group was asked for, and this is the metric to read.
        cached: Whether earlier answers of the same model were reused where there were any.
        share: Whether it is a share of documents, between 0 and 1, which tables show in percent; perplexities, bits per
            byte and the like are none.
        higher_is_better: As lm-eval says; None where it says nothing.
        documents: Score of each document, in their order; None where they were not kept, or the value is not their
            mean.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    samples: int
    fewshot: int | None
    headline: bool
    cached: bool
    share: bool
    higher_is_better: bool | None
    documents: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a model is put through when time and memory are measured.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        new_tokens: Tokens decoded after the first.
        batch: Sequences at a time.
        rounds: Timed runs of each model, taken in turns with the dense model's.
    """

    prompt_tokens: int = WorkloadDefaults.prompt_tokens
    new_tokens: int = WorkloadDefaults.new_tokens
    batch: int = WorkloadDefaults.batch
    rounds: int = WorkloadDefaults.rounds


@dataclass(frozen=True, kw_only=True)
class PredictionScore:
    """What was predicted of a model from its genome.

    Attributes:
        workload: Name of what it does.
        seconds: From the prompt to the last token.
        peak_bytes: Weights, activations and cache.
        kv_cache_bytes: What the cache holds at the end.
    """

    workload: str
    seconds: float
    peak_bytes: int
    kv_cache_bytes: int


@dataclass(frozen=True, kw_only=True)
class SpeedScore:
    """Speed of a model beside the dense one.

    Attributes:
        device: Where it ran.
        threads: torch's threads; 0 on a GPU.
        dtype: Arithmetic.
        workload: What it was put through.
        first_token_seconds: From the prompt to the first token, median.
        first_token_spread: Interquartile range over the median.
        prefill_tokens_per_second: ``batch * prompt_tokens / first_token_seconds``.
        decode_tokens_per_second: Tokens after the first, of all sequences, median.
        decode_spread: Interquartile range of the decoding time over its median.
        against: The dense model.
        prefill_speedup: Median over rounds of the dense model's time over this one's.
        decode_speedup: The same of decoding.
    """

    device: str
    threads: int
    dtype: str
    workload: Workload
    first_token_seconds: float
    first_token_spread: float
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    decode_spread: float
    against: str
    prefill_speedup: float
    decode_speedup: float

    @property
    def seconds(self) -> float:
        """From the prompt to the last token."""
        load = self.workload
        return self.first_token_seconds + load.batch * load.new_tokens / self.decode_tokens_per_second


@dataclass(frozen=True, kw_only=True)
class MemoryScore:
    """Memory of a model beside the dense one, in one prefill and decoding.

    Attributes:
        device: Where it ran.
        dtype: Arithmetic.
        workload: What it was put through.
        peak_bytes: Most that weights, activations and cache took together; without interpreter and libraries.
        kv_cache_bytes: What the cache holds at the end.
        against: The dense model.
        peak_ratio: ``peak_bytes`` over the dense model's.
        kv_cache_ratio: ``kv_cache_bytes`` over the dense model's.
    """

    device: str
    dtype: str
    workload: Workload
    peak_bytes: int
    kv_cache_bytes: int
    against: str
    peak_ratio: float
    kv_cache_ratio: float
