"""Text that packaged models sampled themselves, shipped with the package."""

from __future__ import annotations

from pathlib import Path

_SAMPLES = Path(__file__).parent / "samples"


def packaged_sample(name: str) -> Path | None:
    """The shipped sample of a packaged model, one ``{"text": ...}`` a line; None if there is none.

    Args:
        name: Name of the packaged model, e.g. ``"smollm2-135m"``.
    """
    if not _SAMPLES.is_dir():
        return None
    return next((path for path in _SAMPLES.glob("*.jsonl") if path.stem == name), None)
