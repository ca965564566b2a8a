"""Templates that make text of a row of a data set."""

from __future__ import annotations

from string import Formatter


def template_fields(template: str) -> tuple[str, ...]:
    """The names in braces, in order; ``{{`` and ``}}`` stand for braces.

    Raises:
        ValueError: If braces do not match, a name is missing, or something other than a name stands in them.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template {template!r} is malformed: {error}") from error
    names = []
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if not name or form or conversion:
            raise ValueError(f"template {template!r} may hold plain names of columns in braces, e.g. {{text}}")
        names.append(name)
    if not names:
        raise ValueError(f"template {template!r} names no column; write it in braces, e.g. {{question}}")
    return tuple(names)


def ends_with_field(template: str, name: str) -> bool:
    """Whether a template ends with a name in braces that stands nowhere else in it."""
    parts = list(Formatter().parse(template))
    return bool(parts) and parts[-1][1] == name and [field for _, field, _, _ in parts].count(name) == 1
