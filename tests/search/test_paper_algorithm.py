"""The paper's evolution: its schedule, its parents, its window, and the engine around it."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_cases import PROPERTY, Case, cases
from synthetic_search import SyntheticEvaluator, architecture, fingerprint, problem, search, unit_scores

from nas_llm.config import ConstraintSection, OperatorSection, Problem, SearchSection
from nas_llm.errors import ConfigError
from nas_llm.events import Event, GenerationFinished
from nas_llm.search import (
    CostConstraints,
    GenomeMutation,
    ImportanceSampling,
    MaskMutation,
    Mutation,
    Sampling,
    SubnetProblem,
    build_algorithm,
    build_operators,
    check_algorithm,
)
from nas_llm.search.engine.paper import InitialPopulation, PaperEvolution, paper_schedule
from nas_llm.space import CostModel, Evaluation, Genome, SearchSpace

WINDOW = {"min_ratio": 0.6, "max_ratio": 0.65}
SMALL: dict[str, Any] = {
    "algorithm": "paper",
    "population": 20,
    "evaluations": 100,
    "constraints": WINDOW,
}


def evaluator(**arguments: Any) -> SyntheticEvaluator:
    return SyntheticEvaluator(unit_scores(architecture()), **arguments)


def paper(**changes: Any) -> Problem:
    return problem(**{**SMALL, **changes})


def section(**changes: Any) -> SearchSection:
    return SearchSection.model_validate({"algorithm": "paper", "target_ratios": [0.6], **changes})


def algorithm(definition: Problem, judge: SyntheticEvaluator) -> PaperEvolution:
    """The algorithm alone, its problem with it."""
    sizes = architecture()
    space, model = SearchSpace(sizes, ffn_multiple=4, min_attn_layers=5), CostModel(sizes, sequence_length=16)
    constraints = CostConstraints(definition.constraints)
    operators = build_operators(
        definition.search.operators,
        space=space,
        scores=judge.scores,
        cost_model=model,
        constraints=definition.constraints,
    )
    subnets = SubnetProblem(
        objectives=definition.objective_names,
        space=space,
        cost_model=model,
        constraints=constraints,
        evaluator=judge,
    )
    made = build_algorithm(definition.search, operators, subnets, seed=definition.seed)
    assert isinstance(made, PaperEvolution)
    return made


def test_the_schedule_is_the_papers() -> None:
    schedule = paper_schedule(section(population=100))
    assert (schedule.parents, schedule.mutations, schedule.crossovers, schedule.strong) == (10, 50, 30, 20)
    for operators, mask, ratio in ((schedule.ordinary, 0.3, 0.1), (schedule.stronger, 0.6, 0.3)):
        assert (operators.mask_probability, operators.ratio_probability) == (mask, ratio)
        assert operators.depth_probability == 0.1
        assert (operators.alpha, operators.temperature, operators.transfer_probability) == (0.8, math.inf, 0.0)
        assert [entry.use for entry in operators.mutations or ()] == ["depth", "ratio", "mask"]


@given(population=st.integers(1, 500))
def test_shares_scale_with_the_population(population: int) -> None:
    schedule = paper_schedule(section(population=population))
    counts = (schedule.mutations, schedule.crossovers, schedule.strong)
    assert sum(counts) == population
    assert all(abs(count - share * population) < 1 for count, share in zip(counts, (0.5, 0.3, 0.2), strict=True))
    assert schedule.parents == max(2, round(0.1 * population))


def test_a_generation_has_its_children_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []
    new = PaperEvolution._new

    def noted(self: PaperEvolution, make: Any, known: set[str]) -> Genome | None:
        child = new(self, make, known)
        assert child is not None
        crossed = make.func.__name__ == "_crossed"
        made.append(
            ("crossover" if crossed else "strong" if make.args[0] is self.strong else "mutation", child.digest())
        )
        return child

    monkeypatch.setattr(PaperEvolution, "_new", noted)
    evolution = algorithm(paper(population=100, evaluations=300), evaluator())
    for generation in range(3):
        infills = told(evolution)
        assert len(infills) == 100
        if generation:
            assert [kind for kind, _ in made] == ["mutation"] * 50 + ["crossover"] * 30 + ["strong"] * 20
            assert [digest for _, digest in made] == [individual.X[0].digest() for individual in infills]
        made.clear()
        assert len(evolution.pop) == 10


def told(evolution: PaperEvolution) -> Any:
    """One generation by ask and tell."""
    infills = evolution.ask()
    evolution.evaluator.eval(evolution.problem, infills, algorithm=evolution)
    evolution.tell(infills=infills)
    return infills


def test_parents_are_the_ten_best_of_all_so_far() -> None:
    judge = evaluator()
    evolution = algorithm(paper(population=100, evaluations=400), judge)
    seen: dict[str, float] = {}
    for _ in range(4):
        infills = told(evolution)
        assert all((individual.G <= 0.0).all() for individual in infills)
        seen |= {individual.X[0].digest(): judge.perplexity(individual.X[0]) for individual in infills}
        parents = [individual.X[0].digest() for individual in evolution.pop]
        assert parents == sorted(seen, key=seen.__getitem__)[:10]


def test_infeasible_genomes_are_no_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    evolution = algorithm(paper(), evaluator())
    monkeypatch.setattr(type(evolution.repair), "__call__", lambda self, genome, *, rng: genome)
    for _ in range(3):
        infills = told(evolution)
        feasible = [bool((individual.G <= 0.0).all()) for individual in evolution.pop]
        assert all(feasible) or not any(feasible)
    assert not all((individual.G <= 0.0).all() for individual in infills)


@PROPERTY
@given(case=cases(aligned=True, constrained=True))
def test_the_first_population_is_the_initial_subnet_and_its_mutants(case: Case) -> None:
    operators = case.operators(mutations=["depth", "ratio", "mask"], mask_probability=0.3)
    sampling = operators.sampling
    assert isinstance(sampling, ImportanceSampling)
    initial = InitialPopulation(sampling, operators.mutation)
    drawn = initial.draw(12, case.rng)
    assert drawn == initial.draw(12, case.rng)
    assert 1 <= len(drawn) == len({genome.digest() for genome in drawn}) <= 12
    assert all(case.repair.accepts(genome) for genome in drawn)
    assert drawn[0] == initial.initial_subnet(case.rng)


def test_the_initial_subnet_is_uniform_and_at_the_upper_end() -> None:
    sizes = architecture(num_layers=4, num_heads=10, num_kv_heads=10, intermediate_size=40)
    space, model = SearchSpace(sizes, ffn_multiple=4), CostModel(sizes, sequence_length=16)
    scores = unit_scores(sizes)
    for top in (0.9, 0.7, 0.5):
        operators = build_operators(
            OperatorSection(),
            space=space,
            scores=scores,
            cost_model=model,
            constraints=ConstraintSection(max_ratio=top + 1e-9),
        )
        assert isinstance(operators.sampling, ImportanceSampling)
        genome = InitialPopulation(operators.sampling, operators.mutation).initial_subnet(np.random.default_rng(0))
        assert genome.kv_groups.tolist() == [round(10 * top)] * 4
        assert genome.ffn_channels.tolist() == [round(40 * top)] * 4
        assert (genome.mlp_mask == [scores.top_mlp(layer, round(40 * top)) for layer in range(4)]).all()


@pytest.mark.parametrize("target", [False, True])
def test_every_candidate_lies_in_the_window(tmp_path: Path, target: bool) -> None:
    definition = paper(constraints={} if target else WINDOW)
    if target:
        definition = definition.model_copy(
            update={"search": definition.search.model_copy(update={"target_ratios": (0.62,)})}
        )
    events: list[Event] = []
    result = search(tmp_path, definition, on_event=events.append).run(resume=False)
    ratios = [row.cost.inheriting_ratio for row in result.evaluations]
    assert len(ratios) == 100
    step = 4 * 3 * 16 / (16 * (3 * 64 + 2 * 24 + 2 * 12)) / 6 + 1e-3
    assert (0.62 - step if target else 0.6) <= min(ratios) <= max(ratios) <= (0.62 if target else 0.65)
    assert [event.generation for event in events if isinstance(event, GenerationFinished)] == [1, 2, 3, 4, 5]
    best = min(result.evaluations, key=quality)
    assert best in result.front
    assert best.generation > 1
    assert quality(best) < quality(result.evaluations[0])


def quality(row: Evaluation) -> float:
    return row.objectives["perplexity"]


def test_other_objectives_do_not_change_who_is_looked_for(tmp_path: Path) -> None:
    found = []
    for objectives in (("perplexity", "macs_per_token"), ("params", "kv_cache_bytes", "perplexity")):
        directory = tmp_path / objectives[0]
        result = search(directory, paper(objectives=objectives)).run(resume=False)
        found.append([row.digest for row in result.evaluations])
        assert all(set(row.objectives) == set(objectives) for row in result.evaluations)
    assert found[0] == found[1]


@pytest.mark.parametrize("operators", [{}, {"mutations": ["guided", "depth", {"use": "mask", "literal": True}]}])
def test_seeds_repeat_and_parts_are_the_whole(tmp_path: Path, operators: dict[str, Any]) -> None:
    whole = tmp_path / "whole"
    search(whole, paper(operators=operators)).run(resume=False)
    for name, first in (("half", 50), ("odd", 33)):
        search(tmp_path / name, paper(operators=operators, evaluations=first)).run(resume=False)
        search(tmp_path / name, paper(operators=operators)).run(resume=True)
        assert fingerprint(tmp_path / name) == fingerprint(whole)
    judge = evaluator()
    stop = partial(lambda judge: len(judge.priced) >= 47, judge)
    search(tmp_path / "cut", paper(operators=operators), evaluator=judge, should_stop=stop).run(resume=False)
    search(tmp_path / "cut", paper(operators=operators)).run(resume=True)
    assert fingerprint(tmp_path / "cut") == fingerprint(whole)
    search(tmp_path / "other", paper(operators=operators, seed=4)).run(resume=False)
    assert fingerprint(tmp_path / "other") != fingerprint(whole)


def test_it_finds_what_it_looks_for_better_than_its_start(tmp_path: Path) -> None:
    result = search(tmp_path, paper(population=20, evaluations=400)).run(resume=False)
    best = [min(quality(row) for row in result.evaluations if row.generation <= g) for g in (1, 5, 20)]
    assert best[0] > best[1] >= best[2]


def test_an_exhausted_space_ends_the_search(tmp_path: Path) -> None:
    sizes = architecture(num_layers=2, num_heads=1, num_kv_heads=1, intermediate_size=8)
    judge = SyntheticEvaluator(unit_scores(sizes))
    changes: dict[str, Any] = {"operators": {"mutations": ["ratio"]}, "algorithm_args": {"temperature": 0.0}}
    definition = paper(population=4, evaluations=40, constraints={"max_ratio": 0.9}, **changes)
    space = SearchSpace(sizes, ffn_multiple=4)
    result = search(tmp_path, definition, space=space, sizes=sizes, evaluator=judge).run(resume=False)
    assert 1 <= len(result.evaluations) < 40
    assert not result.interrupted


class Marked(Mutation):
    """Drops the last unit of the first FFN."""

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        mask = genome.mlp_mask[0].copy()
        mask[-1] = False
        return genome.with_rows(mlp=[(0, mask)])


class Idle(Mutation):
    """Changes nothing."""

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        return genome


class Fixed(Sampling):
    """Dense models."""

    def draw(self, count: int, rng: np.random.Generator) -> list[Genome]:
        return [Genome.dense(architecture())] * count


def test_operators_of_the_definition_are_honoured() -> None:
    entries = [{"use": "mask", "literal": True, "tries": 7}, {"use": "ratio", "probability": 0.5}, f"{__file__}:Marked"]
    definition = paper(operators={"mutations": entries, "crossover": "one_point", "sampling": f"{__file__}:Fixed"})
    evolution = algorithm(definition, evaluator())
    for mutation, mask in ((evolution.mutation, 0.3), (evolution.strong, 0.6)):
        assert isinstance(mutation, GenomeMutation)
        first, second, third = mutation.mutations
        assert isinstance(first, MaskMutation)
        assert (first.literal, first.tries, first.probability, first.alpha) == (True, 7, mask, 0.8)
        assert second.probability == 0.5  # type: ignore[attr-defined]
        assert type(third).__name__ == "Marked"
    assert evolution.crossover.kind == "one_point"  # type: ignore[attr-defined]
    assert type(evolution.sampling).__name__ == "Fixed"
    infills = evolution.ask()
    assert 0.6 <= CostModel(architecture(), sequence_length=16)(infills[0].X[0]).inheriting_ratio <= 0.65


def test_arguments_arrive() -> None:
    arguments = {"parents": 3, "mutations": 5, "strong": 0, "mask_probability": 0.9, "alpha": 1, "temperature": 0.5}
    schedule = paper_schedule(section(population=40, algorithm_args=arguments))
    assert (schedule.parents, schedule.mutations, schedule.crossovers, schedule.strong) == (3, 5, 12, 0)
    assert (schedule.ordinary.mask_probability, schedule.stronger.mask_probability) == (0.9, 0.6)
    assert {schedule.ordinary.alpha, schedule.stronger.alpha} == {1}
    assert {schedule.ordinary.temperature, schedule.stronger.temperature} == {0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mutation": 3}, r'algorithm_args\.mutation is unknown for paper; did you mean "mutations"'),
        (
            {"xyz": 3},
            r"algorithm_args\.xyz is unknown for paper; known are parents, mutations, crossovers, strong, mask",
        ),
        ({"parents": 0}, r"parents = 0 should be a whole number above 0"),
        ({"parents": 2.5}, r"parents = 2\.5 should be a whole number above 0"),
        ({"mutations": -1}, r"mutations = -1 should be a whole number, 0 or more"),
        ({"strong": True}, r"strong = True should be a whole number, 0 or more"),
        ({"crossovers": "many"}, r"crossovers = 'many' should be a whole number, 0 or more"),
        ({"mask_probability": 1.5}, r"mask_probability = 1\.5 should be a number from 0 to 1"),
        ({"alpha": math.nan}, r"alpha = nan should be a number from 0 to 1"),
        ({"ratio_step": 0}, r"ratio_step = 0 should be a number above 0 and at most 1"),
        ({"temperature": -1.0}, r"temperature = -1\.0 should be a number, 0 or more, or inf"),
        ({"mutations": 0, "crossovers": 0, "strong": 0}, r"mutations, crossovers, strong all 0"),
        ({"parents": 1, "crossovers": 3}, r"parents = 1 leaves nobody to cross"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_algorithm(section(algorithm_args=arguments), CostConstraints())
    with pytest.raises(ConfigError, match=message):
        search(tmp_path, paper(algorithm_args=arguments))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("targets", "constraints", "message"),
    [
        ((), {}, "looks at quality alone.*one ratio in search.target_ratios, or constraints.max_ratio"),
        ((), {"min_ratio": 0.5}, "looks at quality alone"),
        ((0.8, 0.6), {"max_ratio": 0.9}, r"at one ratio; search\.target_ratios has 0\.8, 0\.6: give one"),
    ],
)
def test_a_search_without_one_window_is_refused(
    targets: tuple[float, ...], constraints: dict[str, Any], message: str
) -> None:
    bounds = CostConstraints(ConstraintSection(**constraints))
    with pytest.raises(ConfigError, match=message):
        check_algorithm(section(target_ratios=targets), bounds)


@pytest.mark.parametrize("key", ["max_ratio", "max_macs_per_token", "max_params", "max_kv_cache_bytes"])
def test_any_upper_bound_is_a_window(key: str) -> None:
    bounds = CostConstraints(ConstraintSection(**{key: 0.5 if key == "max_ratio" else 1000}))
    check_algorithm(section(target_ratios=()), bounds)


def test_it_runs_by_itself_too() -> None:
    judge = evaluator()
    evolution = algorithm(paper(), judge)
    for _ in range(4):
        evolution.next()
    assert len(judge.priced) == len(set(judge.priced)) == 80
    assert evolution.result().opt is not None
    # One parent that no operator changes any more: nothing new turns up.
    idle = algorithm(paper(operators={"mutations": [f"{__file__}:Idle"]}), evaluator())
    idle.run()
    assert not idle.has_next()
