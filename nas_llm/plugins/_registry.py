"""Things of one kind, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from nas_llm.errors import ConfigError
from nas_llm.hints import did_you_mean
from nas_llm.plugins._entry_points import load_entry_points
from nas_llm.plugins._reference import PluginUse, is_reference, load_reference, use_of

Kind = TypeVar("Kind")
Thing = TypeVar("Thing")
_of_kind: dict[str, Registry[Any]] = {}


class Registry(Generic[Kind]):
    """Things of one kind: built in, registered by decorator, brought by an installed package, or named by reference.

    Args:
        kind: What they are called in messages, e.g. ``"mutation"``.
        accept: Makes what is kept of what was found; raises ``TypeError`` with the rest of a sentence (``is no ...``)
            if it is of another kind.
    """

    def __init__(self, kind: str, accept: Callable[[Any], Kind]) -> None:
        self.kind = kind
        self._accept = accept
        self._named: dict[str, Kind] = {}
        self._things: dict[str, Any] = {}
        self._builtin: set[str] = set()
        self._uses: dict[str, PluginUse] = {}
        _of_kind[kind] = self

    def add(self, name: str, thing: Any) -> None:
        """Add something of the package's own."""
        self._named[name] = self._accept(thing)
        self._builtin.add(name)

    def register(self, name: str, *, source: Any = None) -> Callable[[Thing], Thing]:
        """Decorator that gives a stranger's thing a name.

        Args:
            name: The name; none that the package has itself.
            source: Where the thing itself does not say what code it comes from: a function or class that does.

        Raises:
            ConfigError: If the name is taken by the package, or the thing is of another kind.
        """
        if name in self._builtin or is_reference(name) or not name:
            raise ConfigError(f"{self.kind} {name!r} cannot be registered: the name is taken or empty; choose another")

        def decorate(thing: Thing) -> Thing:
            self._keep(name, name, thing, source=source)
            return thing

        return decorate

    def get(self, name: str, *, where: str = "", base_dir: Path | None = None) -> Kind:
        """What a name or reference stands for.

        Args:
            name: A name, or ``module:Name``.
            where: The key that named it, for messages.
            base_dir: Where loose files lie, see :func:`nas_llm.plugins.load_module`.

        Raises:
            ConfigError: If it is unknown, does not load or is of another kind.
        """
        found = self.find(name, base_dir=base_dir)
        if found is not None:
            return found
        broken = load_entry_points()
        found = self.find(name, base_dir=base_dir)
        if found is not None:
            return found
        raise ConfigError(unknown_name(name, list(self._named), where=where or self.kind, broken=broken))

    def find(self, name: str, *, base_dir: Path | None = None) -> Kind | None:
        """As :meth:`get`, but None for a name that is unknown; entry points are not looked at.

        Raises:
            ConfigError: If a reference does not load or is of another kind.
        """
        if is_reference(name):
            self._keep(name, name, load_reference(name, base_dir=base_dir))
        return self._named.get(name)

    def known(self, name: str) -> Kind | None:
        """As :meth:`find`, but nothing is loaded: for names that a file of somebody else may hold."""
        return self._named.get(name)

    def use(self, name: str) -> PluginUse | None:
        """Which code stands behind a name; None for the package's own."""
        return self._uses.get(name)

    def names(self) -> tuple[str, ...]:
        """All names, those of installed packages included; references are left out."""
        load_entry_points()
        return tuple(name for name in self._named if not is_reference(name))

    def values(self) -> Iterator[Kind]:
        """Everything that is known so far, each once; what was loaded last comes last."""
        seen: set[int] = set()
        for thing in list(self._named.values()):
            if id(thing) not in seen:
                seen.add(id(thing))
                yield thing

    def _keep(self, name: str, reference: str, thing: Any, *, source: Any = None) -> None:
        try:
            # What is made of a thing is made once: every front, table and cost model asks for it.
            known = name in self._named and self._things.get(name) is thing
            accepted = self._named[name] if known else self._accept(thing)
        except TypeError as error:
            raise ConfigError(f"{self.kind} {reference!r} {error}") from error
        self._named.pop(name, None)
        self._named[name], self._things[name] = accepted, thing
        self._uses[name] = use_of(reference, thing if source is None else source)


def check_name(kind: str, name: str, known: Sequence[str], *, where: str) -> None:
    """Refuse a name that neither the package nor a plugin has given to anything; what it stands for is not loaded.

    Args:
        kind: Kind of the registry, e.g. ``"mutation"``.
        name: The name; a reference is let through.
        known: The package's own names.
        where: The key that named it.

    Raises:
        ConfigError: Names it and the nearest one.
    """
    if is_reference(name) or name in known:
        return
    # A plugin makes the registry of its kind when it is imported.
    broken = load_entry_points()
    names = [*known, *(own for own in registered(kind) if own not in known)]
    if name not in names:
        raise ConfigError(unknown_name(name, names, where=where, broken=broken))


def unknown_name(name: str, names: Sequence[str], *, where: str, broken: Mapping[str, str]) -> str:
    """What is said of a name that nobody knows.

    Args:
        name: The name.
        names: All that are known.
        where: The key that named it.
        broken: Plugins that do not load, and why.
    """
    hint = did_you_mean(name, names, 0.4)
    lost = "".join(f"; plugin {entry} does not load: {reason}" for entry, reason in broken.items())
    return (
        f'{where} = "{name}" is not known; {hint}{" " if hint else ""}known are {", ".join(names)}, and your own as '
        f'"module:Name"{lost}'
    )


def registered(kind: str) -> tuple[str, ...]:
    """Names of all things of one kind that are known so far; for whoever lies below their registry.

    Args:
        kind: What the registry calls them.
    """
    return _of_kind[kind].names() if kind in _of_kind else ()
