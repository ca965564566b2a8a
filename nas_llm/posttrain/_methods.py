"""What of a subnet is trained: low-rank updates that are merged at the end, or all of its weights."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from nas_llm.errors import ConfigError
from nas_llm.hints import did_you_mean
from nas_llm.settings import LEARNING_RATES

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_INSTALL = "pip install 'nas-llm[posttrain]'"


class TrainingMethod(ABC):
    """One way to train; :meth:`start` and :meth:`finish` are inverse in form.

    Attributes:
        name: What it is called on the command line.
        learning_rate: Peak that suits it where nobody chose another.
        packages: What has to be installed.
    """

    name: ClassVar[str]
    learning_rate: ClassVar[float]
    packages: ClassVar[tuple[str, ...]]

    @abstractmethod
    def start(self, model: PreTrainedModel, *, rank: int) -> nn.Module:
        """The module to train, over the model's own tensors; what is to learn requires gradients."""

    @abstractmethod
    def finish(self, trained: nn.Module) -> PreTrainedModel:
        """The model in the form that it had before."""

    @abstractmethod
    def in_words(self, *, rank: int) -> str:
        """For the card."""


class FullTraining(TrainingMethod):
    """All weights."""

    name = "full"
    learning_rate = LEARNING_RATES["full"]
    packages = ("accelerate",)

    def start(self, model: PreTrainedModel, *, rank: int) -> nn.Module:
        """The model itself."""
        return model.requires_grad_(True)

    def finish(self, trained: nn.Module) -> PreTrainedModel:
        """The model itself."""
        trained.requires_grad_(False)
        return trained.eval()  # type: ignore[return-value] # what start took

    def in_words(self, *, rank: int) -> str:
        """For the card."""
        return "all weights trained"


class LoraTraining(TrainingMethod):
    """Low-rank updates of every linear projection but the LM head (Hu et al., ICLR 2022), by peft."""

    name = "lora"
    learning_rate = LEARNING_RATES["lora"]
    packages = ("peft", "accelerate")

    def start(self, model: PreTrainedModel, *, rank: int) -> nn.Module:
        """The model with updates beside its projections; the first of each pair is random, the second zero."""
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        adapted: nn.Module = get_peft_model(model, config)
        return adapted

    def finish(self, trained: nn.Module) -> PreTrainedModel:
        """The updates added to the weights."""
        merged: PreTrainedModel = trained.merge_and_unload()  # type: ignore[operator] # a PeftModel
        merged.requires_grad_(False)
        merged.eval()
        return merged

    def in_words(self, *, rank: int) -> str:
        """For the card."""
        return f"LoRA of rank {rank}, merged"


METHODS: dict[str, TrainingMethod] = {method.name: method for method in (LoraTraining(), FullTraining())}


def training_method(name: str) -> TrainingMethod:
    """A method by its name.

    Raises:
        ConfigError: If there is none; names the nearest.
    """
    if name not in METHODS:
        hint = did_you_mean(name.lower(), METHODS, quote="'", after=" ")
        raise ConfigError(f"unknown method '{name}'; {hint}take {' or '.join(METHODS)}")
    return METHODS[name]


def require_packages(names: Iterable[str], *, what: str) -> None:
    """Refuse to go on without optional packages.

    Raises:
        ConfigError: If one of them is not installed.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{what} needs {' and '.join(missing)}: {_INSTALL}")
