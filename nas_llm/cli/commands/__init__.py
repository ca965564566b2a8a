"""One command a file; each imports its verb late."""

from nas_llm.cli.commands._compare import compare
from nas_llm.cli.commands._convert import convert
from nas_llm.cli.commands._dashboard import dashboard
from nas_llm.cli.commands._evaluate import evaluate
from nas_llm.cli.commands._export import export
from nas_llm.cli.commands._families import families
from nas_llm.cli.commands._front import front
from nas_llm.cli.commands._posttrain import posttrain
from nas_llm.cli.commands._problems import problems
from nas_llm.cli.commands._reconstruct import reconstruct
from nas_llm.cli.commands._search import search
from nas_llm.cli.commands._servable import servable
from nas_llm.cli.commands._study import study

__all__ = [
    "compare",
    "convert",
    "dashboard",
    "evaluate",
    "export",
    "families",
    "front",
    "posttrain",
    "problems",
    "reconstruct",
    "search",
    "servable",
    "study",
]
