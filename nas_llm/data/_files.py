"""Documents out of local files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.data._rows import Question, Row, RowTemplate, missing_column
from nas_llm.errors import DataError
from nas_llm.hints import did_you_mean
from nas_llm.settings import SourceDefaults

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

TEXT_SUFFIXES = (".txt", ".raw", ".md")
FILE_SUFFIXES = (*TEXT_SUFFIXES, ".jsonl", ".parquet")

# Halves of pairs of UTF-16, which JSON lets stand alone and no encoding has.
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK = "\ufeff"


def clean(text: str) -> str:
    """A document as tokenizers take it: without a byte order mark, and U+FFFD for halves of surrogate pairs."""
    return _LONE_SURROGATES.sub("\ufffd", text).removeprefix(_BYTE_ORDER_MARK)


def read_file(path: Path, *, column: str = SourceDefaults.column, template: RowTemplate | None = None) -> list[str]:
    """Documents of a local file; see :func:`nas_llm.data.read_texts`.

    Raises:
        DataError: If the file is missing, empty, of an unknown kind, malformed, or lacks a column.
    """
    if not path.is_file():
        raise DataError(_missing(path))
    suffix = path.suffix.lower()
    if suffix not in FILE_SUFFIXES:
        raise DataError(f"{path}: unknown kind of text file {suffix!r}; give one of {', '.join(FILE_SUFFIXES)}")
    if suffix in TEXT_SUFFIXES:
        if template is not None:
            raise DataError(f"{path}: a template needs columns, which {suffix} has not; give a .jsonl or .parquet file")
        texts = [read_utf8(path)]
    elif suffix == ".parquet":
        texts = _read_parquet(path, column, template)
    else:
        texts = _read_jsonl(path, column, template)
    kept = [text for text in map(clean, texts) if text.strip()]
    if not kept:
        where = "" if suffix in TEXT_SUFFIXES else origin(column, template)
        raise DataError(f"{path} is empty: no text{where}; give a file with text")
    return kept


def origin(column: str, template: RowTemplate | None) -> str:
    """Where a row's text is looked for, for messages."""
    return f" in column {column!r}" if template is None else f" by the template {template.template!r}"


def checked_column(values: Iterable[Any], *, column: str, where: str) -> list[str]:
    """The strings of a column; nulls are left out.

    Raises:
        DataError: If a value is not a string.
    """
    texts: list[str] = []
    with utf8(where):
        for row, value in enumerate(values, start=1):
            if value is None:
                continue
            if not isinstance(value, str):
                raise DataError(
                    f"{where}: row {row} of column {column!r} is {type(value).__name__}, not text; name a text column"
                )
            texts.append(value)
    return texts


@contextmanager
def utf8(where: str) -> Iterator[None]:
    """Make one clear line of columns whose texts are none: Arrow looks at their bytes only when they are asked for.

    Raises:
        DataError: If they are not UTF-8.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        place = f"{error.reason}, byte {error.start} of it"
        raise DataError(f"{where}: a text is not UTF-8 ({place}); convert it") from error


def _missing(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder, not a text file; give a file in it"
    if not path.parent.is_dir():
        return f"{path} does not exist, nor does its folder {path.parent}; check the path"
    siblings = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    hint = did_you_mean(path.name, siblings, 0.6, quote="'") or "check the path"
    return f"{path} does not exist; {hint}"


def read_utf8(path: Path) -> str:
    """A text file, without its byte order mark.

    Raises:
        DataError: If it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); convert it") from error


def file_questions(path: Path, template: RowTemplate) -> list[Question]:
    """Questions of a local file of rows; those with a null in them are left out.

    Raises:
        DataError: If the file is missing, of another kind, malformed, or lacks a column.
    """
    if not path.is_file():
        raise DataError(_missing(path))
    if path.suffix.lower() == ".jsonl":
        found = (template.question(row, where=where) for where, row in _jsonl_rows(path, template.names[0]))
        return [question for question in found if question is not None]
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            columns = template.columns(list(file.schema_arrow.names), where=str(path))
            return asked(template, file.read(columns=columns).to_pylist(), where=str(path))
    raise DataError(f"{path} has no rows with choices; give a .jsonl or .parquet file")


def _read_jsonl(path: Path, column: str, template: RowTemplate | None) -> list[str]:
    texts: list[str] = []
    for where, record in _jsonl_rows(path, column):
        if template is not None:
            texts += [text for text in [template.text(record, where=where)] if text is not None]
            continue
        if column not in record:
            raise missing_column(column=column, columns=record, where=where)
        texts += checked_column([record[column]], column=column, where=where)
    return texts


def _jsonl_rows(path: Path, column: str) -> Iterator[tuple[str, Row]]:
    """Each object, behind the place it stands at."""
    # Not splitlines(): a JSON string may hold U+2028 and its like unescaped.
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: bad JSON ({error.msg}, column {error.colno}); mend the line") from error
        if not isinstance(record, dict):
            raise DataError(f"{where}: a {type(record).__name__}, not a JSON object; give {{{column!r}: ...}} a line")
        yield where, record


def _read_parquet(path: Path, column: str, template: RowTemplate | None) -> list[str]:
    with _open_parquet(path) as file:
        columns = list(file.schema_arrow.names)
        if template is not None:
            rows = file.read(columns=template.columns(columns, where=str(path))).to_pylist()
            return filled(template, rows, where=str(path))
        if column not in columns:
            raise missing_column(column=column, columns=columns, where=str(path))
        values = file.read(columns=[column]).column(column).to_pylist()
    return checked_column(values, column=column, where=str(path))


@contextmanager
def _open_parquet(path: Path) -> Iterator[ParquetFile]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file, utf8(str(path)):
            yield file
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not a readable parquet file ({str(error).splitlines()[0]})") from error


def filled(template: RowTemplate, rows: Iterable[Row], *, where: str) -> list[str]:
    """The texts of rows; those with a null in them are left out.

    Raises:
        DataError: See :meth:`RowTemplate.text`.
    """
    found = (template.text(row, where=f"{where}, row {number}") for number, row in enumerate(rows, start=1))
    with utf8(where):
        return [text for text in found if text is not None]


def asked(template: RowTemplate, rows: Iterable[Row], *, where: str) -> list[Question]:
    """The questions of rows; those with a null in them are left out.

    Raises:
        DataError: See :meth:`RowTemplate.question`.
    """
    found = (template.question(row, where=f"{where}, row {number}") for number, row in enumerate(rows, start=1))
    with utf8(where):
        return [question for question in found if question is not None]
