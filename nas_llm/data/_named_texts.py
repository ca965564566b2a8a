"""The texts that the literature reports perplexity on, joined as it joins them, or any local file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas_llm.data._files import FILE_SUFFIXES
from nas_llm.data._folders import read_texts
from nas_llm.data._hub import hub_rows
from nas_llm.errors import DataError
from nas_llm.hints import did_you_mean


@dataclass(frozen=True, kw_only=True)
class NamedText:
    """Rows of a hub dataset and what stands between them.

    Attributes:
        dataset: Hub name.
        split: Split.
        column: Text column.
        separator: What rows are joined with.
        subset: Configuration name.
        revision: Hub revision.
        files: Split to file, where not all of the dataset is wanted.
        rows: Rows taken, from the beginning; None = all.
        windows: Windows scored at most, as the literature does; None = all.
    """

    dataset: str
    split: str
    column: str
    separator: str
    subset: str | None = None
    revision: str | None = None
    files: Mapping[str, str] | None = None
    rows: int | None = None
    windows: int | None = None


NAMED_TEXTS: Mapping[str, NamedText] = {
    "wikitext2": NamedText(
        dataset="Salesforce/wikitext", subset="wikitext-2-raw-v1", split="test", column="text", separator="\n\n"
    ),
    "ptb": NamedText(
        dataset="ptb-text-only/ptb_text_only",
        # The dataset itself is a script, which datasets no longer runs. Its parquet conversion is a branch of plain
        # files, in which datasets knows no subset by name.
        revision="refs/convert/parquet",
        files={"test": "penn_treebank/test/0000.parquet"},
        split="test",
        column="sentence",
        separator=" ",
    ),
    "c4": NamedText(
        dataset="allenai/c4",
        files={"validation": "en/c4-validation.00000-of-00008.json.gz"},
        split="validation",
        column="text",
        separator=" ",
        rows=1100,
        windows=256,
    ),
}


@dataclass(frozen=True, kw_only=True)
class ReportingText:
    """A text to report perplexity on.

    Attributes:
        name: ``wikitext2``, ``ptb``, ``c4`` or the file as it was named.
        documents: One, tokenised as a whole; several for a file of documents.
        windows: Windows scored at most; None = all.
    """

    name: str
    documents: tuple[str, ...]
    windows: int | None = None


def read_reporting_text(name: str | Path) -> ReportingText:
    """Read a named text from the hub, or a local file.

    Args:
        name: One of :data:`NAMED_TEXTS`, or a file that :func:`read_texts` knows.

    Raises:
        DataError: If it is neither, or cannot be read.
    """
    named = NAMED_TEXTS.get(str(name))
    if named is not None:
        rows = hub_rows(
            named.dataset,
            column=named.column,
            split=named.split,
            subset=named.subset,
            revision=named.revision,
            files=named.files,
        )
        text = named.separator.join(rows[: named.rows])
        return ReportingText(name=str(name), documents=(text,), windows=named.windows)
    path = Path(name).expanduser()
    if not path.exists() and path.suffix.lower() not in FILE_SUFFIXES:
        hint = did_you_mean(str(name), NAMED_TEXTS, 0.6, quote="")
        raise DataError(
            f"text {str(name)!r} is none of {', '.join(NAMED_TEXTS)} and no such file exists{hint and f'; {hint}'}"
        )
    return ReportingText(name=str(name), documents=tuple(read_texts(path)))
