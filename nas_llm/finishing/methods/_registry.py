"""Finishing methods by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from nas_llm.finishing.methods._admm import AdmmFinish
from nas_llm.finishing.methods._closed_form import ClosedFormFinish
from nas_llm.finishing.methods._method import FinishingMethod
from nas_llm.finishing.methods._none import NoFinish
from nas_llm.finishing.methods._sequential import SequentialFinish
from nas_llm.plugins import Registry
from nas_llm.settings import FINISHING_KIND

Method = TypeVar("Method", bound=type[FinishingMethod])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _accept(found: Any) -> type[FinishingMethod]:
    if not (isinstance(found, type) and issubclass(found, FinishingMethod)):
        raise TypeError("is no subclass of nas_llm.finishing.FinishingMethod")
    if inspect.isabstract(found):
        raise TypeError(f"does not say how it works: it lacks {', '.join(sorted(found.__abstractmethods__))}")
    name = getattr(found, "name", None)
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise TypeError(
            f"has {'no name' if name is None else f'the name {name!r}'}; give the class an attribute name of letters, "
            f'digits, dots, hyphens and underscores, e.g. name = "mine"'
        )
    return found


FINISHING: Registry[type[FinishingMethod]] = Registry(FINISHING_KIND, _accept)
"""All finishing methods."""
for _method in (SequentialFinish, ClosedFormFinish, AdmmFinish, NoFinish):
    FINISHING.add(_method.name, _method)


def register_finishing_method(name: str) -> Callable[[Method], Method]:
    """Class decorator: definitions and ``--method`` may name the method by ``name``.

    Args:
        name: The name; none of the package's own.

    Raises:
        ConfigError: If the name is taken, or the class is no finishing method.
    """
    return FINISHING.register(name)
