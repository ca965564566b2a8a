"""transformers' Trainer with a teacher, and the callback that keeps budget and curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from nas_llm.data import WindowSet
from nas_llm.errors import ModelError
from nas_llm.posttrain._budget import Budget
from nas_llm.posttrain._curve import CurvePoint
from nas_llm.posttrain._losses import distillation_loss, next_token_loss


class WindowDataset(Dataset[dict[str, Tensor]]):
    """Windows as the Trainer takes them. Without labels: losses are computed here, as means over a batch."""

    def __init__(self, windows: WindowSet) -> None:
        self._ids = torch.from_numpy(windows.tokens.copy())

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self._ids[index]}


class SubnetTrainer(Trainer):
    """Trains towards the text, or towards a teacher's predictions.

    Args:
        budget: Which the learning rate follows.
        teacher: Model on the training device whose predictions are wanted; None takes the text's own tokens.
        dtype: Arithmetic. Not the Trainer's own setting, which would leave a changed ``forward`` in the model.
        others: What ``Trainer`` takes.
    """

    def __init__(self, *, budget: Budget, teacher: PreTrainedModel | None, dtype: torch.dtype, **others: Any) -> None:
        super().__init__(**others)
        self._budget, self._teacher, self._dtype = budget, teacher, dtype
        self.tokens = 0
        # It would write to standard output.
        self.remove_callback(PrinterCallback)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """A learning rate that follows the budget, which may be one of time."""
        optimizer = optimizer or self.optimizer
        assert optimizer is not None
        self.lr_scheduler = LambdaLR(optimizer, self._budget.rate)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean loss over the windows of one batch."""
        ids = inputs["input_ids"]
        self.tokens += ids.numel()
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            outputs = model(input_ids=ids, use_cache=False)
        if self._teacher is None:
            loss = next_token_loss(outputs.logits, ids)
        else:
            with torch.no_grad():
                wanted = self._teacher(input_ids=ids, use_cache=False).logits
            loss = distillation_loss(outputs.logits, wanted)
        return (loss, outputs) if return_outputs else loss


class Watch(TrainerCallback):
    """Stops a training when its budget is spent or somebody asks, and reports its learning curve.

    Args:
        budget: The budget.
        tokens: Tells the tokens seen so far.
        measure: Measures held-out perplexity; None where there is no text for it.
        points: How often to measure, the last step included: that one is left to whoever finishes the model.
        on_point: Told every point but the last.
        should_stop: Polled after each step.

    Attributes:
        last: The last point.
        stopped: Whether somebody asked.
    """

    def __init__(
        self,
        *,
        budget: Budget,
        tokens: Callable[[], int],
        measure: Callable[[], float] | None,
        points: int,
        on_point: Callable[[CurvePoint], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._budget, self._tokens, self._measure = budget, tokens, measure
        self._points, self._on_point, self._should_stop = points, on_point, should_stop
        self._measured = 0
        self.last: CurvePoint | None = None
        self.stopped = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """The point before the first step."""
        self._on_point(CurvePoint(step=0, tokens=0, seconds=0.0, loss=None, perplexity=self._perplexity()))
        self._budget.watch.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any) -> None:
        """Whether this was the last step."""
        self.stopped = self._should_stop()
        if self.stopped or self._budget.spent(state.global_step):
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """A point of the curve; the Trainer's summary at the end has no ``loss`` and is none."""
        if logs is None or "loss" not in logs:
            return
        step, loss = state.global_step, float(logs["loss"])
        if not math.isfinite(loss):
            raise ModelError(f"the training diverged: its loss is {loss} at step {step}; take a smaller learning rate")
        seconds = self._budget.watch.seconds
        due = self._budget.progress(step) * self._points >= self._measured + 1
        perplexity = None
        if due and not control.should_training_stop:
            self._measured += 1
            with self._budget.watch.paused():
                perplexity = self._perplexity()
        self.last = CurvePoint(step=step, tokens=self._tokens(), seconds=seconds, loss=loss, perplexity=perplexity)
        if not control.should_training_stop:
            self._on_point(self.last)

    def _perplexity(self) -> float | None:
        return None if self._measure is None else self._measure()
