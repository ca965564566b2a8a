"""How an export is trained, checked once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nas_llm.errors import ConfigError
from nas_llm.posttrain._methods import training_method
from nas_llm.settings import PosttrainDefaults

_DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class PosttrainSettings:
    """Settings of one training; without ``steps`` and ``seconds`` it goes through its text once.

    Attributes:
        method: ``lora`` or ``full``.
        learning_rate: Peak of the schedule; None = the method's own.
        steps: Optimizer steps at most.
        seconds: Training time at most; loading, measuring and writing are not counted.
        batch: Windows a step.
        rank: Rank of the low-rank updates of ``lora``.
        seed: Order of the windows, and first weights of the low-rank updates.
        dtype: Arithmetic: ``float32``, ``bfloat16`` (the weights stay float32), or ``auto`` = what is faster here.
        points: Points of the learning curve at which held-out text is measured, the last included.

    Raises:
        ConfigError: If one of them is out of range.
    """

    method: str = PosttrainDefaults.method
    learning_rate: float | None = None
    steps: int | None = None
    seconds: float | None = None
    batch: int = PosttrainDefaults.batch
    rank: int = PosttrainDefaults.rank
    seed: int = PosttrainDefaults.seed
    dtype: str = PosttrainDefaults.dtype
    points: int = PosttrainDefaults.points

    def __post_init__(self) -> None:
        training_method(self.method)
        for name in ("learning_rate", "seconds"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise ConfigError(f"{name} = {value:g} should be above 0")
        for name in ("steps", "batch", "rank", "points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value} should be at least 1")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed = {self.seed} should be from 0 to 2^32 - 1")
        if self.dtype not in _DTYPES:
            raise ConfigError(f"dtype = '{self.dtype}' is unknown; take {', '.join(_DTYPES)}")

    @property
    def peak(self) -> float:
        """The learning rate, the method's own where none is given."""
        return self.learning_rate or training_method(self.method).learning_rate

    def to_dict(self) -> dict[str, Any]:
        """Plain-data form, the learning rate resolved."""
        return asdict(self) | {"learning_rate": self.peak}
