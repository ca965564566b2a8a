"""Documents that say little new: those of a model often run in circles."""

from __future__ import annotations

from collections.abc import Iterable

# Words of a shingle, and the share of a document's shingles that may have been there before.
_WORDS = 5
_MOST_KNOWN = 0.4


def new_texts(texts: Iterable[str]) -> list[str]:
    """Texts without near-duplicates of those before them and without those that repeat themselves.

    A text goes if more than 40 % of its runs of five words stood before, in an earlier text or in itself (Broder's
    shingles, 1997). Whether it stays depends on the texts before it alone.

    Args:
        texts: In their order.
    """
    known: set[tuple[str, ...]] = set()
    kept = []
    for text in texts:
        words = text.lower().split()
        runs = [tuple(words[at : at + _WORDS]) for at in range(max(1, len(words) - _WORDS + 1))]
        fresh = {run for run in runs if run not in known}
        if len(fresh) >= (1.0 - _MOST_KNOWN) * len(runs):
            kept.append(text)
            known |= fresh
    return kept
