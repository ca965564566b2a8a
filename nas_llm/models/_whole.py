"""A checkpoint loaded as it is in its files: nothing made up, nothing that matters left out."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging
from transformers.utils.peft_utils import find_adapter_config_file

from nas_llm.errors import ModelError, SpaceError, first_line

logger = logging.getLogger(__name__)

_NAMED = 3
# What checkpoints of earlier versions of transformers hold beside their weights; it is computed today.
_COMPUTED = (r"rotary_emb\.inv_freq", r"(^|\.)position_ids$")

# No model can be made of some values that a configuration may hold.
_IMPOSSIBLE = (ArithmeticError, AttributeError, SpaceError, TypeError)
LOAD_FAULTS = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, *_IMPOSSIBLE)
"""What is raised for files that no model can be made of."""

Mismatch = tuple[str, Sequence[int], Sequence[int]]
"""Name of a weight, its shape in the file, and the shape that the configuration asks for."""


def load_fault(source: str, error: Exception) -> ModelError:
    """One of :data:`LOAD_FAULTS` in one line.

    Args:
        source: What the user named.
        error: What was raised.
    """
    if isinstance(error, _IMPOSSIBLE):
        what = f"its config.json has values that no model can be made of ({first_line(error)}); put its own back"
        return ModelError(f"cannot load model '{source}': {what}")
    return ModelError(f"cannot load model '{source}': {first_line(error)}")


def load_whole(
    where: str, source: str, config: PretrainedConfig, *, dtype: torch.dtype | None, **kwargs: str
) -> PreTrainedModel:
    """Load a causal LM with all of its weights, on the CPU in evaluation mode.

    Code that a model directory carries is never run. Where the files hold an LM head of its own although the
    configuration says that the token embedding is the head, the model has its own and its configuration says so.

    Args:
        where: A directory or a hub name.
        source: What the user named.
        config: Its configuration.
        dtype: Type of the weights; None = as they were saved.
        kwargs: ``revision``, if any.

    Raises:
        ModelError: If weights are missing, have another shape than the configuration says, or belong to parts of the
            model that the configuration leaves out; if an adapter lies beside the model; or if it cannot be read.
    """
    refuse_adapter(where, source, **kwargs)
    try:
        with silent_report():
            answer: Any = AutoModelForCausalLM.from_pretrained(
                where,
                config=config,
                dtype=dtype or "auto",
                attn_implementation="sdpa",
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **kwargs,
            )
    except LOAD_FAULTS as error:
        raise load_fault(source, error) from error
    model: PreTrainedModel
    model, found = answer
    check_whole(
        model,
        source,
        missing=found["missing_keys"],
        mismatched=found["mismatched_keys"],
        extra=found["unexpected_keys"],
    )
    say_what_is_tied(model, source)
    model.eval()
    return model


def check_whole(
    model: PreTrainedModel,
    source: str,
    *,
    missing: Iterable[str] = (),
    mismatched: Iterable[Mismatch] = (),
    extra: Iterable[str] = (),
) -> None:
    """Refuse a model that is not what its files hold; whole parts that it has no use for are only named in the log.

    Args:
        model: The model.
        source: What the user named.
        missing: Weights that the files lack.
        mismatched: Weights of another shape.
        extra: Weights that the model does not have.

    Raises:
        ModelError: If anything is missing or of another shape, or an extra weight belongs to a part that is there,
            which without it computes something else.
    """
    lacking = sorted(missing)
    if lacking:
        mend = "download or save the model again"
        if _head_name(model) in lacking and not getattr(model.config, "tie_word_embeddings", False):
            mend += ", or set tie_word_embeddings = true in its config.json if the token embedding is its LM head"
        raise ModelError(f"the files of model '{source}' lack {listed(lacking)}; {mend}")
    other = sorted(mismatched, key=lambda mismatch: mismatch[0])
    if other:
        name, in_file, wanted = other[0]
        raise ModelError(
            f"model '{source}': {name} is {_shape(in_file)} in its files, and its config.json asks for "
            f"{_shape(wanted)}; correct the sizes there, or save the model again"
        )
    ignored = [*(model._keys_to_ignore_on_load_unexpected or ()), *_COMPUTED]
    held = [name for name in sorted(extra) if not any(re.search(pattern, name) for pattern in ignored)]
    used = [name for name in held if _is_inside(model, name)]
    if used:
        raise ModelError(
            f"the files of model '{source}' hold {listed(used)}, which a {type(model).__name__} of its config.json "
            "does not have, so it would compute something else; correct config.json (e.g. attention_bias or model_type)"
        )
    if held:
        logger.warning("the files of model '%s' also hold weights that are not used: %s", source, listed(held))


def say_what_is_tied(model: PreTrainedModel, source: str) -> None:
    """Make the configuration say what the weights are: whether the token embedding is the LM head.

    Args:
        model: A loaded model; transformers leaves two different tensors apart, whatever the configuration says.
        source: What the user named.
    """
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    if getattr(model.config, "tie_word_embeddings", False) and head is not None and head.weight is not table.weight:
        logger.info("model '%s' has an LM head of its own, although tie_word_embeddings = true", source)
        model.config.tie_word_embeddings = False


@contextmanager
def silent_report() -> Iterator[None]:
    """No report of transformers on what it loads: all of it is said here, or is an error."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def refuse_adapter(where: str, source: str, *, revision: str | None = None) -> None:
    """Refuse a model beside which an adapter lies: with peft installed transformers would load both.

    Args:
        where: A directory or a hub name.
        source: What the user named.
        revision: Hub revision, for hub names only.

    Raises:
        ModelError: If there is one; says what to do.
    """
    if find_adapter_config_file(where, revision=revision) is not None:
        raise ModelError(
            f"model '{source}' has an adapter beside it (adapter_config.json): merge it (peft: merge_and_unload(), "
            "then save_pretrained), or move the adapter's files elsewhere to use the model alone"
        )


def _is_inside(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight belongs to a block, a projection, a norm, or to a part that the configuration switches off."""
    parts = dict(model.named_modules())
    owner, _, part = name.rpartition(".")
    while owner not in parts:
        owner, _, part = owner.rpartition(".")
    holder = parts[owner]
    return not isinstance(holder, PreTrainedModel | nn.ModuleList) or hasattr(holder, part)


def _head_name(model: PreTrainedModel) -> str | None:
    head = model.get_output_embeddings()
    return next((f"{name}.weight" for name, module in model.named_modules() if module is head), None)


def listed(names: Sequence[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) for size in sizes)
