from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from operator_cases import PROPERTY, Case, cases
from synthetic_search import SyntheticEvaluator, architecture, problem, search, unit_scores

from nas_llm.config import ConstraintSection
from nas_llm.search import GuidedMutation, Sensitivities, SensitivityModel, normalised_hypervolume
from nas_llm.search.operators._sensitivity import EXPONENT
from nas_llm.space import CostModel, Genome, SearchSpace


def wide_case() -> Case:
    sizes = architecture(num_layers=10)
    space = SearchSpace(sizes, ffn_multiple=4)
    return Case(space, unit_scores(sizes), CostModel(sizes, sequence_length=16), ConstraintSection(min_ratio=0.4), 1)


def fitted(case: Case, rows: int, noise: float = 0.0) -> tuple[SensitivityModel, np.ndarray]:
    """A model of an exactly additive truth, and that truth (attention, then FFN)."""
    model = SensitivityModel(case.space.architecture)
    truth = np.random.default_rng(9).lognormal(sigma=1.0, size=2 * case.space.architecture.num_layers)
    genomes = case.operators().sampling.draw(rows, case.rng)
    rng = np.random.default_rng(4)
    values = [float(model.features(g) @ truth + 2.0 + noise * rng.standard_normal()) for g in genomes]
    model.fit((g.digest(), g, v) for g, v in zip(genomes, values, strict=True))
    return model, truth


def draws(model: SensitivityModel, count: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([np.concatenate(model.draw(rng)) for _ in range(count)])


def test_an_additive_truth_is_recovered() -> None:
    model, truth = fitted(wide_case(), rows=150)
    assert np.corrcoef(draws(model).mean(axis=0), truth)[0, 1] > 0.98


def test_more_evaluations_mean_less_doubt() -> None:
    few, _ = fitted(wide_case(), rows=30, noise=0.1)
    many, _ = fitted(wide_case(), rows=200, noise=0.1)
    assert draws(many).std(axis=0).mean() < 0.7 * draws(few).std(axis=0).mean()


def test_fits_depend_on_the_evaluations_alone() -> None:
    case = wide_case()
    model, _ = fitted(case, rows=60)
    genomes = case.operators().sampling.draw(60, case.rng)
    rows = [(g.digest(), g, float(i)) for i, g in enumerate(genomes)]
    model.fit((d, None if model.knows(d) else g, v) for d, g, v in rows)
    fresh = SensitivityModel(case.space.architecture)
    fresh.fit(rows)
    assert np.array_equal(draws(model), draws(fresh))


def test_nothing_is_claimed_from_a_handful() -> None:
    case = wide_case()
    model, _ = fitted(case, rows=10)
    assert not model.fitted
    guided = GuidedMutation(case.space, case.scores, case.cost_model, model, prices=["macs_per_token"], probability=1.0)
    genome = case.inside()
    assert guided(genome, rng=case.rng) is genome


@PROPERTY
@given(cases())
def test_guided_genomes_lie_in_the_space_and_keep_their_depth(case: Case) -> None:
    layers = case.space.architecture.num_layers
    model = SensitivityModel(case.space.architecture)
    genomes = [case.inside(seed) for seed in range(16)]
    model.fit((f"{i}", g, float(case.rng.random() + i)) for i, g in enumerate(genomes))
    assert model.fitted
    guided = GuidedMutation(case.space, case.scores, case.cost_model, model, prices=["params"], probability=1.0)
    child = guided(genomes[0], rng=case.rng)
    assert case.space.violations(child) == []
    assert child == guided(genomes[0], rng=case.rng)
    for name in ("kv_groups", "ffn_channels"):
        assert ((getattr(child, name) > 0) == (getattr(genomes[0], name) > 0)).all()
        assert len(getattr(child, name)) == layers


def test_the_best_allocation_is_the_best_of_all_on_a_small_space() -> None:
    """Exhaustive search over all counts finds nothing cheaper and better than the closed form."""
    sizes = architecture(num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=24)
    space, model = SearchSpace(sizes, ffn_multiple=1), CostModel(sizes, sequence_length=16)
    guided = GuidedMutation(space, unit_scores(sizes), model, SensitivityModel(sizes), prices=["macs_per_token"])
    unit_costs = np.array(model.unit_costs("macs_per_token"))
    worth = Sensitivities(np.array([0.3, 2.0]), np.array([1.5, 0.4]))

    def loss(groups: np.ndarray, channels: np.ndarray) -> float:
        attn = worth.attn * (1 - groups / 2) ** EXPONENT
        return float((attn + worth.mlp * (1 - channels / 24) ** EXPONENT).sum())

    def macs(groups: np.ndarray, channels: np.ndarray) -> float:
        return float(groups.sum() * unit_costs[0] + channels.sum() * unit_costs[1])

    levels = [range(int(low), int(high) + 1) for low, high in zip(space.mlp_low, space.mlp_high, strict=True)]
    options = [(np.array(g), np.array(c)) for g in product((1, 2), repeat=2) for c in product(levels[0], levels[1])]
    start = Genome.dense(sizes).with_rows(mlp=[(0, np.arange(24) < 12), (1, np.arange(24) < 16)])
    groups, _, channels = guided.best_counts(start, worth, unit_costs)
    budget = macs(start.kv_groups, start.ffn_channels)
    assert macs(groups, channels) <= budget * (1 + 1e-9)
    rivals = [loss(g, c) for g, c in options if macs(g, c) <= macs(groups, channels) * (1 + 1e-9)]
    assert loss(groups, channels) <= min(rivals) + 1e-9
    assert loss(groups, channels) < loss(start.kv_groups, start.ffn_channels)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_search_beats_its_own_first_population_drawn_out(tmp_path: Path, seed: int) -> None:
    """At equal evaluations: clearly more hypervolume than random search from the same distribution."""
    case = wide_case()
    judge = SyntheticEvaluator(case.scores)
    definition = problem(evaluations=120, population=24, seed=seed)
    result = search(tmp_path, definition, sizes=case.space.architecture, space=case.space, evaluator=judge).run(
        resume=False
    )
    genomes = case.operators().sampling.draw(120, np.random.default_rng(seed))
    rows = [[judge.perplexity(g), case.cost_model(g).macs_per_token] for g in genomes]
    drawn = normalised_hypervolume(rows, definition.objectives, result.dense)
    assert result.hypervolume > 1.03 * drawn
