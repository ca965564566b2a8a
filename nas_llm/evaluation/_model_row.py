"""All that was measured of one model."""

from __future__ import annotations

from dataclasses import dataclass

from nas_llm.evaluation._scores import HeldOutGap, MemoryScore, PredictionScore, SpeedScore, TaskScore, TextScore


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One measured model.

    Attributes:
        name: The model as it was named; points are ``RUN:p03``.
        params: All parameters.
        block_params: Parameters inside decoder blocks, norms excluded.
        inheriting_ratio: ``block_params`` over those of the base model; without a base what an export says of itself.
        macs_per_token: Multiply-accumulates per token at ``macs_tokens`` tokens.
        macs_tokens: Sequence length of the MACs.
        texts: Perplexity on each text.
        gap: Seen against unseen text, for points of a run and its dense model.
        tasks: Scores of lm-eval.
        speed: Speed beside the dense model.
        memory: Memory beside the dense model.
        predicted: What was predicted of both.
    """

    name: str
    params: int
    block_params: int
    inheriting_ratio: float | None
    macs_per_token: int
    macs_tokens: int
    texts: tuple[TextScore, ...] = ()
    gap: HeldOutGap | None = None
    tasks: tuple[TaskScore, ...] = ()
    speed: SpeedScore | None = None
    memory: MemoryScore | None = None
    predicted: PredictionScore | None = None

    @property
    def perplexity(self) -> float | None:
        """Perplexity on the first text; None if there was none."""
        return self.texts[0].perplexity if self.texts else None
