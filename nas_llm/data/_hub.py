"""Documents out of hub datasets."""

from __future__ import annotations

from nas_llm.data._files import checked_column, filled, origin
from nas_llm.data._rows import RowTemplate, missing_column
from nas_llm.errors import DataError, first_line


def read_hub(
    name: str,
    *,
    column: str = "text",
    template: RowTemplate | None = None,
    split: str = "train",
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
    import datasets

    where = f"dataset {name!r}" + (f", subset {subset!r}" if subset else "") + f", split {split!r}"
    try:
        loaded = datasets.load_dataset(name, subset, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = first_line(error).rstrip(".")
        raise DataError(
            f"{where} cannot be loaded ({reason}); check name, subset and split and the connection, "
            "or give a local .txt, .jsonl or .parquet file"
        ) from error
    columns = list(loaded.column_names)
    if template is not None:
        rows = loaded.select_columns(template.columns(columns, where=where))
        found = filled(template, rows, where=where)
    elif column not in columns:
        raise missing_column(column=column, columns=columns, where=where)
    else:
        found = checked_column(loaded[column], column=column, where=where)
    texts = [text for text in found if text.strip()]
    if not texts:
        raise DataError(f"{where} is empty: no text{origin(column, template)}; name another split or column")
    return texts
