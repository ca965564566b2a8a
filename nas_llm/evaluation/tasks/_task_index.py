"""Which folders of lm-eval declare a task, found without reading its fourteen thousand files as YAML."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nas_llm.errors import ConfigError
from nas_llm.hints import did_you_mean

INSTALL = "pip install 'nas-llm[eval]'"

_DECLARED = re.compile(
    r"""^["']?(?:task|group|tag)["']?[ \t]*:[ \t]*
    (?: ["']?([^\s"'\[\]#]+)["']?[ \t]*(?:\#.*)?$             # task: name
      | \[([^\]]*)\]                                          # tag: [name, name]
      | ((?:\n?[ \t]*-[ \t]*["']?[^\s"'#]+["']?[ \t]*)+)$ )   # tag: and a name a line
    """,
    re.MULTILINE | re.VERBOSE,
)
_NAME = re.compile(r"""[^\s"',#]+""")


def require_lm_eval(what: str) -> None:
    """Refuse to go on without lm-eval.

    Raises:
        ConfigError: If it is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(f"{what} needs lm-eval: {INSTALL}")


def task_folders(names: Sequence[str], include_path: Path | None) -> list[Path]:
    """Folders that have to be indexed for some tasks, groups and tags.

    Args:
        names: As lm-eval knows them.
        include_path: A folder of task files, which comes before lm-eval's own.

    Returns:
        Folders of lm-eval, and last ``include_path``.

    Raises:
        ConfigError: If a name is declared nowhere; names the nearest, or the folder is none.
    """
    if include_path is not None and not include_path.is_dir():
        raise ConfigError(f"--include-path {include_path} is no folder; name one with lm-eval task files (*.yaml)")
    own = _declared([include_path]) if include_path is not None else {}
    included = [include_path] if include_path is not None else []
    if all(name in own for name in names):
        return included
    root = builtin_folder()
    known = _declared(path for path in sorted(root.iterdir()) if path.is_dir())
    folders: dict[Path, None] = {}
    for name in names:
        if name in own:
            continue
        if name not in known:
            raise ConfigError(_unknown(name, [*own, *known]))
        folders |= dict.fromkeys(known[name])
    return [*folders, *included]


def builtin_folder() -> Path:
    """lm-eval's own tasks."""
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "tasks"


def _declared(folders: Iterable[Path]) -> Mapping[str, list[Path]]:
    """Name of a task, group or tag to the folders with a file that declares it."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        names: set[str] = set()
        for path in folder.glob("**/*yaml*"):
            if path.is_file():
                for single, row, column in _DECLARED.findall(path.read_text(encoding="utf-8", errors="replace")):
                    names |= {single} if single else {name for name in _NAME.findall(row or column) if name != "-"}
        for name in names:
            found.setdefault(name, []).append(folder)
    return found


def _unknown(name: str, known: Sequence[str]) -> str:
    near = did_you_mean(name, ["commonsense7", *known], 0.6, most=3, quote="")
    hint = near or "lm-eval's tasks are listed by lm-eval ls tasks"
    return f"no task, group or tag {name!r} in lm-eval or --include-path; {hint}"
