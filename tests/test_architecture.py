"""How the package is built: no circles, no private imports across rooms, light rooms that stay light."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import ImportGraph

import nas_llm

GRAPH = ImportGraph(Path(nas_llm.__file__).parent)
MOST_MODULES = 15


def package(folder: Path, **files: str) -> ImportGraph:
    """A package ``pkg`` of these files; ``a__b`` stands for ``a/b.py``."""
    for name, text in files.items():
        path = folder.joinpath("pkg", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for inner in [folder / "pkg", *(path for path in (folder / "pkg").rglob("*") if path.is_dir())]:
        (inner / "__init__.py").touch()
    return ImportGraph(folder / "pkg")


def test_no_module_leads_back_to_itself() -> None:
    assert GRAPH.module_circle() == []


def test_no_folder_leads_back_to_itself() -> None:
    assert GRAPH.package_circle() == []


def test_underscore_modules_are_imported_by_their_own_package_alone() -> None:
    assert [str(found) for found in GRAPH.private_imports()] == []


def test_no_folder_is_crowded() -> None:
    assert GRAPH.crowded_folders(MOST_MODULES) == {}


@pytest.mark.parametrize("name", GRAPH.packages)
def test_what_a_package_offers_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert isinstance(module.__all__, list)
    assert [offered for offered in module.__all__ if not hasattr(module, offered)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize(
    ("name", "heavy"),
    [
        ("nas_llm", {"torch", "transformers", "numpy", "pydantic", "pymoo"}),
        ("nas_llm.front", {"torch", "transformers", "pydantic", "pymoo", "moocore", "scipy"}),
        ("nas_llm.space", {"torch", "transformers", "pydantic", "pymoo", "moocore"}),
        ("nas_llm.statistics", {"torch", "transformers", "scipy", "pydantic"}),
        ("nas_llm.runs", {"torch", "transformers", "pymoo", "moocore"}),
        ("nas_llm.search", {"torch", "transformers"}),
    ],
)
def test_light_packages_bring_nothing_heavy(name: str, heavy: set[str]) -> None:
    program = f"import sys, {name}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(("what", "where"), [("difflib", "nas_llm.hints"), ("NamedTemporaryFile", "nas_llm.files")])
def test_one_thing_is_done_in_one_place(what: str, where: str) -> None:
    assert [name for name, path in GRAPH.files.items() if what in path.read_text(encoding="utf-8")] == [where]


@pytest.mark.parametrize(
    "back",
    [
        "from pkg.a import x",
        "def late():\n    from pkg.a import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pkg.a",
        "from .a import x",
        "from pkg import a",
    ],
)
def test_a_circle_is_found_however_it_is_written(tmp_path: Path, back: str) -> None:
    graph = package(tmp_path, a="from pkg.b import y\nx = 1", b="from pkg.c import z", c=back)
    circle = graph.module_circle()
    assert {(found.importer, found.imported) for found in circle} == {
        ("pkg.a", "pkg.b"),
        ("pkg.b", "pkg.c"),
        ("pkg.c", "pkg.a"),
    }
    assert graph.package_circle()


def test_a_circle_of_folders_is_found_where_no_module_has_one(tmp_path: Path) -> None:
    graph = package(
        tmp_path, one__low="", one__high="from pkg.two.low import x", two__low="", two__high="from pkg.one.low import x"
    )
    assert graph.module_circle() == []
    assert {(found.importer, found.imported) for found in graph.package_circle()} == {
        ("pkg.one.high", "pkg.two.low"),
        ("pkg.two.high", "pkg.one.low"),
    }


def test_a_circle_of_inner_folders_is_found(tmp_path: Path) -> None:
    graph = package(
        tmp_path,
        top__one__low="",
        top__one__high="from pkg.top.two.low import x",
        top__two__low="",
        top__two__high="from ..one.low import x",
    )
    assert graph.module_circle() == []
    assert len(graph.package_circle()) == 2


def test_a_folder_and_the_one_within_it_may_need_each_other(tmp_path: Path) -> None:
    graph = package(
        tmp_path, out__base="", out__inner___a="from pkg.out.base import x", out__all="import pkg.out.inner"
    )
    assert graph.module_circle() == []
    assert graph.package_circle() == []
    assert graph.private_imports() == []


def test_private_imports_are_found(tmp_path: Path) -> None:
    graph = package(
        tmp_path,
        one___hidden="x = 1",
        one__open="from pkg.one._hidden import x\n_y = 2",
        one__inner__deep="from pkg.one import _hidden\nfrom pkg.one.open import _y",
        one__inner___deeper="",
        one__up="from pkg.one.inner._deeper import x",
        two__a="from pkg.one._hidden import x",
        two__b="def late():\n    from pkg.one.open import _y",
        two__c="from pkg.one.open import __doc__",
    )
    assert [str(found) for found in graph.private_imports()] == [
        "pkg.one.up:1 -> pkg.one.inner._deeper (x)",
        "pkg.two.a:1 -> pkg.one._hidden (x)",
        "pkg.two.b:2 -> pkg.one.open (_y)",
    ]


def test_crowded_folders_are_found(tmp_path: Path) -> None:
    graph = package(tmp_path, **{f"full__m{number}": "" for number in range(3)}, few__m="")
    assert graph.crowded_folders(3) == {"pkg.full": 4}
