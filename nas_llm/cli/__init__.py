"""The ``nas-llm`` command. The only part of the package that prints; heavy imports happen inside the commands."""

from nas_llm.cli._app import app, main

__all__ = ["app", "main"]
