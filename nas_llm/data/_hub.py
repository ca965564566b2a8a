"""Documents out of hub datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas_llm.data._files import asked, checked_column, clean, filled, origin
from nas_llm.data._rows import Question, RowTemplate, missing_column
from nas_llm.errors import DataError, first_line
from nas_llm.settings import SourceDefaults

if TYPE_CHECKING:
    from datasets import Dataset


def read_hub(
    name: str,
    *,
    column: str = SourceDefaults.column,
    template: RowTemplate | None = None,
    split: str = SourceDefaults.split,
    subset: str | None = None,
    revision: str | None = None,
) -> list[str]:
    """Documents of a dataset that ``datasets.load_dataset`` knows; blank ones are left out.

    Args:
        name: Hub name, or a local folder of data files.
        column: Text column.
        template: Makes the text of several columns instead.
        split: Split, slices such as ``train[:1000]`` included.
        subset: Configuration name.
        revision: Hub revision.

    Raises:
        DataError: If it cannot be loaded (unknown, or not cached while offline), lacks a column, or holds no text.
    """
    rows = hub_rows(name, column=column, template=template, split=split, subset=subset, revision=revision)
    return [text for text in rows if text.strip()]


def hub_rows(
    name: str,
    *,
    column: str = SourceDefaults.column,
    template: RowTemplate | None = None,
    split: str = SourceDefaults.split,
    subset: str | None = None,
    revision: str | None = None,
    files: Mapping[str, str] | None = None,
) -> list[str]:
    """Rows of a dataset as they are, blank ones among them.

    Args:
        name: See :func:`read_hub`.
        column: Text column.
        template: See :func:`read_hub`.
        split: Split.
        subset: Configuration name.
        revision: Hub revision.
        files: Split to file, for datasets of which only some files are wanted.

    Raises:
        DataError: See :func:`read_hub`.
    """
    loaded, where = _loaded(name, split=split, subset=subset, revision=revision, files=files)
    return dataset_rows(loaded, column=column, template=template, where=where)


def hub_questions(
    name: str, template: RowTemplate, *, split: str, subset: str | None, revision: str | None
) -> list[Question]:
    """Questions of a dataset that ``datasets.load_dataset`` knows; see :func:`read_hub`.

    Raises:
        DataError: If it cannot be loaded or lacks a column.
    """
    loaded, where = _loaded(name, split=split, subset=subset, revision=revision)
    return dataset_questions(loaded, template, where=where)


def _loaded(
    name: str, *, split: str, subset: str | None, revision: str | None, files: Mapping[str, str] | None = None
) -> tuple[Dataset, str]:
    """A split, and what it is called in messages."""
    import datasets

    where = f"dataset {name!r}" + (f", subset {subset!r}" if subset else "") + f", split {split!r}"
    try:
        loaded = datasets.load_dataset(name, subset, split=split, revision=revision, data_files=files)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = first_line(error).rstrip(".")
        raise DataError(
            f"{where} cannot be loaded ({reason}); check name, subset and split and the connection, "
            "or give a local .txt, .jsonl or .parquet file"
        ) from error
    return loaded, where


def dataset_questions(loaded: Dataset, template: RowTemplate, *, where: str) -> list[Question]:
    """Questions of a loaded dataset.

    Raises:
        DataError: If it lacks a column, or a row is no question.
    """
    columns = template.columns(list(loaded.column_names), where=where)
    return asked(template, loaded.select_columns(columns), where=where)


def dataset_rows(loaded: Dataset, *, column: str, template: RowTemplate | None, where: str) -> list[str]:
    """Rows of a loaded dataset as they are, blank ones among them.

    Args:
        loaded: One split.
        column: See :func:`read_hub`.
        template: See :func:`read_hub`.
        where: What it is called in messages.

    Raises:
        DataError: If it lacks a column, holds no text, or something else than text.
    """
    columns = list(loaded.column_names)
    if template is not None:
        rows = loaded.select_columns(template.columns(columns, where=where))
        found = filled(template, rows, where=where)
    elif column not in columns:
        raise missing_column(column=column, columns=columns, where=where)
    else:
        found = checked_column(loaded[column], column=column, where=where)
    if not any(text.strip() for text in found):
        raise DataError(f"{where} is empty: no text{origin(column, template)}; name another split or column")
    return [clean(text) for text in found]
