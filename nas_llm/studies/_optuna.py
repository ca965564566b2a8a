"""Optuna is an optional extra: what needs it asks here."""

from __future__ import annotations

import importlib.util

from nas_llm.errors import StudyError

INSTALL = "pip install 'nas-llm[studies]'"


def has_optuna() -> bool:
    """Whether Optuna can be imported."""
    return importlib.util.find_spec("optuna") is not None


def require_optuna(what: str) -> None:
    """Refuse to go on without Optuna.

    Raises:
        StudyError: If it is not installed.
    """
    if not has_optuna():
        raise StudyError(f"{what} needs Optuna: {INSTALL}")


def require_dashboard(what: str) -> None:
    """Refuse to go on without optuna-dashboard.

    Raises:
        StudyError: If it is not installed.
    """
    require_optuna(what)
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise StudyError(f"{what} needs optuna-dashboard: {INSTALL}")
