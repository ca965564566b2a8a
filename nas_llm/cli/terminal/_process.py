"""What a command does to its process for good; the library itself leaves the process of its user alone."""

from __future__ import annotations

import os

_SETTINGS = {
    "TQDM_DISABLE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


def quiet_libraries() -> None:
    """Bars and notes of others off, before they are imported: they would tear our own display.

    Whoever sets these variables keeps them.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def quiet_optuna() -> None:
    """Optuna's log and its warnings about what is experimental off; it must be installed."""
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def keep_memory(device: str) -> None:
    """Let a process that evaluates candidates on a CPU keep the memory that they free.

    Args:
        device: ``model.device`` of the problem.

    Raises:
        ModelError: If there is no such device.
    """
    from nas_llm.models import resolve_device
    from nas_llm.subnet import keep_freed_memory

    if resolve_device(device).type == "cpu":
        keep_freed_memory()
