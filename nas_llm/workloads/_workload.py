"""What a model is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from nas_llm.errors import ConfigError

_VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Prompts side by side that are read and answered.

    Args:
        name: What it is called.
        prompt: Tokens of a prompt.
        new_tokens: Tokens decoded after the first, one step each.
        batch: Sequences side by side.
        dtype: Type of weights and KV cache: ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        ConfigError: If a number is below 1, or the type is another one.
    """

    name: str
    prompt: int
    new_tokens: int
    batch: int = 1
    dtype: str

    def __post_init__(self) -> None:
        for key in ("prompt", "new_tokens", "batch"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} of workload {self.name} must be at least 1, got {getattr(self, key)}")
        if self.dtype not in _VALUE_BYTES:
            raise ConfigError(
                f"dtype of workload {self.name} must be one of {', '.join(_VALUE_BYTES)}, got {self.dtype!r}"
            )

    @property
    def tokens(self) -> int:
        """Tokens of a sequence that are in the KV cache at the end."""
        return self.prompt + self.new_tokens

    @property
    def value_bytes(self) -> int:
        """Bytes of one weight, and of one entry of the KV cache."""
        return _VALUE_BYTES[self.dtype]

    @property
    def contexts(self) -> tuple[int, ...]:
        """Lengths of the KV cache before the first and before the last decoded token, once if they are the same."""
        return tuple(dict.fromkeys((self.prompt, self.tokens - 1)))

    def check_positions(self, positions: int | None) -> None:
        """Refuse a workload that is longer than a model's positions.

        Args:
            positions: How many the model has; None = any number.

        Raises:
            ConfigError: Names the workload and the limit.
        """
        if positions is not None and self.tokens > positions:
            raise ConfigError(
                f"workload {self.name} takes {self.prompt} prompt and {self.new_tokens} new tokens, the model has "
                f"{positions} positions; lower one of them"
            )

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.prompt:,} prompt and {self.new_tokens:,} new tokens, batch {self.batch}, {self.dtype}"
        )
