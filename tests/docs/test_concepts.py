"""The page docs/concepts.md: its drawings come from their script, its code prints what it says."""

from __future__ import annotations

import re
import runpy
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "concepts.md"
IMAGES = ROOT / "docs" / "images"
SVG = "{http://www.w3.org/2000/svg}"
DRAWING_SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "concept_drawings.py"))
DRAWINGS: dict[str, str] = DRAWING_SCRIPT["draw"]()
EXAMPLES = re.findall(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def test_drawings_are_what_the_script_draws() -> None:
    assert {path.name for path in IMAGES.glob("concept-*.svg")} == set(DRAWINGS)
    for name, drawn in DRAWINGS.items():
        assert (IMAGES / name).read_bytes() == drawn.encode(), f"{name}: run python scripts/concept_drawings.py"


def test_the_page_shows_every_drawing_with_words_for_it() -> None:
    shown = re.findall(r"!\[([^\]]*)\]\(images/(concept-[a-z-]+\.svg)\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(name for _, name in shown) == sorted(DRAWINGS)
    assert all(len(words) > 30 for words, _ in shown)


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_can_be_read(name: str) -> None:
    root = ElementTree.fromstring(DRAWINGS[name])
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert root.get("role") == "img"
    for part in ("title", "desc"):
        assert root.findtext(f"{SVG}{part}")
    style = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme:dark" in style
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    assert width == 720
    for text in root.iter(f"{SVG}text"):
        # Of a wide font: what fits by it fits in the readers' fonts.
        length = 6.6 * len(text.text or "")
        start = float(str(text.get("x"))) - {None: 0.0, "middle": length / 2}[text.get("text-anchor")]
        assert 0 <= start < start + length <= width, text.text
        assert 10 <= float(str(text.get("y"))) <= height - 4, text.text
    # Every class that is used is styled.
    used = {kind for element in root.iter() for kind in (element.get("class") or "").split()}
    assert [kind for kind in used if f".{kind}{{" not in style and f".{kind}," not in style] == []


@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=[str(number) for number in range(len(EXAMPLES))])
def test_code_of_the_page_prints_what_it_says(code: str, printed: str) -> None:
    out = StringIO()
    with redirect_stdout(out):
        exec(compile(code, str(PAGE), "exec"), {})
    assert [line.rstrip() for line in out.getvalue().splitlines()] == printed.splitlines()


def test_all_code_of_the_page_is_run() -> None:
    assert len(EXAMPLES) == PAGE.read_text(encoding="utf-8").count("```python") == 3


def test_the_numbers_of_the_drawings_are_those_of_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ("concept-ratio.svg", "concept-kv-group.svg"):
        for number in re.findall(r"\d{1,3}(?:,\d{3})+", DRAWINGS[name]):
            assert number in page, f"{name}: {number}"
    shown: dict[str, Any] = {}
    exec("\n".join(re.findall(r"^(?:groups|channels)\S* = .*$", page, re.M)), shown)
    assert (shown["groups"], shown["channels"]) == (DRAWING_SCRIPT["GROUPS"], DRAWING_SCRIPT["WIDTHS"])


def test_links_of_the_page_lead_somewhere() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page):
        target = PAGE.parent / link if link else PAGE
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                anchor
            )
