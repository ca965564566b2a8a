"""Modelling files: one template a family, read as text for exports and imported for work in memory."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from importlib import resources
from importlib.abc import InspectLoader
from types import ModuleType

from nas_llm.errors import ModelError, first_line

SUBNET_PREFIX = "nas_"
"""What stands before a dense model's ``model_type`` in that of its subnets."""

_OFFERED = ("CONFIG_CLASS", "MODEL_CLASS", "LAYER_CLASS")


@cache
def modeling_template(template: str, renames: tuple[tuple[str, str], ...] = ()) -> str:
    """Text of a modelling file that comes with the package, for a model type that is built alike.

    Args:
        template: ``modeling_llama.py`` or ``modeling_opt.py``.
        renames: Replacements, one after the other, that turn it into a sister model type's file, e.g.
            ``(("Llama", "Mistral"), ("llama", "mistral"))``: names of classes, modules and model type follow.
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
    """The modelling file of a model type as a module.

    Args:
        model_type: Of the dense model.
        source: Its text.

    Raises:
        ModelError: If it does not run, or does not offer what a modelling file has to.
    """
    name = f"{__package__}.modeling_nas_{model_type}"
    spec = importlib.util.spec_from_loader(name, _TextLoader(source), origin=f"modeling_nas_{model_type}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = spec.origin
    # Registered before execution: transformers looks classes up by their module's name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        _check(module, model_type)
    except Exception as error:  # whatever the text raises
        del sys.modules[name]
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"the modelling file of model type '{model_type}' does not run: {type(error).__name__}: {first_line(error)}"
        ) from error
    return module


def _check(module: ModuleType, model_type: str) -> None:
    kind = f"the modelling file of model type '{model_type}'"
    missing = [name for name in _OFFERED if not isinstance(getattr(module, name, None), type)]
    if missing:
        raise ModelError(f"{kind} lacks {', '.join(missing)}; assign the classes of a subnet to these names")
    found, wanted = module.CONFIG_CLASS.model_type, f"{SUBNET_PREFIX}{model_type}"
    if found != wanted:
        raise ModelError(f"{kind}: model_type of its CONFIG_CLASS is '{found}', it should be '{wanted}'")
