"""A session under plain pymoo, on the packaged test model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.optimize import minimize

import nas_llm
from nas_llm.errors import ConfigError, ExportError, RunError, SpaceError
from nas_llm.events import Event, GenerationFinished
from nas_llm.front import non_dominated
from nas_llm.runs import open_run
from nas_llm.search import GenomeMutation, GuidedMutation
from nas_llm.session import Session
from nas_llm.space import Genome

SMALL = ["fitness.weights=inherited", "data.fitness.tokens=512", "data.held_out.tokens=512"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, object, list[Event]]]:
    """A session after one plain search, its result, and what was told."""
    events: list[Event] = []
    directory = tmp_path_factory.mktemp("session") / "run"
    with Session("tiny-llama", directory=directory, overrides=SMALL, on_event=events.append) as session:
        result = minimize(
            session.problem(),
            NSGA2(pop_size=16, n_offsprings=8, **session.operators()),
            ("n_eval", 40),
            seed=1,
            save_history=True,
            callback=session.callback(),
        )
        yield session, result, events


Searched = tuple[Session, "object", list[Event]]


def test_values_come_back_raw_and_lie_in_the_history(searched: Searched) -> None:
    session, result, _ = searched
    names = session.definition.objectives
    known = {row.digest: [row.objectives[name] for name in names] for row in session.evaluations}
    genomes = [genome for (genome,) in result.X]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(result.F, [known[genome.digest()] for genome in genomes])  # type: ignore[attr-defined]
    assert len(known) == 40
    rows = np.array(list(known.values()))
    best = rows[non_dominated(rows)]
    np.testing.assert_array_equal(np.unique(result.F, axis=0), np.unique(best, axis=0))  # type: ignore[attr-defined]


def test_guided_mutation_learns_under_plain_minimize(searched: Searched) -> None:
    """The algorithm that pymoo has run is a copy; its guided mutation holds what the session learned, and acts."""
    _, result, _ = searched
    mutation = result.algorithm.mating.mutation.operator  # type: ignore[attr-defined]
    assert isinstance(mutation, GenomeMutation)
    (guided,) = (part for part in mutation.mutations if isinstance(part, GuidedMutation))
    assert guided.model.fitted
    genome = result.X[0][0]  # type: ignore[attr-defined]
    children = {guided(genome, rng=np.random.default_rng(seed)).digest() for seed in range(20)}
    assert len(children - {genome.digest()}) > 5


def test_the_callback_tells_of_every_generation(searched: Searched) -> None:
    _, _, events = searched
    told = [event for event in events if isinstance(event, GenerationFinished)]
    assert [event.evaluations for event in told] == [16, 24, 32, 40]
    assert all(first.hypervolume <= second.hypervolume for first, second in pairwise(told))
    assert [row.generation for row in searched[0].evaluations] == [1] * 16 + [2] * 8 + [3] * 8 + [4] * 8


def test_nothing_is_evaluated_twice(searched: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    session = searched[0]
    rows = session.evaluations

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr(session._evaluator, "evaluate", forbidden)
    again = session.evaluate([rows[3].genome, rows[1].genome, rows[3].genome])
    assert [row.ordinal for row in again] == [rows[3].ordinal, rows[1].ordinal, rows[3].ordinal]


def test_genomes_outside_of_the_space_are_not_run(searched: Searched) -> None:
    session = searched[0]
    dense = Genome.dense(session.prepared.dense.architecture)
    empty = dense.with_rows(mlp=[(layer, np.zeros_like(row)) for layer, row in enumerate(dense.mlp_mask)])
    before = len(session.evaluations)
    column = np.empty((1, 1), dtype=object)
    column[0, 0] = empty
    out = session.problem().evaluate(column, return_as_dictionary=True)
    assert len(session.evaluations) == before
    assert out["G"].max() > 0
    assert np.isfinite(out["F"]).all()
    assert out["F"][0, 0] > 1e6
    with pytest.raises(SpaceError):
        session.evaluate([Genome(np.ones((2, 2), dtype=bool), np.ones((2, 4), dtype=bool))])


def test_its_directory_is_a_run_for_the_commands(searched: Searched) -> None:
    session = searched[0]
    front = session.front()
    run = open_run(session.directory)
    assert run.front.to_json() == front.to_json()
    assert (session.directory / "report.html").is_file()
    assert all(point.held_out_perplexity for point in front.points)
    some = session.front(session.evaluations[:10])
    assert {point.digest for point in some.points} <= {row.digest for row in session.evaluations[:10]}


def test_a_genome_is_finished_and_exported(searched: Searched, tmp_path: Path) -> None:
    session = searched[0]
    genome = min(session.evaluations, key=lambda row: row.cost.params).genome
    (finished,) = session.finish([genome])
    assert sum(parameter.numel() for parameter in finished.model.parameters()) == finished.cost.params
    assert {row["projection"] for row in finished.residuals} >= {"mlp.down_proj", "self_attn.o_proj"}
    exported = session.export(genome, tmp_path / "model")
    reloaded, _ = nas_llm.load(exported.path)
    for name, weight in finished.model.state_dict().items():
        assert torch.equal(weight, reloaded.state_dict()[name])
    assert nas_llm.load_genome(exported.path) == genome
    said = json.loads((exported.path / "nas_llm.json").read_text(encoding="utf-8"))
    assert said["perplexities"]["held_out"]["subnet"] == exported.held_out_perplexity
    dense = session.front().dense
    assert dense.held_out_perplexity == pytest.approx(said["perplexities"]["held_out"]["dense"], rel=1e-6)
    assert exported.texts
    for kind, value in exported.texts.items():
        assert said["perplexities"][kind] == {"dense": pytest.approx(dense.texts[kind], rel=1e-6), "subnet": value}
    # The front measures the same masks before they are finished: finishing has to help.
    assert exported.held_out_perplexity < 1e4
    with pytest.raises(ExportError, match="exists; name another place"):
        session.export(genome, tmp_path / "model")
    with pytest.raises(ConfigError, match="did you mean"):
        session.export(genome, tmp_path / "other", format="ggfu")
    assert not (tmp_path / "other").exists()


def test_an_export_that_fails_leaves_nothing(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = searched[0]
    genome = session.evaluations[0].genome

    def unlike(model: object, directory: Path, *others: object) -> None:
        assert (directory / "config.json").is_file()
        raise ExportError("it does not reload to what was written")

    monkeypatch.setattr("nas_llm.session.subnets._subnets.check_reload", unlike)
    with pytest.raises(ExportError, match="does not reload"):
        session.export(genome, tmp_path / "models" / "mine")
    assert list((tmp_path / "models").iterdir()) == []


def test_it_is_locked_and_goes_on_where_it_was(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with Session("tiny-llama", directory=directory, overrides=SMALL) as session:
        genome = Genome.dense(session.prepared.dense.architecture)
        (first,) = session.evaluate([genome])
        with pytest.raises(RunError, match="in use by this process"):
            Session("tiny-llama", directory=directory, overrides=SMALL)
    with Session("tiny-llama", directory=directory, overrides=SMALL) as session:
        assert [row.objectives for row in session.evaluations] == [first.objectives]
    with pytest.raises(RunError, match="was started with another problem: data.fitness.tokens"):
        Session("tiny-llama", directory=directory, overrides=[*SMALL, "data.fitness.tokens=1024"])


def test_without_a_directory_nothing_stays(tmp_path: Path) -> None:
    with Session("tiny-llama", overrides=SMALL) as session:
        directory = session.directory
        assert (directory / "problem.toml").is_file()
        with pytest.raises(RunError, match="has evaluated no genome"):
            session.front()
    assert not directory.exists()


def test_the_same_seed_gives_the_same_history_with_another_algorithm(tmp_path: Path) -> None:
    histories = []
    for name in ("a", "b"):
        with Session("tiny-llama", directory=tmp_path / name, overrides=SMALL) as session:
            minimize(session.problem(), SPEA2(pop_size=12, **session.operators()), ("n_gen", 3), seed=7)
            histories.append([(row.ordinal, row.digest, dict(row.objectives)) for row in session.evaluations])
    assert len(histories[0]) > 20
    assert histories[0] == histories[1]


def test_bad_input_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="neither a run nor an empty directory"):
        Session("tiny-llama", directory=tmp_path / "full")
    with pytest.raises(ConfigError, match='did you mean "uniform"'):
        Session("tiny-llama", directory=tmp_path / "new", overrides=["search.operators.crossover=unifrm"])
    assert not (tmp_path / "new").exists()
