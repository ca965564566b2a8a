"""Which adapter serves which model type."""

from __future__ import annotations

from typing import Any, TypeVar

import transformers
from transformers import AutoConfig, PretrainedConfig

from nas_llm.errors import ConfigError, ModelError
from nas_llm.hints import did_you_mean
from nas_llm.models.families._base import BlockNames, FamilyAdapter
from nas_llm.models.families._llama import LlamaAdapter
from nas_llm.models.families._modeling import SUBNET_PREFIX
from nas_llm.models.families._opt import OPTAdapter
from nas_llm.models.families.decoders import (
    Gemma3Adapter,
    GraniteAdapter,
    Ministral3Adapter,
    Qwen2Adapter,
    Qwen3Adapter,
    SmolLM3Adapter,
)
from nas_llm.plugins import PluginUse, Registry, load_entry_points, source_of

Family = TypeVar("Family", bound=FamilyAdapter)

_HOW_TO_ADD = (
    "add a family of your own by a subclass of nas_llm.models.FamilyAdapter with the decorator "
    "@nas_llm.models.register_family, in a module named under plugins"
)


def _accepted(found: Any) -> FamilyAdapter:
    assert isinstance(found, FamilyAdapter)
    return found


_FAMILIES: Registry[FamilyAdapter] = Registry("model type", _accepted)
_BUILT_IN = (
    LlamaAdapter(),
    OPTAdapter(),
    Qwen2Adapter(),
    Qwen3Adapter(),
    SmolLM3Adapter(),
    GraniteAdapter(),
    Ministral3Adapter(),
    Gemma3Adapter(),
)
for _adapter in _BUILT_IN:
    for _model_type in _adapter.model_types:
        _FAMILIES.add(_model_type, _adapter)


def register_family(kind: type[Family]) -> type[Family]:
    """Class decorator: models of the family's ``model_types`` can be searched from now on.

    Args:
        kind: A subclass of :class:`FamilyAdapter` that can be made without arguments.

    Raises:
        ConfigError: If it is none, is not complete, or takes a name or model type of the package's own.
    """
    adapter = _made(kind)
    if adapter.name in {known.name for known in _BUILT_IN}:
        raise ConfigError(f"family {kind.__name__}: the name '{adapter.name}' is the package's own; give it another")
    own = [model_type for known in _BUILT_IN for model_type in known.model_types]
    for model_type in adapter.model_types:
        if model_type in own:
            raise ConfigError(
                f"family {kind.__name__}: model type '{model_type}' is served by the package itself; leave it out of "
                "model_types"
            )
    for model_type in adapter.model_types:
        _FAMILIES.register(model_type)(adapter)
    return kind


def supported_model_types() -> list[str]:
    """transformers ``model_type`` values that can be searched."""
    return sorted(_FAMILIES.names())


def adapter_for(model_type: str) -> FamilyAdapter:
    """The adapter of a model type.

    Raises:
        ModelError: If no family covers it.
    """
    found = known_adapter(model_type)
    if found is not None:
        return found
    supported = supported_model_types()
    hint = did_you_mean(model_type, supported, 0.7, quote="'", after=" ")
    lost = "".join(f"; plugin {name} does not load: {reason}" for name, reason in load_entry_points().items())
    raise ModelError(
        f"model type '{model_type}' is not supported; {hint}supported are {', '.join(supported)}; {_HOW_TO_ADD}{lost}"
    )


def known_adapter(model_type: str) -> FamilyAdapter | None:
    """The adapter of a dense model's type or of its subnets'; None if no family covers it."""
    dense_type = model_type.removeprefix(SUBNET_PREFIX)
    found = _FAMILIES.known(dense_type)
    if found is None:
        load_entry_points()
        found = _FAMILIES.known(dense_type)
    return found


def family_use(adapter: FamilyAdapter) -> PluginUse | None:
    """Which code stands behind a family; None for the package's own."""
    return _FAMILIES.use(adapter.model_types[0])


def family_sources() -> list[tuple[str, str]]:
    """What :func:`nas_llm.plugins.load_module` takes in another process to know the families that are known here."""
    found = (source_of(type(adapter)) for adapter in _FAMILIES.values() if adapter not in _BUILT_IN)
    return list(dict.fromkeys(source for source in found if source is not None))


def register_subnet_class(where: str, **kwargs: str) -> None:
    """Make transformers' Auto classes load an export without running the code that it carries; others are left alone.

    Args:
        where: What ``from_pretrained`` takes.
        kwargs: ``revision``, if any.

    Raises:
        ModelError: If it is an export of a family that is not known here.
    """
    try:
        subnet_type = PretrainedConfig.get_config_dict(where, **kwargs)[0].get("model_type", "")
    except Exception:  # transformers raises many kinds for what is no configuration
        # Whoever loads it says what is wrong with it.
        return
    if not str(subnet_type).startswith(SUBNET_PREFIX):
        return
    model_type, adapter = subnet_type.removeprefix(SUBNET_PREFIX), known_adapter(subnet_type)
    if adapter is None:
        raise ModelError(
            f"{where} is an export of a model of type '{model_type}', whose family is not known here; import the "
            "module that registers it, or load the export by transformers alone, with trust_remote_code=True"
        )
    config_class = adapter.modeling(model_type).CONFIG_CLASS
    AutoConfig.register(subnet_type, config_class, exist_ok=True)
    for name, model_class in adapter.auto_classes(model_type).items():
        getattr(transformers, name).register(config_class, model_class, exist_ok=True)


def _made(kind: Any) -> FamilyAdapter:
    if not (isinstance(kind, type) and issubclass(kind, FamilyAdapter)):
        raise ConfigError(f"family {kind!r} is no subclass of nas_llm.models.FamilyAdapter")
    lacking = sorted(kind.__abstractmethods__)
    lacking += [name for name in ("name", "model_types", "names") if not hasattr(kind, name)]
    if lacking:
        raise ConfigError(f"family {kind.__name__} is not complete: it lacks {', '.join(lacking)}")
    wanted = {
        "name": (kind.name, isinstance(kind.name, str) and bool(kind.name), "a text"),
        "model_types": (
            kind.model_types,
            isinstance(kind.model_types, tuple)
            and bool(kind.model_types)
            and all(isinstance(model_type, str) and model_type for model_type in kind.model_types),
            "a tuple of transformers' model_type values",
        ),
        "names": (kind.names, isinstance(kind.names, BlockNames), "nas_llm.models.BlockNames"),
    }
    for name, (value, fits, form) in wanted.items():
        if not fits:
            raise ConfigError(f"family {kind.__name__}: {name} = {value!r} should be {form}")
    try:
        return kind()
    except TypeError as error:
        raise ConfigError(f"family {kind.__name__} cannot be made without arguments: {error}") from error
