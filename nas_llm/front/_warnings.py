"""What a person should know before believing a front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nas_llm.front._point import FrontPoint

# Shares of perplexity below which a difference is not spoken of: text of a few thousand tokens does not show it.
_GAIN, _LOSS = 0.01, 0.02
# Times dense on text of another kind over that on the held-out text, from which on the search's text was narrow.
_NARROW = 1.25


class Texts(Protocol):
    """A front, as far as it is judged here."""

    @property
    def dense(self) -> FrontPoint:
        """The dense model."""

    @property
    def points(self) -> Sequence[FrontPoint]:
        """The points."""

    def times_dense(self, point: FrontPoint) -> Mapping[str, float]:
        """Perplexity over the dense model's, of every kind of text."""


def front_warnings(front: Texts) -> tuple[str, ...]:
    """Sentences about points that are worth less than their held-out perplexity says.

    Args:
        front: The front.
    """
    beaten, elsewhere, narrow = [], [], []
    for point in front.points:
        held_out, dense = point.held_out_perplexity, front.dense.held_out_perplexity
        uniform = point.uniform
        if uniform is not None and held_out is not None and held_out > 0 and point.cost.inheriting_ratio < 1.0:
            gain = 1.0 - held_out / uniform.held_out_perplexity
            losses = {
                kind: value / uniform.texts[kind] - 1.0 for kind, value in point.texts.items() if kind in uniform.texts
            }
            worst = max(losses, key=losses.__getitem__, default="")
            if gain <= 0.0:
                beaten.append(point.id)
            elif gain > _GAIN and worst and losses[worst] > _LOSS:
                elsewhere.append(
                    f"{point.id} ({100 * gain:.0f} % better, {100 * losses[worst]:.0f} % worse on {worst})"
                )
        if held_out is not None and dense:
            times = front.times_dense(point)
            worst = max(times, key=times.__getitem__, default="")
            if worst and times[worst] > _NARROW * held_out / dense:
                narrow.append(f"{point.id} ({held_out / dense:.2f} on held-out text, {times[worst]:.2f} on {worst})")
    said = []
    if beaten:
        said.append(f"no better than the best uniform model of the same size on held-out text: {', '.join(beaten)}")
    if elsewhere:
        said.append(f"better than uniform on the held-out text and worse on another: {', '.join(elsewhere)}")
    if narrow:
        said.append(
            f"times dense, far more on text of another kind than on the text of the search: {', '.join(narrow)}; "
            'broader text helps, e.g. { source = "auto" } beside your own'
        )
    return tuple(said)
