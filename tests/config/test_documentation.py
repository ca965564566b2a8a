from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from nas_llm.config import OperatorEntry, Problem

DOCUMENT = Path(__file__).parents[2] / "docs" / "problems.md"
HEADINGS = {
    "": "## Top level",
    "workload": "`[[workload]]`",
    "data.fitness": "`[data.calibration]`, `[data.fitness]`",
    "data.off_text": "`[data.off_text]` is text",
    "data.fitness.sources": "Each entry of `sources`",
}


def sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        # What stands in an operator's table is the operator's own business.
        if inner is not None and inner is not OperatorEntry:
            yield from sections(inner, f"{path}.{name}".lstrip("."))


def section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := section_of(a)) is not None), None)


def table_below(heading: str) -> dict[str, str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.count(heading) == 1
    table = re.search(r"^\|.*?(?=\n\n|\Z)", text[text.index(heading) :], flags=re.MULTILINE | re.DOTALL)
    assert table is not None
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table.group(), flags=re.MULTILINE))


# The splits share one table, and all sources another.
SHARED = (
    "data.calibration",
    "data.held_out",
    "data.off_text.sources",
    "data.questions.sources",
    "reconstruction.sources",
)
SECTIONS = {path: model for path, model in sections(Problem) if not path.startswith(SHARED)}


@pytest.mark.parametrize("path", SECTIONS)
def test_every_key_is_described_and_nothing_else(path: str) -> None:
    model = SECTIONS[path]
    described = table_below(HEADINGS.get(path, f"`[{path}]`"))
    # A section within a section has a table of its own, unless it is a list of tables.
    keys = [name for name in model.model_fields if f"{path}.{name}".lstrip(".") not in SECTIONS or name == "sources"]
    splits = {"calibration", "held_out"} if path == "data" else set()
    assert list(described) == [key for key in keys if key not in splits]


@pytest.mark.parametrize("path", SECTIONS)
def test_described_defaults_are_true(path: str) -> None:
    for key, text in table_below(HEADINGS.get(path, f"`[{path}]`")).items():
        field = SECTIONS[path].model_fields[key]
        found = re.match(r"`([^`]*)` \|", text)
        if field.is_required():
            assert "required" in text or key == "tokens"
        elif isinstance(field.default, str | int | float) and not isinstance(field.default, bool):
            assert found is not None
            assert found.group(1).strip('"') == str(field.default)
