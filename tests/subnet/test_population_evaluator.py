"""The evaluator equals Hugging Face, one genome at a time, whatever the population."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import CASE_MODES, DENSE_CASES, dense_model, random_genome, random_windows
from torch.nn import functional

from nas_llm.errors import ConfigError, DataError
from nas_llm.models import DenseModel
from nas_llm.space import BoolArray, Genome
from nas_llm.subnet import BlockCache, PopulationEvaluator, build_subnet
from nas_llm.subnet._states import prefix_keys

CPU = torch.device("cpu")
# Enough tokens for genomes to be walked one by one.
WINDOWS = random_windows(count=12)


def _evaluator(
    dense: DenseModel, metric: str = "perplexity", memory_bytes: int | None = None, stream: bool = False
) -> PopulationEvaluator:
    return PopulationEvaluator(
        dense,
        WINDOWS,
        metric=metric,
        device=CPU,
        dtype=torch.float32,
        memory_bytes=memory_bytes,
        stream=stream,
    )


def _population(dense: DenseModel) -> list[Genome]:
    """Genomes that share prefixes of every length, the whole included."""
    first, second = random_genome(dense, 1), random_genome(dense, 2)
    family = [
        Genome(
            np.vstack([first.attn_mask[:cut], second.attn_mask[cut:]]),
            np.vstack([first.mlp_mask[:cut], second.mlp_mask[cut:]]),
        )
        for cut in range(first.num_layers + 1)
    ]
    return [*family, Genome.dense(dense.architecture), first]


@pytest.mark.parametrize(("case", "mode"), CASE_MODES)
def test_perplexity_is_that_of_the_hugging_face_loss(case: str, mode: str) -> None:
    dense = dense_model(case)
    ids = torch.from_numpy(WINDOWS.tokens.copy())
    genomes = [random_genome(dense, seed, mode) for seed in range(3)]
    expected = [math.exp(float(build_subnet(dense, genome)(ids, labels=ids).loss)) for genome in genomes]
    assert _evaluator(dense).evaluate(genomes) == pytest.approx(expected, rel=1e-5)


def test_kl_is_the_mean_divergence_from_the_dense_model() -> None:
    dense = dense_model("llama-gqa-tied")
    ids = torch.from_numpy(WINDOWS.tokens.copy())
    genome = random_genome(dense, 1)
    with torch.no_grad():
        p = dense.model(ids).logits[:, :-1].log_softmax(-1)
        q = build_subnet(dense, genome)(ids).logits[:, :-1].log_softmax(-1)
    expected = float(functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean())
    values = _evaluator(dense, "kl").evaluate([genome, Genome.dense(dense.architecture)])
    assert values[0] == pytest.approx(expected, rel=1e-4)
    assert values[0] > 0.05
    assert values[1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("metric", ["perplexity", "kl"])
def test_losses_of_windows_are_each_windows_own_and_mean_the_value(metric: str, stream: bool) -> None:
    dense = dense_model("llama-gqa-tied")
    genomes = _population(dense)[::-1]
    evaluator, told = _evaluator(dense, metric, stream=stream), []
    losses = evaluator.window_losses(genomes, on_done=lambda: told.append(1))
    assert losses.shape == (len(genomes), len(WINDOWS.tokens))
    assert len(told) == len(genomes)
    values = evaluator.evaluate(genomes)
    means = losses.mean(axis=1)
    assert (np.exp(means) if metric == "perplexity" else means) == pytest.approx(values, rel=1e-6)
    for place in (0, 7):
        one = dataclasses.replace(WINDOWS, tokens=WINDOWS.tokens[[place]])
        alone = PopulationEvaluator(dense, one, metric=metric, device=CPU, dtype=torch.float32, stream=stream)
        found = alone.evaluate(genomes)
        own = np.exp(losses[:, place]) if metric == "perplexity" else losses[:, place]
        assert own == pytest.approx(found, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt-post-norm"])
def test_results_do_not_depend_on_the_population(case: str) -> None:
    dense = dense_model(case)
    genomes = _population(dense)
    together = _evaluator(dense).evaluate(genomes)
    alone = [_evaluator(dense).evaluate([genome])[0] for genome in genomes]
    backwards = _evaluator(dense).evaluate(genomes[::-1])[::-1]
    assert together == alone == backwards


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", ["llama-gqa-untied", "opt-post-norm"])
def test_a_tight_memory_budget_changes_no_bit(case: str, stream: bool) -> None:
    dense = dense_model(case)
    genomes = [*_population(dense), *(random_genome(dense, seed) for seed in range(3, 9))]
    roomy = _evaluator(dense)
    tight = _evaluator(dense, memory_bytes=420_000, stream=stream)
    assert tight.evaluate(genomes) == roomy.evaluate(genomes)
    assert roomy.states.peak_bytes + roomy.blocks.peak_bytes > 420_000
    assert tight.states.peak_bytes <= tight.plan.states
    assert tight.blocks.peak_bytes <= max(tight.plan.blocks, 420_000 // 4)


def test_a_budget_below_one_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget of 1e-05 GB is too small.*data.window"):
        _evaluator(dense_model("opt"), memory_bytes=10_000)


@pytest.mark.parametrize("metric", ["perplexity", "kl"])
@pytest.mark.parametrize("case", DENSE_CASES)
def test_streamed_blocks_give_exactly_what_resident_ones_give(case: str, metric: str) -> None:
    dense = dense_model(case)
    genomes = _population(dense)
    streamed = _evaluator(dense, metric, stream=True)
    assert streamed.evaluate(genomes) == _evaluator(dense, metric).evaluate(genomes)
    # Each distinct (layer, gene prefix) ran once.
    distinct = {key for genome in genomes for key in prefix_keys(genome)[1:]}
    assert streamed.statistics.blocks_run == len(distinct)


def test_a_block_visits_the_device_once_for_a_streamed_population(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = dense_model("llama-gqa-tied")
    genomes = _population(dense)
    evaluator, made = _evaluator(dense, stream=True), []
    original = type(evaluator.blocks)._make

    def counted(self: BlockCache, layer: int, *masks: BoolArray) -> Any:
        made.append((layer, *(mask.tobytes() for mask in masks)))
        return original(self, layer, *masks)

    monkeypatch.setattr(BlockCache, "_make", counted)
    evaluator.evaluate(genomes)
    assert len(made) == len(set(made)) == len({(n, g.layer_key(n)) for g in genomes for n in range(g.num_layers)})


def test_a_child_starts_where_it_differs_from_a_parent_of_an_earlier_call() -> None:
    dense = dense_model("llama-gqa-tied")
    parent, other = random_genome(dense, 1), random_genome(dense, 2)
    child = parent.with_rows(mlp=[(parent.num_layers - 1, other.mlp_mask[-1])])
    evaluator = _evaluator(dense)
    evaluator.evaluate([parent])
    before = evaluator.statistics.blocks_run
    value = evaluator.evaluate([child])
    assert evaluator.statistics.blocks_run - before == 1
    assert value == _evaluator(dense).evaluate([child])
    assert evaluator.statistics.reused == pytest.approx(1 - 6 / 10)


def test_blocked_attention_in_bfloat16_agrees_with_float32() -> None:
    dense = dense_model("llama-gqa-tied")
    genomes = _population(dense)
    arguments: dict[str, Any] = {"metric": "perplexity", "device": CPU}
    exact = PopulationEvaluator(dense, WINDOWS, dtype=torch.float32, **arguments).evaluate(genomes)
    rounded = PopulationEvaluator(dense, WINDOWS, dtype=torch.bfloat16, **arguments).evaluate(genomes)
    assert rounded == pytest.approx(exact, rel=0.02)
    assert rounded != exact


def test_results_are_told_as_they_come() -> None:
    dense = dense_model("opt")
    genomes, told = _population(dense), {}
    values = _evaluator(dense).evaluate(genomes, on_result=lambda index, value, *_: told.update({index: value}))
    assert [told[index] for index in range(len(genomes))] == values


def test_an_exception_of_the_listener_stops_the_evaluation() -> None:
    dense = dense_model("opt")

    def stop(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _evaluator(dense).evaluate(_population(dense), on_result=stop)


def test_identity_names_model_text_metric_and_arithmetic() -> None:
    dense = dense_model("opt")
    base = _evaluator(dense).identity
    others = [
        _evaluator(dense, "kl").identity,
        _evaluator(dense_model("opt", seed=1)).identity,
        PopulationEvaluator(
            dense, random_windows(count=12, seed=1), metric="perplexity", device=CPU, dtype=torch.float32
        ).identity,
        PopulationEvaluator(dense, WINDOWS, metric="perplexity", device=CPU, dtype=torch.bfloat16).identity,
    ]
    assert len({base, *others}) == 5


def test_refuses_an_unknown_metric_and_windows_beyond_the_positions() -> None:
    dense = dense_model("opt")
    with pytest.raises(ConfigError, match="accuracy.*perplexity, kl"):
        _evaluator(dense, "accuracy")
    with pytest.raises(DataError, match="129 tokens.*128 positions"):
        PopulationEvaluator(dense, random_windows(length=129), metric="perplexity", device=CPU, dtype=torch.float32)


def test_a_broken_subnet_is_bad_and_not_an_error() -> None:
    dense = dense_model("llama-gqa-tied")
    with torch.no_grad():
        dense.adapter.layers(dense.model)[0].get_submodule(dense.adapter.names.fc2).weight.fill_(float("inf"))
    value = _evaluator(dense).evaluate([Genome.dense(dense.architecture)])[0]
    assert math.isfinite(value)
    assert value > 1e30
