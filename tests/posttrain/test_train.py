"""Training in memory: losses, merging, determinism, budgets."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import random_windows
from small_exports import irregular_export
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from nas_llm.data import WindowSet, packaged_sample, perplexity_windows
from nas_llm.errors import ConfigError, DataError, ModelError
from nas_llm.evaluation import load, load_any, model_perplexity
from nas_llm.posttrain import (
    METHODS,
    Budget,
    CurvePoint,
    PosttrainSettings,
    Stopwatch,
    Trained,
    check_teacher,
    distillation_loss,
    next_token_loss,
    train,
)

pytest.importorskip("peft", reason="peft is not installed (pip install 'nas-llm[posttrain]')")

CPU = torch.device("cpu")
IDS = torch.arange(20)[None]
QUICK = PosttrainSettings(steps=6, batch=4, dtype="float32", rank=4)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return irregular_export(tmp_path_factory.mktemp("posttrain") / "hf")


@pytest.fixture(scope="module")
def windows(export: Path) -> WindowSet:
    sample = packaged_sample("tiny-llama")
    assert sample is not None
    return perplexity_windows(sample, tokenizer=load(export)[1], window=64, max_windows=24)


@pytest.fixture
def trained(export: Path, windows: WindowSet) -> Callable[..., Trained]:
    def run(settings: PosttrainSettings = QUICK, **others: Any) -> Trained:
        return train(load(export)[0], windows, settings=settings, device=CPU, **others)

    return run


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("teaches", [False, True])
def test_the_loss_falls_and_shapes_stay(
    trained: Callable[..., Trained], export: Path, windows: WindowSet, method: str, teaches: bool
) -> None:
    teacher = load_any("tiny-llama", dtype=None)[0] if teaches else None
    settings = replace(QUICK, method=method, steps=24, learning_rate=3e-3 if method == "lora" else 1e-3)
    found = trained(settings, teacher=teacher, held_out=windows)
    losses = [point.loss for point in found.curve if point.loss is not None]
    assert len(losses) == 24
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    before = load(export)[0].state_dict()
    after = found.model.state_dict()
    assert {name: value.shape for name, value in after.items()} == {name: v.shape for name, v in before.items()}
    assert not any(parameter.requires_grad for parameter in found.model.parameters())
    measured = [point for point in found.curve if point.perplexity is not None]
    assert measured[0].step == 0
    assert len(measured) == 11
    assert measured[-1].step == 24
    assert measured[0].perplexity is not None
    assert measured[-1].perplexity is not None
    assert measured[-1].perplexity < 0.9 * measured[0].perplexity
    assert measured[-1].perplexity == pytest.approx(model_perplexity(found.model, windows))
    assert found.last.tokens == 24 * 4 * 64
    assert not found.interrupted


def test_merged_weights_compute_what_the_adapter_does(export: Path) -> None:
    lora, model = METHODS["lora"], load(export)[0]
    torch.manual_seed(0)
    adapted = lora.start(model, rank=4)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.05)
        before = load(export)[0](IDS).logits
        wanted = adapted(IDS).logits
    merged = lora.finish(adapted)
    assert type(merged).__name__ == "NasLlamaForCausalLM"
    assert not any("lora" in name for name in merged.state_dict())
    assert (wanted - before).abs().max() > 0.1
    torch.testing.assert_close(merged(IDS).logits, wanted, atol=1e-4, rtol=1e-4)


def test_lora_reaches_every_projection_but_the_head(export: Path) -> None:
    model = load(export)[0]
    linear = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    adapted = METHODS["lora"].start(model, rank=2)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    found = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in trained}
    assert found == linear - {"lm_head"}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_same_seed_gives_the_same_weights(trained: Callable[..., Trained], method: str) -> None:
    settings = replace(QUICK, method=method)
    one, again, other = trained(settings), trained(settings), trained(replace(settings, seed=1))
    assert same(one.model, again.model)
    assert [point.loss for point in one.curve] == [point.loss for point in again.curve]
    assert not same(one.model, other.model)


def test_global_random_generators_are_left_alone(trained: Callable[..., Trained]) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    trained(replace(QUICK, steps=1))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_training_time_is_a_budget(trained: Callable[..., Trained], windows: WindowSet) -> None:
    trained(replace(QUICK, steps=1))
    points: list[CurvePoint] = []
    found = trained(replace(QUICK, steps=None, seconds=2.0), held_out=windows, on_point=points.append)
    at = [point.seconds for point in found.curve]
    # Whether one more step fits is judged by the mean of those before it.
    assert found.last.seconds < 2.0 + max(after - before for before, after in pairwise(at))
    assert 1 <= found.last.step < 10_000
    assert not found.interrupted
    assert tuple(points) == found.curve


def test_neither_steps_nor_time_is_one_pass(trained: Callable[..., Trained], windows: WindowSet) -> None:
    found = trained(replace(QUICK, steps=None, batch=7))
    assert found.last.step == 4
    assert found.last.tokens == windows.num_tokens


def test_somebody_may_stop_it(trained: Callable[..., Trained]) -> None:
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) == 3

    found = trained(replace(QUICK, steps=50), should_stop=should_stop)
    assert found.last.step == 3
    assert found.interrupted


def test_accumulated_batches_are_one_batch(trained: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(replace(QUICK, method="full"))
    monkeypatch.setattr("nas_llm.posttrain._train._LOGIT_BYTES", 1)
    pieces = trained(replace(QUICK, method="full"))
    assert whole.last.tokens == pieces.last.tokens
    for one, other in zip(whole.curve[1:], pieces.curve[1:], strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_type_of_the_weights_stays_and_so_does_the_forward(tmp_path: Path, windows: WindowSet, method: str) -> None:
    model = load(irregular_export(tmp_path / "hf", dtype="bfloat16"))[0]
    forward = type(model).forward
    settings = replace(QUICK, method=method, steps=1, dtype="bfloat16")
    found = train(model, windows, settings=settings, device=CPU, held_out=windows)
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.bfloat16}
    assert found.dtype == "bfloat16"
    assert found.model.forward.__func__ is forward  # type: ignore[attr-defined]
    assert found.curve[0].perplexity == pytest.approx(model_perplexity(load(tmp_path / "hf")[0], windows), rel=0.02)


def test_a_diverging_training_is_an_error(trained: Callable[..., Trained]) -> None:
    with pytest.raises(ModelError, match="the training diverged: its loss is (nan|inf) at step"):
        trained(replace(QUICK, method="full", steps=30, learning_rate=1e30))


def test_windows_beyond_the_positions_are_refused(export: Path) -> None:
    with pytest.raises(DataError, match="windows of 600 tokens are longer than the model's 512 positions"):
        train(load(export)[0], random_windows(length=600), settings=QUICK, device=CPU)


def test_losses_are_what_their_definitions_say() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 2, 5, 7, generator=generator)
    ids = torch.randint(0, 7, (2, 5), generator=generator)
    p, q = torch.softmax(theirs, -1), torch.softmax(ours, -1)
    torch.testing.assert_close(distillation_loss(ours, theirs), (p * (p / q).log()).sum(-1).mean())
    assert distillation_loss(ours, ours).item() == pytest.approx(0.0, abs=1e-6)
    picked = torch.log_softmax(ours, -1)[:, :-1].gather(-1, ids[:, 1:, None])
    torch.testing.assert_close(next_token_loss(ours, ids), -picked.mean())


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    clock = [0.0]
    watch = Stopwatch(lambda: clock[0])
    budget = Budget(steps=100, seconds=50.0, watch=watch)
    watch.start()
    rates = [budget.rate(step) for step in range(101)]
    assert rates[0] > 0
    assert max(rates) == pytest.approx(0.96)
    assert rates[100] == 0.0
    clock[0] = 40.0
    assert budget.progress(10) == 0.8
    assert not budget.spent(40)
    assert budget.spent(3)
    with watch.paused():
        clock[0] = 1000.0
    assert watch.seconds == 40.0


def test_a_teacher_of_another_vocabulary_is_refused(export: Path) -> None:
    model, words = load(export)
    small = LlamaForCausalLM(
        LlamaConfig(vocab_size=50, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    with pytest.raises(ModelError, match="teacher 'x' has a vocabulary of 50 tokens, the export has 1,024"):
        check_teacher(model, words, small, words, name="x")
    others = load(export)[1]
    others.add_tokens(["another word"])
    with pytest.raises(ModelError, match="teacher 'x' has another vocabulary than the export, of the same size"):
        check_teacher(model, words, model, others, name="x")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"method": "lorra"}, "unknown method 'lorra'; did you mean 'lora'? take lora or full"),
        ({"learning_rate": 0.0}, "learning_rate = 0 should be above 0"),
        ({"seconds": float("nan")}, "seconds = nan should be above 0"),
        ({"steps": 0}, "steps = 0 should be at least 1"),
        ({"batch": -1}, "batch = -1 should be at least 1"),
        ({"seed": -1}, "seed = -1 should be from 0"),
        ({"dtype": "int8"}, "dtype = 'int8' is unknown; take auto, float32, bfloat16"),
    ],
)
def test_settings_are_checked(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        PosttrainSettings(**values)
    assert expected in str(error.value)
