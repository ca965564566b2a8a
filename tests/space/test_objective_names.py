"""Objectives are records: nothing but their own module asks for one by comparing its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nas_llm
from nas_llm.space.objectives import BUILT_IN

PACKAGE = Path(nas_llm.__file__).parent
# The records themselves, and how each measured one is computed from token losses.
ALLOWED = {"space/objectives.py", "subnet/losses/_metric.py"}
NAMES = {name for known in BUILT_IN for name in (known.name, *known.aliases)}


def strings(node: ast.AST) -> Iterator[str]:
    """The constants of one side of a comparison: itself, or those of a tuple, list or set."""
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    yield from (part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


def asked(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Compare):
            found = [name for side in (node.left, *node.comparators) for name in strings(side)]
        elif isinstance(node, ast.MatchValue):
            found = list(strings(node.value))
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in ("objectives", "dense"):
            found = list(strings(node.slice))
        yield from ((node.lineno, name) for name in found if name in NAMES)


def test_no_module_compares_the_names_of_objectives() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{line}": name
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).as_posix() not in ALLOWED
        for line, name in asked(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_the_test_finds_what_it_looks_for() -> None:
    source = """
if name == "latency" or "kl" in names or name not in ("params", "x"):
    match name:
        case "perplexity":
            row.objectives["kl"] != 0
"""
    assert sorted(name for _, name in asked(ast.parse(source))) == ["kl", "kl", "latency", "params", "perplexity"]
