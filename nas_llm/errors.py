"""Exceptions of the package: one root, one class for each kind of input that can be at fault."""

from __future__ import annotations


class NasLlmError(Exception):
    """Root of all errors raised on purpose; the message names what was wrong and the mend."""


class ConfigError(NasLlmError):
    """A problem definition or a command-line value is not usable."""


class ModelError(NasLlmError):
    """A model cannot be found, loaded, or is of an unsupported family."""


class DataError(NasLlmError):
    """A text source is missing, empty, too short or of an unknown form."""


class SpaceError(NasLlmError):
    """A search space is empty or contradicts itself, or a genome lies outside of it."""


class RunError(NasLlmError):
    """A run directory is in use, was changed, is incomplete or cannot be written."""


class SelectionError(NasLlmError):
    """No point of a front answers the question that was asked."""


class ExportError(NasLlmError):
    """A subnet cannot be written in the wanted form or place."""


class StudyError(NasLlmError):
    """A study, its storage or what it needs cannot be used."""


class Interrupted(Exception):
    """Somebody asked to stop, and it was done: no error, and the command line ends with exit code 130."""


def first_line(error: BaseException) -> str:
    """The first line of another library's message, for one of ours; its class name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
