from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_search import SyntheticEvaluator, architecture, fingerprint, problem, search, unit_scores

from nas_llm.config import ConstraintSection
from nas_llm.errors import ConfigError, RunError, SpaceError
from nas_llm.events import CandidateEvaluated, Event, GenerationFinished, Notice
from nas_llm.search import CostConstraints, EvaluationCache, History, algorithm_names, non_dominated
from nas_llm.space import CostModel, Genome, SearchSpace

PROGRAM = Path(__file__).parents[1] / "support" / "synthetic_search.py"


def evaluator(**arguments: Any) -> SyntheticEvaluator:
    return SyntheticEvaluator(unit_scores(architecture()), **arguments)


def priced_at_least(judge: SyntheticEvaluator, count: int) -> bool:
    return len(judge.priced) >= count


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("unbroken")
    search(directory).run(resume=False)
    return fingerprint(directory)


def test_the_budget_is_met_exactly_and_nothing_is_priced_twice(tmp_path: Path) -> None:
    for evaluations, population in ((21, 8), (16, 8), (8, 8), (9, 4)):
        judge, events = evaluator(), list[Event]()
        directory = tmp_path / f"{evaluations}-{population}"
        definition = problem(evaluations=evaluations, population=population)
        result = search(directory, definition, evaluator=judge, on_event=events.append).run(resume=False)
        assert len(judge.priced) == len(set(judge.priced)) == len(result.evaluations) == evaluations
        assert [row.ordinal for row in result.evaluations] == list(range(1, evaluations + 1))
        assert [row.digest for row in result.evaluations] == judge.priced
        candidates = [event for event in events if isinstance(event, CandidateEvaluated)]
        assert [event.evaluations for event in candidates] == list(range(1, evaluations + 1))
        assert not result.interrupted


def test_results_are_what_they_say(tmp_path: Path) -> None:
    judge, events = evaluator(), list[Event]()
    result = search(tmp_path, evaluator=judge, on_event=events.append).run(resume=False)
    model = CostModel(architecture(), sequence_length=16)
    rows = [[row.objectives["perplexity"], row.objectives["macs_per_token"]] for row in result.evaluations]
    for row in result.evaluations:
        assert row.objectives == {
            "perplexity": judge.perplexity(row.genome),
            "macs_per_token": model(row.genome).macs_per_token,
        }
        assert row.cost == model(row.genome)
        assert row.digest == row.genome.digest()
        assert row.cost.inheriting_ratio >= 0.4
    assert [row.ordinal - 1 for row in result.front] == non_dominated(rows).tolist()
    assert result.evaluations[0].genome == Genome.dense(architecture())
    assert result.dense == {"perplexity": pytest.approx(20.0), "macs_per_token": model.dense.macs_per_token}
    generations = [event for event in events if isinstance(event, GenerationFinished)]
    assert [event.generation for event in generations] == list(range(1, result.generations + 1))
    volumes = [event.hypervolume for event in generations]
    assert volumes == sorted(volumes)
    assert volumes[-1] == result.hypervolume > volumes[0] > 0.0
    assert generations[-1].front == tuple(row.objectives for row in result.front)


def test_seeds_matter_and_repeat(tmp_path: Path, unbroken: str) -> None:
    prints = []
    for name, seed in (("a", 3), ("b", 4)):
        search(tmp_path / name, problem(seed=seed)).run(resume=False)
        prints.append(fingerprint(tmp_path / name))
    assert prints[0] == unbroken
    assert prints[1] != unbroken


def test_order_of_results_does_not_matter(tmp_path: Path, unbroken: str) -> None:
    search(tmp_path, evaluator=evaluator(backwards=True)).run(resume=False)
    assert fingerprint(tmp_path) == unbroken


def test_killed_and_resumed_is_unbroken(tmp_path: Path, unbroken: str) -> None:
    """A process is killed outright three times, wherever it happens to be."""
    rng = np.random.default_rng(0)
    history = tmp_path / "history.sqlite"
    for least in (3, 13, 26):
        process = subprocess.Popen([sys.executable, str(PROGRAM), str(tmp_path), "40", "0.03"])
        while process.poll() is None and (not history.exists() or _rows(history) < least):
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0.0, 0.15)))
        assert process.poll() is None, "the search ended before it could be killed"
        process.kill()
        process.wait()
        assert _rows(history) < 40
    judge = evaluator()
    search(tmp_path, evaluator=judge).run(resume=True)
    assert fingerprint(tmp_path) == unbroken
    assert len(judge.priced) <= 40 - 26


def _rows(path: Path) -> int:
    try:
        with History(path, read_only=True) as history:
            return len(history)
    except RunError:
        return 0


def test_stopped_anywhere_and_resumed_is_unbroken(tmp_path: Path, unbroken: str) -> None:
    for step in (1, 7, 8, 9, 24):
        directory = tmp_path / str(step)
        priced: list[str] = []
        for _ in range(60):
            judge = evaluator()
            stop = partial(priced_at_least, judge, step)
            result = search(directory, evaluator=judge, should_stop=stop).run(resume=True)
            priced += judge.priced
            if not result.interrupted:
                break
        assert fingerprint(directory) == unbroken
        assert len(priced) == len(set(priced)) == 40


def test_a_smaller_budget_first_makes_no_difference(tmp_path: Path, unbroken: str) -> None:
    for first in (8, 13, 16, 30):
        directory = tmp_path / str(first)
        search(directory, problem(evaluations=first)).run(resume=False)
        search(directory, problem(evaluations=40)).run(resume=True)
        assert fingerprint(directory) == unbroken


def test_finished_runs_stay_as_they_are(tmp_path: Path, unbroken: str) -> None:
    search(tmp_path).run(resume=False)
    judge = evaluator()
    again = search(tmp_path, evaluator=judge).run(resume=True)
    assert judge.priced == []
    assert fingerprint(tmp_path) == unbroken
    assert len(again.evaluations) == 40
    assert again.hypervolume > 0.0


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_damaged_checkpoints_are_passed_over(tmp_path: Path, unbroken: str, damaged: int) -> None:
    search(tmp_path, problem(evaluations=32)).run(resume=False)
    files = sorted((tmp_path / "checkpoint").glob("gen-*.ckpt"), reverse=True)
    assert len(files) == 3
    kinds: Sequence[Callable[[bytes], bytes]] = (
        lambda data: data[:-7],
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
        lambda data: b"",
    )
    for file, spoil in zip(files[:damaged], kinds, strict=False):
        file.write_bytes(spoil(file.read_bytes()))
    events = list[Event]()
    judge = evaluator()
    search(tmp_path, evaluator=judge, on_event=events.append).run(resume=True)
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert len(notices) == (4 if damaged == 3 else damaged)
    assert files[0].name in notices[0]
    assert fingerprint(tmp_path) == unbroken
    assert len(judge.priced) == 8, "known evaluations are replayed, not repeated"


def test_damage_is_found_before_anything_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(tmp_path, problem(evaluations=8)).run(resume=False)
    (file,) = (tmp_path / "checkpoint").glob("gen-*.ckpt")
    data = bytearray(file.read_bytes())
    data[-1] ^= 0xFF
    file.write_bytes(bytes(data))

    def fail(*_: object) -> None:
        raise AssertionError("unpickled a damaged file")

    monkeypatch.setattr("nas_llm.search.engine._checkpoint._Unpickler.load", fail)
    search(tmp_path, problem(evaluations=8)).run(resume=True)


def test_another_search_is_not_mixed_in(tmp_path: Path) -> None:
    search(tmp_path).run(resume=False)
    with pytest.raises(RunError, match="already holds a search"):
        search(tmp_path).run(resume=False)
    for file in (tmp_path / "checkpoint").glob("gen-*.ckpt"):
        file.unlink()
    with pytest.raises(RunError, match="another genome as evaluation"):
        search(tmp_path, problem(seed=9)).run(resume=True)
    with pytest.raises(RunError, match="kl"):
        search(tmp_path, problem(objectives=("kl", "params"))).run(resume=True)


def test_the_cache_is_shared_and_changes_nothing(tmp_path: Path, unbroken: str) -> None:
    for run, expected in (("a", 40), ("b", 0)):
        judge, events = evaluator(), list[Event]()
        cache = EvaluationCache(tmp_path / "cache" / "evaluations.sqlite", identity="synthetic")
        search(tmp_path / run, evaluator=judge, cache=cache, on_event=events.append).run(resume=False)
        assert len(judge.priced) == expected
        assert fingerprint(tmp_path / run) == unbroken
        assert sum(isinstance(event, CandidateEvaluated) for event in events) == 40
        cache.close()
    other = EvaluationCache(tmp_path / "cache" / "evaluations.sqlite", identity="another model")
    judge = evaluator()
    search(tmp_path / "c", evaluator=judge, cache=other).run(resume=False)
    assert len(judge.priced) == 40


@pytest.mark.parametrize("name", [name for name in algorithm_names() if not name.startswith(("age", "paper"))])
def test_every_algorithm_runs_resumes_and_beats_its_start(tmp_path: Path, name: str) -> None:
    for objectives in (("perplexity", "macs_per_token"), ("kl", "params", "kv_cache_bytes")):
        directory, kl = tmp_path / objectives[0], objectives[0] == "kl"
        definition = problem(algorithm=name, evaluations=40, population=10, objectives=objectives)
        events = list[Event]()
        search(directory / "whole", definition, evaluator=evaluator(kl=kl), on_event=events.append).run(resume=False)
        stopped = evaluator(kl=kl)
        search(
            directory / "parts", definition, evaluator=stopped, should_stop=partial(priced_at_least, stopped, 27)
        ).run(resume=False)
        search(directory / "parts", definition, evaluator=evaluator(kl=kl)).run(resume=True)
        assert fingerprint(directory / "whole") == fingerprint(directory / "parts")
        volumes = [event.hypervolume for event in events if isinstance(event, GenerationFinished)]
        assert volumes[-1] > volumes[0]


def test_unknown_algorithms_and_arguments_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nsga22' is unknown; did you mean nsga2.* known are nsga2, nsga3"):
        search(tmp_path, problem(algorithm="nsga22"))
    with pytest.raises(ConfigError, match=r"algorithm_args\.pop_size is unknown for nsga2; known are .*n_offsprings"):
        search(tmp_path, problem(algorithm_args={"pop_size": 3}))
    assert not any(tmp_path.iterdir())


def test_algorithm_arguments_arrive(tmp_path: Path) -> None:
    definition = problem(evaluations=20, population=8, algorithm_args={"n_offsprings": 3})
    result = search(tmp_path, definition).run(resume=False)
    assert [sum(row.generation == g for row in result.evaluations) for g in (1, 2, 3, 4, 5)] == [8, 3, 3, 3, 3]


@pytest.mark.parametrize(
    "constraints",
    [
        {"min_ratio": 0.6, "max_ratio": 0.9},
        {"max_kv_cache_bytes": 150},
        {"max_params": 20_000, "min_ratio": 0.3},
        {"max_macs_per_token": 22_000},
    ],
)
def test_only_feasible_genomes_are_priced(tmp_path: Path, constraints: dict[str, Any]) -> None:
    sizes = architecture()
    space = SearchSpace(sizes, ffn_multiple=4, min_attn_layers=4, min_mlp_layers=4, protected_layers=[0])
    result = search(tmp_path, problem(constraints=constraints), space=space).run(resume=False)
    limits = CostConstraints(ConstraintSection(**constraints))
    assert len(result.evaluations) == 40
    for row in result.evaluations:
        assert space.violations(row.genome) == []
        assert limits.satisfied(row.cost)
    assert result.dense["perplexity"] == pytest.approx(20.0)
    assert result.hypervolume > 0.0


def test_infeasible_genomes_are_told_but_not_priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without repair most children lie outside; they reach the algorithm as infeasible and nobody else."""
    monkeypatch.setattr("nas_llm.search.engine._pymoo.PymooRepair._do", lambda self, problem, X, **_: X)
    judge = evaluator()
    constraints = {"min_ratio": 0.6, "max_ratio": 0.7}
    result = search(tmp_path, problem(constraints=constraints), evaluator=judge).run(resume=False)
    limits = CostConstraints(ConstraintSection(**constraints))
    assert all(limits.satisfied(row.cost) for row in result.evaluations)
    assert len(result.evaluations) == 40
    assert result.generations > 5


def test_constraints_that_nothing_meets_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="max_params"):
        search(tmp_path, problem(constraints={"max_params": 5}))


def test_an_exhausted_space_ends_the_search(tmp_path: Path) -> None:
    sizes = architecture(num_layers=2, num_heads=1, num_kv_heads=1, intermediate_size=8)
    space = SearchSpace(sizes, ffn_multiple=4)
    events = list[Event]()
    definition = problem(evaluations=40, population=4, constraints={}, operators={"mask_probability": 0.0})
    definition = definition.model_copy(update={"search": definition.search.model_copy(update={"population": 2})})
    judge = SyntheticEvaluator(unit_scores(sizes))
    result = search(tmp_path, definition, space=space, sizes=sizes, evaluator=judge, on_event=events.append).run(
        resume=False
    )
    assert 4 <= len(result.evaluations) < 40
    assert not result.interrupted
    assert any(isinstance(event, Notice) and "exhausted" in event.message for event in events)


def test_broken_subnets_do_no_harm(tmp_path: Path) -> None:
    class Broken(SyntheticEvaluator):
        def perplexity(self, genome: Genome) -> float:
            value = super().perplexity(genome)
            return value if value < 60.0 else math.nan if value < 120.0 else math.inf

    judge = Broken(unit_scores(architecture()))
    result = search(tmp_path, evaluator=judge).run(resume=False)
    values = [row.objectives["perplexity"] for row in result.evaluations]
    assert math.inf in values
    assert not any(math.isnan(value) for value in values)
    assert 0.0 < result.hypervolume < 1.0


def test_a_given_dense_value_is_used(tmp_path: Path) -> None:
    judge = evaluator()
    constraints = {"max_ratio": 0.8}
    dense = {"perplexity": 30.0, "macs_per_token": 1e9}
    result = search(tmp_path, problem(constraints=constraints), evaluator=judge, dense=dense).run(resume=False)
    assert result.dense == dense
    assert Genome.dense(architecture()).digest() not in judge.priced


def test_pymoo_minimize_runs_the_problem_too() -> None:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize

    from nas_llm.config import OperatorSection
    from nas_llm.search import (
        DigestDuplicates,
        PymooCrossover,
        PymooMutation,
        PymooRepair,
        PymooSampling,
        SubnetProblem,
        build_operators,
    )

    sizes = architecture()
    space, model = SearchSpace(sizes, ffn_multiple=4), CostModel(sizes, sequence_length=16)
    section, judge = ConstraintSection(min_ratio=0.5), evaluator()
    operators = build_operators(
        OperatorSection(), space=space, scores=judge.scores, cost_model=model, constraints=section
    )
    subnets = SubnetProblem(
        objectives=("perplexity", "params"),
        space=space,
        cost_model=model,
        constraints=CostConstraints(section),
        evaluator=judge,
    )
    algorithm = NSGA2(
        pop_size=10,
        sampling=PymooSampling(operators.sampling.draw),
        crossover=PymooCrossover(operators.crossover, probability=0.9),
        mutation=PymooMutation(operators.mutation),
        repair=PymooRepair(operators.repair),
        eliminate_duplicates=DigestDuplicates(),
    )
    result = minimize(subnets, algorithm, ("n_gen", 4), seed=1)
    for (genome,), row in zip(result.X, result.F, strict=True):
        expected = [math.log(judge.perplexity(genome)), model(genome).params / model.dense.params]
        assert row.tolist() == pytest.approx(expected)
    assert len(judge.priced) == len(set(judge.priced)) == 40
