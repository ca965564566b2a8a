"""A short training of a subnet in memory."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from nas_llm.data import WindowSet
from nas_llm.errors import DataError
from nas_llm.evaluation import model_perplexity
from nas_llm.export import cast_weights
from nas_llm.models import fast_float32, on_device, resolve_dtype
from nas_llm.posttrain._budget import Budget, Stopwatch
from nas_llm.posttrain._curve import CurvePoint
from nas_llm.posttrain._methods import require_packages, training_method
from nas_llm.posttrain._randomness import own_randomness
from nas_llm.posttrain._settings import PosttrainSettings
from nas_llm.posttrain._trainer import SubnetTrainer, Watch, WindowDataset

# Logits of one pass; larger batches are accumulated.
_LOGIT_BYTES = 2**29
# The Trainer wants a number even where time decides.
_NO_LIMIT = 10**9


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained subnet.

    Attributes:
        model: The subnet in the form, and the type of weights, that it had; on the CPU.
        curve: Its learning curve, from step 0 on.
        dtype: Arithmetic of the training.
        interrupted: Whether somebody stopped it before its budget was spent.
    """

    model: PreTrainedModel
    curve: tuple[CurvePoint, ...]
    dtype: str
    interrupted: bool

    @property
    def last(self) -> CurvePoint:
        """The point at the end."""
        return self.curve[-1]


def train(
    model: PreTrainedModel,
    windows: WindowSet,
    *,
    settings: PosttrainSettings,
    device: torch.device,
    teacher: PreTrainedModel | None = None,
    held_out: WindowSet | None = None,
    on_point: Callable[[CurvePoint], None] = lambda point: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train a subnet with AdamW, through transformers' ``Trainer`` and for LoRA through ``peft``.

    Weights are trained in float32, whatever their type was before. On one device with one number of threads the same
    seed and number of steps give the same weights; global random generators are left as they were.

    Args:
        model: The subnet; its own weights may be changed, use what is returned.
        windows: Text to train on; the order of the windows is drawn anew for each pass.
        settings: How.
        device: Where.
        teacher: Model with the same vocabulary, towards whose predictions it is trained; None takes the text.
        held_out: Text to measure along the way, and at the end on the finished model.
        on_point: Told every point of the curve.
        should_stop: Polled after each step; True ends the training as if its budget was spent.

    Raises:
        ConfigError: If the method needs a package that is not installed.
        DataError: If a window is longer than the model's positions.
        ModelError: If the loss is not finite any more.
    """
    method = training_method(settings.method)
    require_packages(method.packages, what=f"method {method.name}")
    _check_positions(model, windows)
    saved, dtype = model.dtype, resolve_dtype(settings.dtype, device)
    model = cast_weights(model, "float32")
    batch = min(settings.batch, len(windows.tokens))
    at_once = _windows_at_once(model, windows, batch)
    steps = settings.steps
    if steps is None and settings.seconds is None:
        steps = math.ceil(len(windows.tokens) / batch)
    budget = Budget(steps=steps, seconds=settings.seconds, watch=Stopwatch())
    curve: list[CurvePoint] = []

    def add(point: CurvePoint) -> None:
        curve.append(point)
        on_point(point)

    faster = fast_float32(device) if dtype == torch.float32 else nullcontext()
    with own_randomness(settings.seed), tempfile.TemporaryDirectory() as scratch, faster, warnings.catch_warnings():
        # peft and transformers about each other.
        warnings.simplefilter("ignore", FutureWarning)
        trained = method.start(model, rank=settings.rank)
        watch = Watch(
            budget=budget,
            tokens=lambda: trainer.tokens,
            measure=None if held_out is None else lambda: _measured(trained, held_out),
            points=settings.points,
            on_point=add,
            should_stop=should_stop,
        )
        trainer = SubnetTrainer(
            budget=budget,
            teacher=None if teacher is None else on_device(teacher, device, dtype).eval(),
            dtype=dtype,
            model=trained,
            args=_arguments(
                scratch,
                settings,
                steps=steps or _NO_LIMIT,
                at_once=at_once,
                accumulate=batch // at_once,
                device=device,
            ),
            train_dataset=WindowDataset(windows),
            callbacks=[watch],
        )
        trainer.train()
        finished = cast_weights(
            on_device(method.finish(trained), torch.device("cpu")), str(saved).removeprefix("torch.")
        )
    assert watch.last is not None
    perplexity = None if held_out is None else _measured(on_device(finished, device), held_out)
    add(replace(watch.last, perplexity=perplexity))
    return Trained(
        model=on_device(finished, torch.device("cpu")),
        curve=tuple(curve),
        dtype=str(dtype).removeprefix("torch."),
        interrupted=watch.stopped and not budget.spent(watch.last.step),
    )


def _arguments(
    scratch: str,
    settings: PosttrainSettings,
    *,
    steps: int,
    at_once: int,
    accumulate: int,
    device: torch.device,
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=scratch,
        max_steps=steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=accumulate,
        learning_rate=settings.peak,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=settings.seed,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type != "cpu",
        remove_unused_columns=False,
        logging_strategy="steps",
        logging_steps=1,
        # A loss that is not a number has to be seen.
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    if device.type != "cpu":
        # Several devices would multiply the batch that was asked for.
        arguments._n_gpu = 1
    return arguments


def _windows_at_once(model: PreTrainedModel, windows: WindowSet, batch: int) -> int:
    """The largest divisor of a batch whose logits stay small; at least 1."""
    one = 4 * windows.tokens.shape[1] * model.config.vocab_size
    return max(
        count for count in range(1, batch + 1) if batch % count == 0 and (count == 1 or count * one <= _LOGIT_BYTES)
    )


def _measured(model: nn.Module, held_out: WindowSet) -> float:
    training = model.training
    model.eval()
    try:
        return model_perplexity(model, held_out)  # type: ignore[arg-type] # peft's wrapper has the same face
    finally:
        model.train(training)


def _check_positions(model: PreTrainedModel, windows: WindowSet) -> None:
    length, positions = windows.tokens.shape[1], getattr(model.config, "max_position_embeddings", None)
    if positions is not None and length > positions:
        raise DataError(f"windows of {length} tokens are longer than the model's {positions} positions; use --window")
