"""The sizes of a model from its configuration alone: shipped with the package, or on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from nas_llm.errors import ModelError, first_line
from nas_llm.hints import did_you_mean
from nas_llm.models._loading import cached_config, local_model, quiet_transformers, read_config
from nas_llm.models._own_exports import refuse_subnet
from nas_llm.models.families import adapter_for
from nas_llm.space import Architecture

KNOWN_MODELS: Mapping[str, Mapping[str, Any]] = json.loads(
    Path(__file__).with_name("configurations.json").read_text(encoding="utf-8")
)
"""Hub name to what its ``config.json`` says of its sizes."""


def known_architecture(source: str, revision: str | None = None) -> Architecture:
    """The sizes of a dense model; no weight is read, and no network is asked.

    Args:
        source: Packaged name, local directory or ``.gguf`` file, a hub name of :data:`KNOWN_MODELS`, or one whose
            configuration is in the hub's cache.
        revision: Hub revision, for names in the hub's cache.

    Raises:
        ModelError: If nothing on this machine says them, or its family is not supported.
    """
    config, where = _configuration(source, revision)
    refuse_subnet(source, config, where)
    return adapter_for(config.model_type).architecture(config)


def _configuration(source: str, revision: str | None) -> tuple[PretrainedConfig, str]:
    if source in KNOWN_MODELS:
        return AutoConfig.for_model(**KNOWN_MODELS[source]), source
    path = local_model(source)
    if path is None:
        file = cached_config(source, revision)
        if file is None:
            hint = did_you_mean(source, KNOWN_MODELS, 0.7, quote="'", after=" ")
            raise ModelError(
                f"the sizes of model '{source}' are not known without the network; {hint}known are "
                f"{', '.join(KNOWN_MODELS)}; else name a local directory with its config.json"
            )
        path = file.parent
    if path.suffix == ".gguf":
        return _gguf_configuration(path, path.stat().st_mtime_ns), str(path)
    return read_config(source, str(path)), str(path)


@cache
def _gguf_configuration(path: Path, changed: int) -> PretrainedConfig:
    """Read once for each time of change: the vocabulary in the same head takes seconds."""
    try:
        with quiet_transformers():
            config: PretrainedConfig = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
    except Exception as error:  # transformers raises many kinds for a file that it does not understand
        raise ModelError(f"cannot read the sizes of the GGUF file {path}: {first_line(error)}") from error
    return config
