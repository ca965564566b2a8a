"""The table of docs/families.md is what the package says of its families."""

from __future__ import annotations

from pathlib import Path

from nas_llm.export import ALIKE_TYPES, abilities_table, family_abilities
from nas_llm.models import supported_model_types

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
OWN = {"gemma3_text", "granite", "llama", "ministral3", "mistral", "opt", "qwen2", "qwen3", "smollm3"}


def test_the_page_has_the_table_that_the_package_makes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = text.partition("<!-- families -->\n")[2].partition("\n<!-- end -->")[0]
    assert found == abilities_table([entry for entry in family_abilities() if entry.model_type in OWN])


def test_every_model_type_has_a_row() -> None:
    rows = {entry.model_type: entry for entry in family_abilities()}
    assert sorted(rows) == supported_model_types()
    assert set(rows) >= OWN
    assert rows["qwen3"].attention == ("kv_group",)
    assert "head_dim" in rows["qwen2"].attention
    assert {name for name, entry in rows.items() if "padded" in entry.formats["gguf"]} == set(ALIKE_TYPES)
