"""The objective on the packaged test model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from small_studies import small_study

from nas_llm.errors import ConfigError
from nas_llm.events import ignore
from nas_llm.search import normalised_hypervolume
from nas_llm.space import Genome
from nas_llm.studies import Interrupted, SearchObjective, Workbench, make_objective, with_settings
from nas_llm.studies._lockstep import LockstepSearches


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(small_study(seeds=[0, 1]))


def fixed(**params: Any) -> optuna.trial.FixedTrial:
    default = {
        "search.population": 8,
        "search.operators.guided_probability": 0.5,
        "search.operators.crossover": "uniform",
    }
    return optuna.trial.FixedTrial(default | params)


def test_searches_in_lockstep_are_the_unbroken_ones(bench: Workbench, tmp_path: Path) -> None:
    lockstep = LockstepSearches(bench, bench.problem, (0, 1), tmp_path / "lockstep")
    curve = []
    for evaluations in (3, 8, 12, 16):
        lockstep.advance(evaluations)
        curve.append(lockstep.hypervolume(evaluations))
    assert curve == sorted(curve)
    assert lockstep.counts()["evaluations"] == 32
    for seed in (0, 1):
        problem = with_settings(bench.problem, {"seed": seed})
        rows = bench.search(problem, tmp_path / f"{seed}", on_event=ignore, should_stop=lambda: False)
        assert [row.digest for row in rows] == [row.digest for row in lockstep._rows[seed]]
        names = problem.objectives
        expected = normalised_hypervolume([[row.objectives[n] for n in names] for row in rows], names, bench.dense)
        assert lockstep.hypervolume(16, seed=seed) == pytest.approx(expected, rel=1e-12)


def test_the_objective_is_the_mean_over_seeds_and_repeats(bench: Workbench) -> None:
    objective = SearchObjective(bench)
    trial = fixed()
    value = objective(trial)
    attributes = trial.user_attrs
    assert value == pytest.approx((attributes["hypervolume seed 0"] + attributes["hypervolume seed 1"]) / 2)
    assert 0 < value < 1
    again = fixed()
    assert objective(again) == value
    # The second time every evaluation comes from the shared cache.
    assert again.user_attrs["cached"] == again.user_attrs["evaluations"] == 32
    assert objective(fixed(**{"search.population": 4})) != value


def test_it_reports_at_the_same_evaluations_whatever_the_population(bench: Workbench) -> None:
    study = optuna.create_study(direction="maximize")
    for population in (4, 8, 12):
        study.enqueue_trial({"search.population": population})
    study.optimize(SearchObjective(bench), n_trials=3)
    for trial in study.trials:
        assert list(trial.intermediate_values) == list(bench.definition.steps)
        assert list(trial.intermediate_values.values()) == sorted(trial.intermediate_values.values())
        assert trial.intermediate_values[16] == trial.value


def test_pruners_stop_bad_trials(bench: Workbench) -> None:
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=0.99, n_warmup_steps=4)
    )
    study.optimize(SearchObjective(bench), n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2
    assert [trial.last_step for trial in study.trials] == [4, 4]


def test_the_wilcoxon_pruner_gets_one_value_a_seed(bench: Workbench) -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.WilcoxonPruner())
    study.optimize(SearchObjective(bench), n_trials=1)
    trial = study.trials[0]
    assert trial.intermediate_values == {seed: trial.user_attrs[f"hypervolume seed {seed}"] for seed in (0, 1)}


def test_fronts_are_compared_on_the_same_text_and_weights(bench: Workbench, tmp_path: Path) -> None:
    """A search on less text, with other weights or with racing is judged as all others are."""
    changes = {"data.fitness.tokens": 128, "fitness.weights": "inherited", "fitness.racing": True}
    for key, value in changes.items():
        problem = with_settings(bench.problem, {key: value})
        rows = bench.search(problem, tmp_path / key, on_event=ignore, should_stop=lambda: False)
        found = bench.hypervolume(problem, rows)
        names, quality = problem.objectives, problem.quality
        true = [
            [value if name == quality else row.objectives[name] for name in names]
            for row, value in zip(rows, bench.qualities([row.genome for row in rows]), strict=True)
        ]
        # At most what all of them reach together: only what the search took for its front counts.
        assert 0.5 * normalised_hypervolume(true, names, bench.dense) < found
        assert found <= normalised_hypervolume(true, names, bench.dense) + 1e-12


def test_seconds_are_measured_without_the_cache() -> None:
    objective = make_objective(small_study(objectives=["hypervolume", "seconds"]))
    first, second = fixed(), fixed()
    (hypervolume, seconds), (again, more) = objective(first), objective(second)  # type: ignore[misc]
    assert hypervolume == again
    assert second.user_attrs["cached"] == 0
    assert seconds > 0
    assert 0.2 < more / seconds < 5


def test_own_suggestions_take_the_place_of_the_studys(bench: Workbench) -> None:
    def suggest(trial: optuna.Trial) -> dict[str, Any]:
        return {"search.population": 4 * trial.suggest_int("quarter", 1, 3)}

    study = optuna.create_study(direction="maximize")
    study.optimize(SearchObjective(bench, suggest=suggest), n_trials=1)
    trial = study.trials[0]
    assert list(trial.params) == ["quarter"]
    assert trial.user_attrs["settings"] == {"search.population": 4 * trial.params["quarter"]}
    with pytest.raises(ConfigError, match="trial 0: .*search.population"):
        SearchObjective(bench, suggest=lambda trial: {"search.population": 0})(fixed())


def test_a_stop_ends_a_trial_within_a_candidate(bench: Workbench) -> None:
    asked = iter([False] * 5 + [True] * 1000)
    with pytest.raises(Interrupted):
        SearchObjective(bench, should_stop=lambda: next(asked))(fixed())


def test_the_reference_point_is_the_studys(bench: Workbench, tmp_path: Path) -> None:
    tight = Workbench(small_study(reference={"quality": 2.0, "cost": 1.0}))
    rows = bench.search(bench.problem, tmp_path, on_event=ignore, should_stop=lambda: False)
    names = bench.problem.objectives
    values = [[row.objectives[name] for name in names] for row in rows]
    expected = normalised_hypervolume(values, names, bench.dense, worst_quality=2.0, worst_cost=1.0)
    assert tight.hypervolume(tight.problem, rows) == pytest.approx(expected, rel=1e-12)
    assert expected != pytest.approx(bench.hypervolume(bench.problem, rows), rel=1e-3)


def test_a_broken_subnet_is_the_worst_there_is_in_a_study_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Workbench(small_study(), shared_cache=False)
    subnets = [Genome.dense(bench._prepared.dense.architecture), example_genome(bench)]

    def broken(genomes: Sequence[Genome], *, on_result: Any) -> list[float]:
        for index in range(len(genomes)):
            on_result(index, math.nan, 0.1)
        return [math.nan] * len(genomes)

    monkeypatch.setattr(bench._judge, "evaluate", broken)
    assert bench.qualities(subnets) == [bench.dense["perplexity"], math.inf]


def example_genome(bench: Workbench) -> Genome:
    """The dense model without its first FFN channel."""
    genome = Genome.dense(bench._prepared.dense.architecture)
    mask = genome.mlp_mask.copy()
    mask[:, 0] = False
    return Genome(genome.attn_mask, mask)
