"""The evaluator equals Hugging Face, one genome at a time, whatever the population."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dense_models import DENSE_CASES, dense_model, random_genome, random_windows
from torch.nn import functional

from nas_llm.errors import ConfigError, DataError
from nas_llm.models import DenseModel
from nas_llm.space import Genome
from nas_llm.subnet import PopulationEvaluator, build_subnet

CPU = torch.device("cpu")


def _evaluator(dense: DenseModel, metric: str = "perplexity", budget_bytes: int = 1 << 30) -> PopulationEvaluator:
    return PopulationEvaluator(
        dense, random_windows(), metric=metric, device=CPU, dtype=torch.float32, budget_bytes=budget_bytes
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


@pytest.mark.parametrize("case", DENSE_CASES)
def test_perplexity_is_that_of_the_hugging_face_loss(case: str) -> None:
    dense = dense_model(case)
    ids = torch.from_numpy(random_windows().tokens.copy())
    genomes = [random_genome(dense, seed) for seed in range(3)]
    expected = [math.exp(float(build_subnet(dense, genome)(ids, labels=ids).loss)) for genome in genomes]
    assert _evaluator(dense).evaluate(genomes) == pytest.approx(expected, rel=1e-5)


def test_kl_is_the_mean_divergence_from_the_dense_model() -> None:
    dense = dense_model("llama-gqa-tied")
    ids = torch.from_numpy(random_windows().tokens.copy())
    genome = random_genome(dense, 1)
    with torch.no_grad():
        p = dense.model(ids).logits[:, :-1].log_softmax(-1)
        q = build_subnet(dense, genome)(ids).logits[:, :-1].log_softmax(-1)
    expected = float(functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean())
    values = _evaluator(dense, "kl").evaluate([genome, Genome.dense(dense.architecture)])
    assert values[0] == pytest.approx(expected, rel=1e-4)
    assert values[0] > 0.05
    assert values[1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt-post-norm"])
def test_results_do_not_depend_on_the_population(case: str) -> None:
    dense = dense_model(case)
    genomes = _population(dense)
    together = _evaluator(dense).evaluate(genomes)
    alone = [_evaluator(dense).evaluate([genome])[0] for genome in genomes]
    backwards = _evaluator(dense).evaluate(genomes[::-1])[::-1]
    assert together == alone == backwards


def test_blocks_are_evicted_without_changing_results() -> None:
    dense = dense_model("llama-gqa-untied")
    genomes = _population(dense)
    assert _evaluator(dense, budget_bytes=1).evaluate(genomes) == _evaluator(dense).evaluate(genomes)


def test_results_are_told_as_they_come() -> None:
    dense = dense_model("opt")
    genomes, told = _population(dense), {}
    values = _evaluator(dense).evaluate(genomes, on_result=lambda index, value, seconds: told.update({index: value}))
    assert [told[index] for index in range(len(genomes))] == values


def test_an_exception_of_the_listener_stops_the_evaluation() -> None:
    dense = dense_model("opt")

    def stop(index: int, value: float, seconds: float) -> None:
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
            dense, random_windows(seed=1), metric="perplexity", device=CPU, dtype=torch.float32
        ).identity,
        PopulationEvaluator(dense, random_windows(), metric="perplexity", device=CPU, dtype=torch.bfloat16).identity,
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
