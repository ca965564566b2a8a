"""Studies in a browser: the server, and the page that is written instead."""

from nas_llm.studies.dashboard._html_page import PAGE
from nas_llm.studies.dashboard._serve import find_studies, serve_dashboard

__all__ = [
    "PAGE",
    "find_studies",
    "serve_dashboard",
]
