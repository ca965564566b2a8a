"""Text that packaged models sampled themselves, shipped with the package."""

from __future__ import annotations

from pathlib import Path

_SAMPLES = Path(__file__).parent / "samples"


def packaged_sample(name: str, kind: str = "") -> Path | None:
    """The shipped sample of a packaged model, one ``{"text": ...}`` a line; None if there is none.

    Args:
        name: Name of the packaged model, e.g. ``"smollm2-135m"``.
        kind: Of the source ``auto``; "" = what came to the model.
    """
    if not _SAMPLES.is_dir():
        return None
    wanted = f"{name}-{kind}" if kind else name
    return next((path for path in _SAMPLES.glob("*.jsonl") if path.stem == wanted), None)
