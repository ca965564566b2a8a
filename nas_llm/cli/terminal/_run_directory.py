"""Preparing run directories."""

from __future__ import annotations

from pathlib import Path

from nas_llm.errors import RunError


def prepare_run_directory(directory: Path, *, resume: bool, force: bool) -> Path | None:
    """Refuse a directory that does not fit what is wanted; with ``force``, set an earlier run aside.

    Returns:
        Where an earlier run was moved to, or None.

    Raises:
        RunError: If there is a run and neither ``resume`` nor ``force`` is given, if there is none to resume, or if
            the directory holds something else.
    """
    from nas_llm.runs import is_run

    if directory.exists() and not directory.is_dir():
        raise RunError(f"{directory} is a file; name a directory with --run")
    if resume:
        if not is_run(directory):
            raise RunError(f"{directory} holds no run to resume; leave --resume away to start one")
        return None
    if not is_run(directory):
        if directory.is_dir() and any(directory.iterdir()):
            raise RunError(f"{directory} is not empty and holds no run; name another directory with --run")
        return None
    if not force:
        raise RunError(
            f"{directory} holds a run; continue it with --resume, set it aside with --force, or name another with --run"
        )
    return _set_aside(directory)


def _set_aside(directory: Path) -> Path:
    """Move a run away under the first free name; a run may have cost hours, so it is never deleted."""
    from nas_llm.runs import RunLock

    number = 1
    while (target := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    # Whoever searches here holds the lock, so a live run is never torn away.
    with RunLock(directory):
        try:
            return directory.rename(target)
        except OSError as error:
            raise RunError(f"{directory} cannot be moved to {target}: {error.strerror}") from error
