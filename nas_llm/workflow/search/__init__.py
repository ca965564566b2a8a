"""``nas-llm search``: a whole search in a run directory."""

from nas_llm.session import build_front
from nas_llm.workflow.search._run_search import run_search
from nas_llm.workflow.search._summary import RunSummary

__all__ = [
    "RunSummary",
    "build_front",
    "run_search",
]
