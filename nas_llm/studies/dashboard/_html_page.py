"""The exported page: markup and style, the same as the report's."""

from __future__ import annotations

import re

from nas_llm.report import PAGE as REPORT

_HEAD, _, _REST = REPORT.partition("<main>")
_SCRIPT = _REST.partition("</main>")[2]
_BODY = """<main>
<h1><!--title--></h1>
<p class="note">Exported for reading; nothing here is sent anywhere.</p>
<!--studies-->
</main>"""

PAGE = re.sub(r": search report</title>", ": studies</title>", _HEAD) + _BODY + _SCRIPT
