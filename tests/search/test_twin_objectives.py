"""A stranger's cost that says the same as one of the package's own: the search must not tell them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_search import SyntheticEvaluator, architecture, problem, unit_scores

from nas_llm.config import Problem, load_objectives
from nas_llm.errors import ConfigError, SpaceError
from nas_llm.search import (
    GuidedMutation,
    History,
    Search,
    SearchResult,
    SensitivityModel,
    SubnetProblem,
    normalised_hypervolume,
)
from nas_llm.space import CostConstraints, CostModel, Genome, SearchSpace, objective

TWINS = """
from nas_llm.space import CostModel, CostObjective


class Macs(CostObjective):
    name = "twin_macs"
    additive = True

    def __init__(self, architecture):
        super().__init__(architecture)
        self.model = CostModel(architecture, sequence_length=16)

    def __call__(self, genome):
        return self.model(genome).macs_per_token


class Params(Macs):
    name = "twin_params"

    def __call__(self, genome):
        return self.model(genome).params
"""
OWN = ("macs_per_token", "params")
NAMES = {"macs_per_token": "twin_macs", "params": "twin_params"}
REFERENCES = {"macs_per_token": "twins.py:Macs", "params": "twins.py:Params"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("twins")
    (directory / "twins.py").write_text(TWINS, encoding="utf-8")
    return directory


def run(
    directory: Path, definition: Problem, base_dir: Path, *, resume: bool = False, **arguments: Any
) -> SearchResult:
    sizes = architecture()
    records = load_objectives(definition.objectives, base_dir=base_dir)
    return Search(
        problem=definition,
        space=SearchSpace(sizes, ffn_multiple=4, min_attn_layers=5, min_mlp_layers=5),
        cost_model=CostModel(
            sizes, sequence_length=16, further=[record.model for record in records if record.model is not None]
        ),
        scores=unit_scores(sizes),
        evaluator=SyntheticEvaluator(unit_scores(sizes)),
        directory=directory,
        **arguments,
    ).run(resume=resume)


def drawn(rng: np.random.Generator) -> Genome:
    return Genome(rng.random((10, 3)) < 0.8, rng.random((10, 64)) < rng.random())


def rows(result: SearchResult) -> list[tuple[object, ...]]:
    return [
        (row.ordinal, row.generation, row.digest, *row.objectives.values(), row.cost.macs_per_token)
        for row in result.evaluations
    ]


@pytest.mark.parametrize("costs", [("macs_per_token",), OWN])
def test_a_twin_of_a_built_in_cost_gives_the_same_history(tmp_path: Path, folder: Path, costs: tuple[str, ...]) -> None:
    # Guided moves are made in most of the 88 evaluations, at the unit costs of these objectives.
    own = run(tmp_path / "own", problem(evaluations=88, objectives=("perplexity", *costs)), folder)
    twins = problem(evaluations=88, objectives=("perplexity", *(REFERENCES[name] for name in costs)))
    twin = run(tmp_path / "twin", twins, folder)
    assert rows(twin) == rows(own)
    assert twin.hypervolume == own.hypervolume
    assert [row.digest for row in twin.front] == [row.digest for row in own.front]
    assert {NAMES.get(name, name): value for name, value in own.dense.items()} == twin.dense
    for row in twin.evaluations:
        assert row.cost.further == {NAMES[name]: getattr(row.cost, name) for name in costs}


def test_a_resumed_search_ends_where_an_unbroken_one_does(tmp_path: Path, folder: Path) -> None:
    def definition(evaluations: int) -> Problem:
        return problem(evaluations=evaluations, objectives=("perplexity", "twins.py:Macs", "kv_cache_bytes"))

    whole = run(tmp_path / "whole", definition(48), folder)
    asked = iter(range(1, 100))
    stopped = run(tmp_path / "parts", definition(48), folder, should_stop=lambda: next(asked) > 21)
    assert stopped.interrupted
    assert len(stopped.evaluations) < 48
    resumed = run(tmp_path / "parts", definition(48), folder, resume=True)
    assert rows(resumed) == rows(whole)
    with History(tmp_path / "parts" / "history.sqlite", read_only=True) as history:
        assert history.objectives == ("perplexity", "twin_macs", "kv_cache_bytes")
        assert [row.cost for row in history.rows()] == [row.cost for row in whole.evaluations]


def test_guided_moves_keep_a_twin_cost_as_they_keep_the_built_in_one(folder: Path) -> None:
    sizes, scores = architecture(num_layers=10), unit_scores(architecture(num_layers=10))
    space = SearchSpace(sizes, ffn_multiple=4)
    (record,) = load_objectives(["twins.py:Macs"], base_dir=folder)
    assert record.model is not None
    model = CostModel(sizes, sequence_length=16, further=[record.model])
    assert model.unit_costs("twin_macs") == model.unit_costs("macs_per_token")
    learned = SensitivityModel(sizes)
    rng = np.random.default_rng(0)
    truth = rng.lognormal(size=20)
    genomes = [drawn(rng) for _ in range(80)]
    learned.fit((g.digest(), g, float(learned.features(g) @ truth)) for g in genomes)
    for prices in (["macs_per_token"], ["macs_per_token", "kv_cache_bytes"]):
        children = []
        for names in (prices, ["twin_macs", *prices[1:]]):
            guided = GuidedMutation(space, scores, model, learned, prices=names, probability=1.0)
            children.append([guided(genome, rng=np.random.default_rng(7)).digest() for genome in genomes])
        assert children[0] == children[1]
        assert children[0] != [genome.digest() for genome in genomes]


def test_the_hypervolume_counts_further_costs_as_shares() -> None:
    found = [[15.0, 400.0], [12.0, 700.0]]
    own = normalised_hypervolume(found, ("perplexity", "params"), {"perplexity": 10.0, "params": 1000.0})
    assert normalised_hypervolume(found, ("perplexity", "heat"), {"perplexity": 10.0, "heat": 1000.0}) == own


def test_a_cost_model_that_does_not_know_an_objective_is_refused() -> None:
    sizes = architecture()
    arguments: dict[str, Any] = {
        "space": SearchSpace(sizes, ffn_multiple=4),
        "cost_model": CostModel(sizes, sequence_length=16),
        "constraints": CostConstraints(),
        "evaluator": SyntheticEvaluator(unit_scores(sizes)),
    }
    with pytest.raises(SpaceError, match="the cost 'heat' is not known here; known are block_params"):
        SubnetProblem(objectives=("perplexity", "heat"), **arguments)
    with pytest.raises(ConfigError, match="the objective latency needs a latency table"):
        SubnetProblem(objectives=("perplexity", "latency"), **arguments)
    with pytest.raises(ConfigError, match="exactly one of perplexity, kl"):
        SubnetProblem(objectives=("heat", "params"), **arguments)
    assert objective("heat").kind == "cost"
