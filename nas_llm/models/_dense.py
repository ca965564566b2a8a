"""A dense model with everything the package needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.models.families import FamilyAdapter
from nas_llm.space import Architecture


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseModel:
    """The model that subnets inherit from; its weights are never changed.

    Attributes:
        model: The transformers causal LM, on the CPU, in evaluation mode, in the checkpoint's own dtype.
        tokenizer: Its tokenizer.
        adapter: Its family.
        architecture: Its sizes.
        source: What the user named: packaged name, hub name, directory or file.
        revision: Identity of the weights: a hub commit, or a hash of the files.
        sample: Name of the text sample that ships with the package for this model, if any.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapter: FamilyAdapter
    architecture: Architecture
    source: str
    revision: str
    sample: str | None = None
