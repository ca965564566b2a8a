"""Modelling files: one template a family, read as text for exports and imported for work in memory."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from importlib import resources
from importlib.abc import InspectLoader
from types import ModuleType


@cache
def modeling_source(template: str, renames: tuple[tuple[str, str], ...] = ()) -> str:
    """Text of a modelling file.

    Args:
        template: File name in this folder.
        renames: Replacements that turn it into a sister model type's file, e.g. ``("Llama", "Mistral")``.
    """
    source = resources.files(__package__).joinpath(template).read_text(encoding="utf-8")
    for old, new in renames:
        source = source.replace(old, new)
    return source


class _TextLoader(InspectLoader):
    """Loads a module from text and keeps the text in reach of ``inspect``: transformers reads it."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:
        return self._source


@cache
def modeling_module(model_type: str, source: str) -> ModuleType:
    """The modelling file of a model type as a module."""
    name = f"{__package__}.modeling_nas_{model_type}"
    spec = importlib.util.spec_from_loader(name, _TextLoader(source), origin=f"modeling_nas_{model_type}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = spec.origin
    # Registered before execution: transformers looks classes up by their module's name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
