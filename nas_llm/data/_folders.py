"""Documents out of local files, folders of them, and folders that ``datasets`` saved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from nas_llm.data._files import TEXT_SUFFIXES, clean, file_questions, read_file, read_utf8
from nas_llm.data._hub import dataset_questions, dataset_rows
from nas_llm.data._rows import Question, RowTemplate
from nas_llm.errors import DataError, first_line
from nas_llm.settings import SourceDefaults

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

# What else holds rows: where one of them lies, a folder is a dataset for load_dataset and not a folder of texts.
_ROW_SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".arrow", ".gz", ".zst", ".bz2", ".xz", ".zip")
# What subfolders or files of a folder may be called if they are splits, as datasets has it.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def read_texts(
    path: str | Path,
    *,
    column: str = SourceDefaults.column,
    template: RowTemplate | None = None,
    split: str = SourceDefaults.split,
) -> list[str]:
    """Documents of a local file or folder; blank ones are left out.

    A byte order mark at the beginning of a document is dropped; U+FFFD takes the place of a half of a surrogate pair.

    Args:
        path: ``.txt``, ``.raw``, ``.md``: the whole file is one document; ``.jsonl``: one JSON object a line;
            ``.parquet``: one document a row. A folder of text files, one document each, in the order of their names,
            or one that ``save_to_disk`` of ``datasets`` wrote.
        column: Key or column that holds the text of rows.
        template: Makes the text of several columns instead.
        split: Split of a folder, slices such as ``train[:1000]`` included. A folder of texts has others than ``train``
            if all in it are named so: ``train.txt`` and ``test.txt``, or subfolders.

    Raises:
        DataError: If it is missing, empty, of an unknown kind, malformed, or lacks a column or split.
    """
    path = Path(path)
    if not path.is_dir():
        return read_file(path, column=column, template=template)
    if _is_saved(path):
        where = f"{path}, split {split!r}"
        rows = dataset_rows(_load_saved(path, split), column=column, template=template, where=where)
        return [text for text in rows if text.strip()]
    if not holds_texts(path):
        raise DataError(
            f"{path} is a folder, not a text file; give a file in it, or a folder of {', '.join(TEXT_SUFFIXES)} files "
            f"alone or of datasets' save_to_disk"
        )
    if template is not None:
        raise DataError(f"{path}: a template needs columns, which text files have not; give files of rows")
    return _read_text_files(path, split)


def folder_questions(path: Path, template: RowTemplate, *, split: str) -> list[Question]:
    """Questions of a file of rows, or of a folder that ``save_to_disk`` of ``datasets`` wrote.

    Raises:
        DataError: If it holds no rows, or lacks a column or split.
    """
    if not path.is_dir():
        return file_questions(path, template)
    if not _is_saved(path):
        raise DataError(f"{path} has no rows with choices; give a file of rows or a folder of datasets' save_to_disk")
    return dataset_questions(_load_saved(path, split), template, where=f"{path}, split {split!r}")


def holds_texts(folder: Path) -> bool:
    """Whether :func:`read_texts` reads a folder: one of text files, without files of rows, or a saved dataset."""
    if _is_saved(folder):
        return True
    return bool(_text_files(folder)) and not any(file.suffix.lower() in _ROW_SUFFIXES for file in _files(folder))


def _is_saved(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def _files(folder: Path) -> list[Path]:
    """All files in it, hidden ones left out, in the order of their names from the folder on."""
    inside = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    shown = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
    return [folder / path for path in sorted(shown, key=lambda path: path.as_posix())]


def _text_files(folder: Path) -> list[Path]:
    files = [path for path in _files(folder) if path.suffix.lower() in TEXT_SUFFIXES]
    # It says what the others are.
    return [path for path in files if path.stem.lower() != "readme"]


def _read_text_files(folder: Path, split: str) -> list[str]:
    by_word: dict[str, list[Path]] = {}
    for path in _text_files(folder):
        top = path.relative_to(folder).parts[0]
        by_word.setdefault((path.stem if folder / top == path else top).lower(), []).append(path)
    known = {word: name for name, words in _SPLITS.items() for word in words}
    splits: dict[str, list[Path]] = {}
    for word, paths in by_word.items():
        name = known[word] if by_word.keys() <= known.keys() else SourceDefaults.split
        splits.setdefault(name, []).extend(paths)
    lengths = {name: len(paths) for name, paths in splits.items()}
    chosen = [splits[name][row] for name, rows in _rows(lengths, split, folder) for row in rows]
    texts = [text for text in (clean(read_utf8(path)) for path in chosen) if text.strip()]
    if not texts:
        raise DataError(f"{folder}, split {split!r} is empty: no text in {len(chosen)} files; give files with text")
    return texts


def _load_saved(folder: Path, split: str) -> Dataset:
    import datasets
    import pyarrow

    try:
        loaded: Dataset | DatasetDict = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{folder} cannot be read as a saved dataset ({first_line(error).rstrip('.')}); save it again"
        ) from error
    parts = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split): loaded}
    if len(parts) == 1 and re.match(rf"{SourceDefaults.split}\b", split):
        # The only one there is need not be named; it may have no name, or that of the slice that it once was.
        [only] = parts.values()
        parts = {SourceDefaults.split: only}
    chosen = _rows({name: len(part) for name, part in parts.items()}, split, folder)
    return datasets.concatenate_datasets([parts[name].select(rows) for name, rows in chosen])


def _rows(lengths: dict[str, int], split: str, where: Path) -> list[tuple[str, range]]:
    """The rows that ``split`` stands for, as ``datasets`` reads it: ``train[:100]+test``.

    Raises:
        DataError: If there is no such split, or it cannot be read.
    """
    import datasets

    try:
        found = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"{where} has no split {split!r} ({first_line(error).rstrip('.')}); there are "
            f"{', '.join(map(repr, lengths))}, each also by its own folder or file"
        ) from error
    return [(part.splitname, range(part.from_, part.to)) for part in found]
