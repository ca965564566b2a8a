"""What a definition was resolved to: the facts that a resumption has to find unchanged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nas_llm.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The table ``[resolved]`` of ``problem.toml``.

    Attributes:
        base_dir: Folder that relative paths of the definition start from.
        model_revision: Identity of the dense model's weights.
        data: Split to the digest of its windows.
        device: ``cpu`` or ``cuda``.
        dtype: Arithmetic of candidates.
        versions: Package to version.
        plugins: Code that is not the package's own: reference to ``version`` and ``sha256``.
    """

    base_dir: str
    model_revision: str
    data: Mapping[str, str]
    device: str
    dtype: str
    versions: Mapping[str, str]
    plugins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for TOML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Resolved:
        """Read what :meth:`to_dict` gave.

        Raises:
            TypeError: If it is no such table.
        """
        kinds = {"base_dir": str, "model_revision": str, "data": dict, "device": str, "dtype": str, "versions": dict}
        for name, kind in kinds.items():
            if not isinstance(data.get(name), kind):
                raise TypeError(f"resolved.{name} is missing or of a wrong type")
        return cls(**{name: data[name] for name in kinds}, plugins=dict(data.get("plugins", {})))

    def check(self, now: Resolved, directory: Path, *, free: Collection[str] = ()) -> None:
        """Refuse to go on with a run whose model, text, arithmetic or plugins changed.

        Args:
            now: What the definition is resolved to now.
            directory: The run directory, for messages.
            free: See :meth:`check_plugins`.

        Raises:
            RunError: If something changed; names it.
        """
        for key in ("model_revision", "device", "dtype"):
            before, after = getattr(self, key), getattr(now, key)
            if before != after:
                raise RunError(
                    f"{directory} was started with {key.replace('_', ' ')} {before}, it is now {after}; restore it or "
                    f"start a new run"
                )
        for name, digest in now.data.items():
            if self.data.get(name) != digest:
                text = f"{name.replace('_', '-')} text"
                raise RunError(f"{directory} was started with other {text}; restore it or start a new run")
        self.check_plugins(now.plugins, directory, free=free)

    def check_plugins(
        self, now: Mapping[str, Mapping[str, str]], directory: Path, *, free: Collection[str] = ()
    ) -> None:
        """Refuse code of one's own that is not what the run was started with.

        Args:
            now: Reference to ``version`` and ``sha256``.
            directory: The run directory, for messages.
            free: References that may be other code now, see :func:`nas_llm.runs.free_plugins`.

        Raises:
            RunError: If one is another now; names it.
        """
        for reference, found in now.items():
            before = self.plugins.get(reference)
            if before is not None and reference not in free and dict(before) != dict(found):
                raise RunError(
                    f"{directory} was started with another {reference}: {_shown(before)}, it is now {_shown(found)}; "
                    f"restore it or start a new run"
                )


def _shown(use: Mapping[str, str]) -> str:
    parts = {"version": use.get("version", ""), "file": use.get("sha256", "")[:8]}
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value)
