"""``"package.module:Name"`` and ``"file.py:Name"``: where code of one's own is found, and what it was."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from nas_llm.errors import ConfigError, first_line

_FILE_PREFIX = "nas_llm_plugin_"
_FORM = 'write "package.module:Name" or "file.py:Name"'


@dataclass(frozen=True, kw_only=True)
class PluginUse:
    """What was used under a reference, so that a resumption can tell whether it is still the same.

    Attributes:
        reference: As the definition names it.
        version: Of the distribution that it came with; empty for a loose file.
        sha256: The first 32 hex digits of its file's hash; empty where it has no file.
    """

    reference: str
    version: str
    sha256: str

    def to_dict(self) -> dict[str, str]:
        """Version and hash as plain data."""
        return {"version": self.version, "sha256": self.sha256}

    def __str__(self) -> str:
        parts = [f"version {self.version}" if self.version else "", f"file {self.sha256[:8]}" if self.sha256 else ""]
        return ", ".join(part for part in parts if part) or "no file"


def is_reference(name: str) -> bool:
    """Whether a name is written as ``module:Name``."""
    return ":" in name


def anchored(reference: str, folder: Path) -> str:
    """A reference to a file that lies in a folder, with its whole path; any other as it is.

    Args:
        reference: ``file.py:Name``, a bare ``file.py``, or anything else.
        folder: Where relative paths start.
    """
    file, rest = _parts(reference)
    path = folder / Path(file).expanduser()
    return f"{path.resolve()}{rest}" if file.endswith(".py") and path.is_file() else reference


def short_reference(reference: str) -> str:
    """A reference without the folder of its file: what is said to a person, and written into what is given away."""
    file, rest = _parts(reference)
    return f"{Path(file).name}{rest}" if file.endswith(".py") else reference


def _parts(reference: str) -> tuple[str, str]:
    head, _, name = reference.rpartition(":")
    return (head, f":{name}") if head.endswith(".py") else (reference, "")


def load_module(name: str, *, base_dir: Path | None = None) -> ModuleType:
    """A module by its dotted name, or a ``.py`` file.

    Args:
        name: ``package.module``, or the path of a ``.py`` file.
        base_dir: Where relative paths start, and where modules are looked for that are not installed; default: the
            working directory.

    Raises:
        ConfigError: If it is not there or does not load; names it and says why.
    """
    folder = (base_dir or Path.cwd()).resolve()
    if name.endswith(".py"):
        path = (folder / Path(name).expanduser()).resolve()
        if not path.is_file():
            raise ConfigError(f"plugin {name!r} cannot be used: there is no file {path}")
        return _load_file(name, path)
    try:
        with _also_from(folder):
            return importlib.import_module(name)
    except Exception as error:  # whatever a stranger's module raises while it loads
        if isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name):
            raise ConfigError(
                f"plugin {name!r} cannot be used: there is no module {error.name!r}; install it, or put it beside the "
                f"problem file in {folder}"
            ) from error
        raise ConfigError(f"plugin {name!r} cannot be used: {type(error).__name__}: {first_line(error)}") from error


_references: dict[str, Any] = {}
# Of the file that a module was imported from, by the module's name.
_digests: dict[str, str] = {}


def load_reference(reference: str, *, base_dir: Path | None = None) -> Any:
    """What a reference names.

    It is remembered: named again without a folder, it is the same.

    Args:
        reference: ``package.module:Name`` or ``file.py:Name``.
        base_dir: See :func:`load_module`.

    Raises:
        ConfigError: If the form is wrong, the module does not load, or it has no such name.
    """
    if base_dir is None and reference in _references:
        return _references[reference]
    where, _, name = reference.rpartition(":")
    if not where or not name.isidentifier():
        raise ConfigError(f"plugin {reference!r} is not of the right form; {_FORM}")
    module = load_module(where, base_dir=base_dir)
    try:
        found = getattr(module, name)
    except AttributeError:
        known = ", ".join(key for key in vars(module) if not key.startswith("_") and key[0].isupper())
        raise ConfigError(
            f"plugin {reference!r} cannot be used: {where} has no {name!r}{f'; it has {known}' if known else ''}"
        ) from None
    _references[reference] = found
    return found


def use_of(reference: str, found: Any) -> PluginUse:
    """Which code stands behind something that was loaded.

    Args:
        reference: What it is called.
        found: A class, function or module.
    """
    module = found if inspect.ismodule(found) else inspect.getmodule(found)
    name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
    if name not in _digests:
        # The file may change later, what was imported does not.
        _digests[name] = _digest(Path(file).read_bytes()) if file and Path(file).is_file() else ""
    return PluginUse(reference=reference, version=_version(name), sha256=_digests[name])


def source_of(found: Any) -> tuple[str, str] | None:
    """What :func:`load_module` takes in another process for the same code: name and ``base_dir``.

    Args:
        found: A class or function.

    Returns:
        None where it has no file that could be imported, e.g. in a notebook or in the script that is running.
    """
    module = inspect.getmodule(found)
    file = getattr(module, "__file__", None)
    if module is None or module.__name__ == "__main__" or not file or not Path(file).is_file():
        return None
    path = Path(file).resolve()
    if module.__name__.startswith(_FILE_PREFIX):
        return str(path), str(path.parent)
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    return module.__name__, str(path.parents[depth])


@contextmanager
def _also_from(folder: Path) -> Iterator[None]:
    """Look in a folder last; it stays on the path if something came from there, for what is imported later."""
    entry = str(folder)
    if entry in sys.path:
        yield
        return
    sys.path.append(entry)
    before = set(sys.modules)
    try:
        yield
    finally:
        fresh = (getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before)
        if not any(file and Path(file).is_relative_to(folder) for file in fresh):
            sys.path.remove(entry)


def _load_file(name: str, path: Path) -> ModuleType:
    # By its content, so that a checkpoint of the same code is read wherever the file lies now.
    digest = _digest(path.read_bytes())
    key = f"{_FILE_PREFIX}{path.stem}_{digest[:12]}"
    _digests[key] = digest
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before execution: dataclasses and pickle look classes up by their module's name.
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a stranger's file raises while it loads
        del sys.modules[key]
        raise ConfigError(f"plugin {name!r} cannot be used: {type(error).__name__}: {first_line(error)}") from error
    return module


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _version(module: str) -> str:
    for name in _distributions().get(module.partition(".")[0], ()):
        return metadata.version(name)
    return ""
