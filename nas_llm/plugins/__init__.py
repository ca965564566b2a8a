"""Doors for strangers: things found by name, by ``"module:Class"``, or through the entry points of other packages."""

from nas_llm.plugins._entry_points import GROUP, load_entry_points
from nas_llm.plugins._faults import named_faults
from nas_llm.plugins._reference import (
    PluginUse,
    anchored,
    is_reference,
    load_module,
    load_reference,
    short_reference,
    source_of,
    use_of,
)
from nas_llm.plugins._registry import Registry, check_name, registered, unknown_name

__all__ = [
    "GROUP",
    "PluginUse",
    "Registry",
    "anchored",
    "check_name",
    "is_reference",
    "load_entry_points",
    "load_module",
    "load_reference",
    "named_faults",
    "registered",
    "short_reference",
    "source_of",
    "unknown_name",
    "use_of",
]
