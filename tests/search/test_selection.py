from __future__ import annotations

from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.population import Population
from synthetic_search import architecture

from nas_llm.search import AssortativeSelection, DigestDuplicates, genome_column
from nas_llm.space import Genome


def evaluated(count: int) -> Any:
    rng = np.random.default_rng(0)
    cost = rng.permutation(count) / count
    population = Population.new("X", genome_column([Genome.dense(architecture())] * count))
    population.set("F", np.column_stack([1.0 - cost, cost]), "G", np.zeros((count, 1)))
    for individual in population:
        individual.set("rank", 0)
        individual.set("crowding", 1.0)
    return population


def test_partners_are_neighbours_in_cost_and_everybody_stays_selected() -> None:
    population = evaluated(40)
    algorithm = NSGA2(pop_size=40)
    algorithm.random_state = np.random.default_rng(5)
    paired = AssortativeSelection(NSGA2, objective=1)
    pairs = paired(
        None, population, 20, n_parents=2, random_state=np.random.default_rng(1), algorithm=algorithm, to_pop=False
    )
    algorithm.random_state = np.random.default_rng(5)
    plain = paired.inner(
        None, population, 20, n_parents=2, random_state=np.random.default_rng(1), algorithm=algorithm, to_pop=False
    )
    assert pairs.shape == (20, 2)
    assert sorted(pairs.ravel().tolist()) == sorted(plain.ravel().tolist())
    cost = population.get("F")[:, 1]
    assert np.abs(np.diff(cost[pairs], axis=1)).mean() < 0.2 * np.abs(np.diff(cost[plain], axis=1)).mean()
    assert not (np.diff(cost[pairs].mean(axis=1)) >= 0).all()


def test_duplicates_within_against_others_and_seen() -> None:
    dense = Genome.dense(architecture())
    a, b, c = (dense.with_rows(mlp=[(layer, np.arange(64) < 32)]) for layer in range(3))

    def population(*genomes: Genome) -> Any:
        return Population.new("X", genome_column(list(genomes)))

    def kept(result: Any) -> list[Genome]:
        return [individual.X[0] for individual in result]

    duplicates = DigestDuplicates()
    assert kept(duplicates.do(population(a, b, Genome(a.attn_mask, a.mlp_mask), c))) == [a, b, c]
    assert kept(duplicates.do(population(a, b, c), population(b), population(c))) == [a]
    duplicates.complete([a.digest()])
    assert kept(duplicates.do(population(a, b), population(c))) == [b]
    assert len(duplicates.do(population(a))) == 0
