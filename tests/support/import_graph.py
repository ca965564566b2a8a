"""Which module of a package imports which, read from the sources: late and TYPE_CHECKING imports count like others."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import statement's hold on one module.

    Attributes:
        importer: The module that imports.
        imported: The module that it needs: ``a.b`` of ``from a.b import name``, ``a.b.c`` where ``c`` is a module.
        name: What it takes out of that module; empty for the module itself.
        line: Where.
    """

    importer: str
    imported: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} -> {self.imported}{f' ({self.name})' if self.name else ''}"


class ImportGraph:
    """The imports between the modules of one package; those of other packages are left out.

    Args:
        root: The package's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {_module_name(root, path): path for path in sorted(root.rglob("*.py"))}
        self.imports = [found for module in self.files for found in self._imports_of(module)]

    @property
    def packages(self) -> list[str]:
        """Dotted names of the package and all packages in it."""
        return [name for name, path in self.files.items() if path.name == "__init__.py"]

    def module_circle(self) -> list[Import]:
        """Imports that lead from a module back to itself; empty where there is no such way."""
        return _circle({found: (found.importer, found.imported) for found in self.imports})

    def package_circle(self) -> list[Import]:
        """Imports that lead from one part of a folder back to it; empty where there is no such way.

        A part of a folder is a module in it or a folder in it with all that lies there, at every level.
        """
        for folder in self.packages:
            parts = {
                found: (_part(found.importer, folder), _part(found.imported, folder))
                for found in self.imports
                if _within(found.importer, folder) and _within(found.imported, folder)
            }
            crossing = {found: ends for found, ends in parts.items() if ends[0] != ends[1]}
            if circle := _circle(crossing):
                return circle
        return []

    def private_imports(self) -> list[Import]:
        """Imports of an underscore module, or an underscore name, by whom it does not belong to.

        It belongs to the package that it lies in, and to all that lies in that package.
        """
        return [found for found in self.imports if not self._may_see(found)]

    def crowded_folders(self, most: int) -> dict[str, int]:
        """Packages with more than so many modules in their own folder, ``__init__`` counted."""
        counts = {name: len(list(self.files[name].parent.glob("*.py"))) for name in self.packages}
        return {name: count for name, count in counts.items() if count > most}

    def _may_see(self, found: Import) -> bool:
        parts = found.imported.split(".")
        owners = [".".join(parts[:place]) for place, part in enumerate(parts) if _is_private(part)]
        if _is_private(found.name):
            owners.append(self._package_of(found.imported))
        return all(_within(found.importer, owner) for owner in owners)

    def _package_of(self, module: str) -> str:
        return module if self.files[module].name == "__init__.py" else module.rpartition(".")[0]

    def _imports_of(self, module: str) -> Iterator[Import]:
        for node in ast.walk(ast.parse(self.files[module].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in self.files:
                        yield Import(module, alias.name, "", node.lineno)
            elif isinstance(node, ast.ImportFrom):
                source = self._source(module, node)
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    if inner in self.files:
                        yield Import(module, inner, "", node.lineno)
                    elif source in self.files:
                        yield Import(module, source, alias.name, node.lineno)

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        base = self._package_of(module).split(".")
        base = base[: len(base) - (node.level - 1)]
        return ".".join([*base, *([node.module] if node.module else [])])


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _within(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


def _part(module: str, folder: str) -> str:
    """``a.b.c`` in the folder ``a`` is part ``a.b``; the folder's own ``__init__`` is a part of its own."""
    return module if module == folder else ".".join(module.split(".")[: folder.count(".") + 2])


def _circle(ends: Mapping[Import, tuple[str, str]]) -> list[Import]:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for pair in ends.values():
        sorter.add(*pair)
    try:
        sorter.prepare()
    except CycleError as error:
        # Every node is imported by the next one.
        nodes = error.args[1][::-1]
        between = {pair: found for found, pair in ends.items()}
        return [between[pair] for pair in pairwise(nodes)]
    return []
