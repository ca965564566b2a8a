"""What a ``source`` key names: the model's own text, a local file or a hub dataset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nas_llm.config import SourceSection
from nas_llm.data._files import FILE_SUFFIXES
from nas_llm.data._folders import folder_questions, holds_texts, read_texts
from nas_llm.data._hub import hub_questions, read_hub
from nas_llm.data._rows import Question, RowTemplate
from nas_llm.settings import AUTO_KINDS

_AUTO = "auto"


def own_kind(section: SourceSection) -> str | None:
    """Which kind of the dense model's own text a source is, "" for what comes to it; None of any other source."""
    return (section.kind or "") if section.own else None


def identity(section: SourceSection) -> SourceSection:
    """What decides the text of a source: all but its weight; of the model's own text only its kind."""
    if section.own:
        return SourceSection(source=section.source, kind=section.kind)
    return section.model_copy(update={"weight": 1.0})


def source_name(section: SourceSection) -> str:
    """What a text is called in words: the source, of ``auto`` with the kind."""
    return f"{section.source} ({section.kind})" if section.kind else section.source


def by_kind(sections: Iterable[SourceSection]) -> list[SourceSection]:
    """The same sources, with one of each kind, by their shares, for an ``auto`` that names none."""
    found: list[SourceSection] = []
    whole = sum(AUTO_KINDS.values())
    for section in sections:
        if section.source != _AUTO or section.kind is not None:
            found.append(section)
            continue
        for kind, part in AUTO_KINDS.items():
            found.append(section.model_copy(update={"kind": kind, "weight": section.weight * part / whole}))
    return found


def read_source(section: SourceSection, *, base_dir: Path) -> list[str]:
    """Documents of a source other than the model's own text.

    Args:
        section: The source.
        base_dir: Where relative paths are looked up first (the problem file's folder), then the current directory.

    Raises:
        DataError: See :func:`read_texts` and :func:`read_hub`.
    """
    path, template = _local_path(section.source, base_dir), RowTemplate.of(section)
    if path is not None and (not path.is_dir() or holds_texts(path)):
        return read_texts(path, column=section.column, template=template, split=section.split)
    return read_hub(
        section.source if path is None else str(path),
        column=section.column,
        template=template,
        split=section.split,
        subset=section.subset,
        revision=section.revision,
    )


def read_questions(section: SourceSection, *, base_dir: Path) -> list[Question]:
    """Questions of a source of rows.

    Args:
        section: The source, with template, choices and answer.
        base_dir: Where relative paths are looked up first.

    Raises:
        DataError: If it cannot be read, or a row is no question.
    """
    path, template = _local_path(section.source, base_dir), RowTemplate.of(section)
    assert template is not None
    if path is not None and (not path.is_dir() or holds_texts(path)):
        return folder_questions(path, template, split=section.split)
    name = section.source if path is None else str(path)
    return hub_questions(name, template, split=section.split, subset=section.subset, revision=section.revision)


def _local_path(source: str, base_dir: Path) -> Path | None:
    """The file or folder that ``source`` names, or None where it can only be a hub name."""
    path = Path(source).expanduser()
    for candidate in (base_dir / path, path):
        if candidate.exists():
            return candidate.resolve()
    looks_local = path.is_absolute() or source.startswith((".", "~")) or path.suffix.lower() in FILE_SUFFIXES
    return base_dir / path if looks_local else None
