"""What can be done with each family of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_llm.export._expressible import IRREGULAR_TYPES
from nas_llm.export._hosts import ALIKE
from nas_llm.models import adapter_for, supported_model_types
from nas_llm.settings import ATTENTION_MODES


@dataclass(frozen=True, kw_only=True)
class FamilyAbilities:
    """What can be done with models of one type.

    Attributes:
        model_type: transformers' ``model_type``.
        family: Name of the family.
        attention: Modes of ``space.attention``.
        formats: Name of a format to how much of a subnet it can hold, in words.
    """

    model_type: str
    family: str
    attention: tuple[str, ...]
    formats: dict[str, str]

    @property
    def row(self) -> tuple[str, ...]:
        """As a row of a table, see :data:`COLUMNS`."""
        return (self.model_type, self.family, ", ".join(self.attention), *self.formats.values())


COLUMNS = ("model type", "family", "attention", "hf", "gguf", "decilm")
"""Heads of a table of abilities."""


def family_abilities() -> list[FamilyAbilities]:
    """What can be done with each model type that is known here, a stranger's included."""
    found = []
    for model_type in supported_model_types():
        adapter = adapter_for(model_type)
        modes = ATTENTION_MODES[:1] if adapter.whole_heads else ATTENTION_MODES
        formats = {"hf": "any sizes", **{name: _held(name, model_type) for name in ("gguf", "decilm")}}
        found.append(
            FamilyAbilities(model_type=model_type, family=adapter.name, attention=tuple(modes), formats=formats)
        )
    return found


def _held(format: str, model_type: str) -> str:
    if model_type in IRREGULAR_TYPES[format]:
        return "any sizes" if format == "gguf" else "any FFN widths, attention whole or gone"
    if format == "gguf" and model_type in ALIKE:
        return f"one size for all layers ({ALIKE[model_type].name}), others padded"
    return "-"


def abilities_table(found: Sequence[FamilyAbilities]) -> str:
    """The same as a table of Markdown.

    Args:
        found: From :func:`family_abilities`.
    """
    rows = [COLUMNS, *(abilities.row for abilities in found)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(COLUMNS)}", *lines[1:]])
