"""What the points of a front are worth on each kind of text, as cells of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas_llm.front._front import Front
    from nas_llm.front._point import FrontPoint


def texts_table(front: Front, points: Sequence[FrontPoint]) -> tuple[list[str], list[list[str]]]:
    """Times dense on every kind of text, the best uniform model's, and what the search is worth.

    Args:
        front: The front.
        points: Points of it.

    Returns:
        The heads of the columns behind the point's name, and one row a point, which begins with its name; no rows if
        the front was not scored by kind.
    """
    kinds = list(front.dense.texts)
    heads = ["held-out", *(kinds if len(kinds) > 1 else []), "uniform", "worth", "worth, least"]
    rows = [_row(front, point, kinds if len(kinds) > 1 else []) for point in points] if kinds else []
    return heads, rows


def _row(front: Front, point: FrontPoint, kinds: Sequence[str]) -> list[str]:
    dense, times = front.dense.held_out_perplexity, front.times_dense(point)
    held_out, uniform = point.held_out_perplexity, point.uniform
    cells = [point.id, "-" if held_out is None or not dense else f"{held_out / dense:.3f}"]
    cells += [f"{times[kind]:.3f}" if kind in times else "-" for kind in kinds]
    if uniform is None or held_out is None or not dense:
        return [*cells, "-", "-", "-"]
    worth = [1.0 - point.texts[kind] / value for kind, value in uniform.texts.items() if kind in point.texts]
    least = f"{100 * min(worth):+.1f} %" if worth else "-"
    gain = f"{100 * (1.0 - held_out / uniform.held_out_perplexity):+.1f} %"
    return [*cells, f"{uniform.held_out_perplexity / dense:.3f}", gain, least]
