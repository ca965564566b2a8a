"""What a subnet's loss would be with a little more or less of each sublayer: plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

from nas_llm.space._scores import FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Marginals:
    """First-order changes of a subnet's mean token loss, one number a layer; nan where there is nothing to change.

    Attributes:
        mlp_less: ``L`` floats, with ``step`` FFN channels less.
        mlp_more: ``L`` floats, with ``step`` FFN channels more.
        step: FFN channels of one step.
        heads_more: For each kind of unit inside heads ``L`` floats, with ``head_step`` channels more in every head.
        head_step: Channels of a head of one step.
    """

    mlp_less: FloatArray
    mlp_more: FloatArray
    step: int
    heads_more: tuple[FloatArray, ...] = ()
    head_step: int = 0
