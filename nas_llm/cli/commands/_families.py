"""``nas-llm families``."""

from __future__ import annotations

from nas_llm.cli.terminal import output


def families() -> None:
    """Show which models can be searched, and what their subnets can be exported to.

    \b
    Examples:
      nas-llm families
    """
    from nas_llm.cli.terminal import families_table
    from nas_llm.export import COLUMNS, family_abilities

    output().print(families_table(COLUMNS, family_abilities()))
