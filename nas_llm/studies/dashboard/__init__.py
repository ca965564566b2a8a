"""Studies in a browser, live or as one page."""

from nas_llm.studies.dashboard._html import export_html
from nas_llm.studies.dashboard._serve import serve_dashboard

__all__ = [
    "export_html",
    "serve_dashboard",
]
