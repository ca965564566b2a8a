"""Versions of the packages that results depend on."""

from __future__ import annotations

from importlib.metadata import version

_PACKAGES = ("nas-llm", "torch", "transformers", "pymoo", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, by name."""
    return {name: version(name) for name in _PACKAGES}
