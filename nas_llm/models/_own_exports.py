"""Exports of this package where a model is asked for that they are not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from nas_llm.errors import ModelError
from nas_llm.models._provenance import read_provenance
from nas_llm.models.families import SUBNET_PREFIX

_DECILM_FILE = "configuration_decilm.py"


def refuse_subnet(source: str, config: PretrainedConfig, where: str) -> None:
    """Refuse to search an export whose blocks differ in size.

    Args:
        source: What the user named.
        config: Its configuration.
        where: Its directory or hub name.

    Raises:
        ModelError: If it is one; says what can be searched instead.
    """
    if config.model_type.startswith(SUBNET_PREFIX):
        raise ModelError(
            f"'{source}' is an export of nas-llm whose blocks differ in size (model type {config.model_type}), and "
            f"only a model with blocks of one size can be searched; {_search_instead(source, _said(Path(where)))}"
        )


def refuse_decilm(source: str, where: str) -> None:
    """Refuse an export for vLLM and SGLang, of which transformers can read no more than the configuration.

    Raises:
        ModelError: If it is one; says what to take instead.
    """
    if (Path(where) / _DECILM_FILE).is_file():
        said = _said(Path(where))
        raise ModelError(
            f"'{source}' is an export of nas-llm for vLLM and SGLang (DeciLM), which only they run; "
            f"{_take_instead(said)}; {_search_instead(source, said)}"
        )


def refuse_own_gguf(path: Path, architecture: str) -> None:
    """Refuse an export for llama.cpp that only llama.cpp runs.

    Args:
        path: A GGUF file with metadata of this package.
        architecture: What it says of itself.

    Raises:
        ModelError: Always.
    """
    said = _said(path.parent)
    raise ModelError(
        f"{path} is an export of nas-llm for llama.cpp (architecture {architecture}), which only llama.cpp and its kin "
        f"run; {_take_instead(said)}; {_search_instead(str(path.parent), said)}"
    )


def _said(directory: Path) -> Mapping[str, Any]:
    """What an export says of itself; for a hint, and so empty where that is damaged."""
    with suppress(ModelError):
        return read_provenance(directory) or {}
    return {}


def _take_instead(said: Mapping[str, Any]) -> str:
    point = f" --point {said['point']}" if isinstance(said.get("point"), str) else ""
    return f"to evaluate or train it, take the same point in the format hf (nas-llm export RUN{point} --format hf)"


def _search_instead(source: str, said: Mapping[str, Any]) -> str:
    base, ratio = said.get("base_model"), said.get("inheriting_ratio")
    dense = f"its dense model {base}" if isinstance(base, str) else "its dense model"
    limit = f"constraints.max_ratio below {ratio:.3f}" if isinstance(ratio, float) else "a lower constraints.max_ratio"
    return f"to prune it further, search {dense} with search.start_from = [{json.dumps(source)}] and {limit}"
