"""Measured models as one HTML page that opens offline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from nas_llm.files import write_atomic
from nas_llm.report._evaluation_columns import evaluation_columns, evaluation_notes
from nas_llm.report._page import PAGE

if TYPE_CHECKING:
    from nas_llm.evaluation import ModelRow

_TITLE = "Evaluation"


def write_evaluation_page(path: Path, rows: Sequence[ModelRow], *, versions: Mapping[str, str]) -> None:
    """Write measured models as a page; an earlier one is replaced.

    Args:
        path: The HTML file.
        rows: The models.
        versions: Package name to version.

    Raises:
        RunError: If the file cannot be written.
    """
    head = PAGE.partition("<main>")[0].replace("<script><!--plotly--></script>\n", "")
    head = re.sub("<title>.*</title>", f"<title>{_TITLE}</title>", head)
    columns = evaluation_columns(rows)
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in ("Model", *(c.title for c in columns)))
    lines = "\n".join(
        f'<tr><th scope="row">{escape(row.name)}</th>'
        + "".join(f"<td>{escape(column.cells[index])}</td>" for column in columns)
        + "</tr>"
        for index, row in enumerate(rows)
    )
    notes = "\n".join(f"<li>{escape(note)}</li>" for note in evaluation_notes(rows))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(version)}</dd>" for name, version in versions.items())
    body = f"""<main>
<h1>{_TITLE}</h1>
<h2 id="models">Models</h2>
<div class="scroll">
<table>
<thead><tr>{titles}</tr></thead>
<tbody>
{lines}
</tbody>
</table>
</div>
<h2>What was measured</h2>
<ul>
{notes}
</ul>
<h2>Versions</h2>
<dl>{facts}</dl>
</main>
</body>
</html>
"""
    write_atomic(path, head + body, parents=True)
