"""What a front says of its points: times dense by kind of text, and the best uniform model beside each."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn import functional
from whole_fronts import make_run

from nas_llm import display
from nas_llm.cli.terminal import belief_table, export_table, reconstruction_table
from nas_llm.config import load_problem
from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError
from nas_llm.events import Event, Notice, ignore
from nas_llm.front import Front, FrontPoint, UniformBaseline, texts_table
from nas_llm.runs import open_run
from nas_llm.session import Session, prepare
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet
from nas_llm.workflow import export_points, reconstruct_points

SMALL = (
    "fitness.weights=inherited",
    "data.window=64",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    'data.held_out={tokens=512, sources=[{source="self"}, {source="auto", kind="letters"}]}',
    'data.off_text={tokens=256, sources=[{source="auto", kind="letters", weight=2}]}',
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Front, list[Event]]:
    """A front of a few genomes on the packaged test model."""
    events: list[Event] = []
    session = Session(
        "tiny-llama", directory=tmp_path_factory.mktemp("texts") / "run", overrides=SMALL, on_event=events.append
    )
    with session:
        shape, rng = session.prepared.dense.architecture, np.random.default_rng(0)
        genomes = [Genome.dense(shape)]
        for _ in range(6):
            attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
            mlp = np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool)
            for row in mlp:
                row[: 16 * int(rng.integers(2, shape.intermediate_size // 16))] = True
            genomes.append(Genome(attn, mlp))
        session.evaluate(genomes)
        yield session, session.front(), events


Scored = tuple[Session, Front, list[Event]]


def _perplexity(session: Session, genome: Genome, windows: WindowSet, places: range) -> float:
    ids = torch.from_numpy(windows.tokens[list(places)])
    logits = build_subnet(session.prepared.dense, genome).float()(ids).logits[:, :-1]
    return float(functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).exp())


def test_every_kind_is_what_transformers_says(scored: Scored) -> None:
    session, front, _ = scored
    splits = session.prepared.splits
    assert splits.off_text is not None
    assert list(front.dense.texts) == [*splits.held_out.kinds, *splits.off_text.kinds] or len(front.dense.texts) == 2
    for point in (front.dense, *front.points):
        for windows in (splits.off_text, splits.held_out):
            for kind, places in windows.kinds.items():
                if windows is splits.held_out and kind in splits.off_text.kinds:
                    continue
                assert point.texts[kind] == pytest.approx(_perplexity(session, point.genome, windows, places), rel=1e-3)
        everything = range(len(splits.held_out.tokens))
        expected = _perplexity(session, point.genome, splits.held_out, everything)
        assert point.held_out_perplexity == pytest.approx(expected, rel=1e-3)
    assert front.data["off_text"]["digest"] == splits.off_text.digest()


def test_the_uniform_model_is_the_better_one_of_its_size(scored: Scored) -> None:
    _session, front, events = scored
    for point in front.points:
        assert point.uniform is not None
        assert point.uniform.inheriting_ratio <= point.cost.inheriting_ratio + 1e-9
        assert point.uniform.texts.keys() == point.texts.keys()
        if point.cost.inheriting_ratio == 1.0:
            assert point.uniform.held_out_perplexity == pytest.approx(point.held_out_perplexity)
    assert any(isinstance(event, Notice) and "uniform" in event.message for event in events) == any(
        "uniform" in warning for warning in front.warnings
    )


def test_it_is_all_in_the_file_and_in_the_table(scored: Scored) -> None:
    _, front, _ = scored
    again = Front.from_json(front.to_json())
    assert again == front
    heads, rows = texts_table(again, again.points)
    assert heads[0] == "held-out"
    assert heads[-3:] == ["uniform", "worth", "worth, least"]
    assert [row[0] for row in rows] == [point.id for point in front.points]
    assert all(len(row) == len(heads) + 1 for row in rows)
    point, row = front.points[-1], rows[-1]
    assert point.uniform is not None
    assert row[1] == f"{point.held_out_perplexity / front.dense.held_out_perplexity:.3f}"
    assert row[-2] == f"{100 * (1 - point.held_out_perplexity / point.uniform.held_out_perplexity):+.1f} %"


def test_the_terminal_shows_points_side_by_side(scored: Scored) -> None:
    _, front, _ = scored
    table = belief_table(front, front.points)
    assert table is not None
    heads, rows = texts_table(front, front.points)
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for place, head in enumerate(heads, start=1):
        line = next(line for line in shown.splitlines() if line.strip().startswith(f"{head} "))
        assert line.split()[len(head.split()) :] == " ".join(row[place] for row in rows).split()
    assert "letters" in shown
    assert "self + auto (letters), 8 windows" in display.text_of(front.data["held_out"])


def test_exports_and_finishes_say_it_too(scored: Scored, tmp_path: Path) -> None:
    """Of the finished weights: in the record, the card, the index and the terminal."""
    session, front, _ = scored
    run = open_run(session.directory)
    point = run.front.points[-1]
    (record,) = export_points(run, [point], out=tmp_path / "exports", method="closed_form")
    assert record.texts.keys() == front.dense.texts.keys()
    card = (record.path / "README.md").read_text(encoding="utf-8")
    for kind, value in record.texts.items():
        dense = front.dense.texts[kind]
        assert f"| {kind} | {dense:.3f} | {value:.3f} | {value / dense:.3f} |" in card
    index = json.loads((tmp_path / "exports" / "front.json").read_text(encoding="utf-8"))
    assert index["exports"][point.id]["hf"]["texts"] == dict(record.texts)
    caption = str(export_table(run.front, [record]).caption)
    assert f"{point.id} times dense: " in caption
    (refit,) = reconstruct_points(run, [point], method="closed_form")
    assert refit.texts.keys() == front.dense.texts.keys()
    assert {kind: after for kind, (_, after) in refit.texts.items()} == pytest.approx(dict(record.texts), rel=1e-3)
    assert f"{point.id} times dense: " in str(reconstruction_table(run.front, [refit]).caption)


def test_fronts_of_earlier_versions_have_no_kinds(tmp_path: Path) -> None:
    front = make_run(tmp_path / "run").front
    assert front.warnings == ()
    assert texts_table(front, front.points)[1] == []


def _judged(tmp_path: Path, held_out: float, texts: dict[str, float], uniform: dict[str, float]) -> tuple[str, ...]:
    """Warnings about a point whose dense model has 10 everywhere; ``uniform[""]`` is its held-out perplexity."""
    front = make_run(tmp_path / "run").front
    baseline = UniformBaseline(
        allocation="everything",
        inheriting_ratio=0.5,
        quality=1.0,
        held_out_perplexity=uniform[""],
        texts={kind: value for kind, value in uniform.items() if kind},
    )
    dense: FrontPoint = replace(front.dense, held_out_perplexity=10.0, texts=dict.fromkeys(texts, 10.0))
    point = replace(front.points[1], held_out_perplexity=held_out, texts=texts, uniform=baseline)
    return replace(front, dense=dense, points=(point,)).warnings


@pytest.mark.parametrize(
    ("held_out", "texts", "uniform", "said"),
    [
        (12.0, {"a": 12.0, "b": 13.0}, {"": 13.0, "a": 13.0, "b": 14.0}, []),
        (12.0, {"a": 12.0, "b": 13.0}, {"": 12.0, "a": 12.0, "b": 14.0}, ["no better than the best uniform model"]),
        (12.0, {"a": 12.0, "b": 14.7}, {"": 13.0, "a": 13.0, "b": 14.0}, ["8 % better, 5 % worse on b"]),
        (12.0, {"a": 12.0, "b": 17.5}, {"": 13.0, "a": 13.0, "b": 18.0}, ["1.20 on held-out text, 1.75 on b"]),
    ],
)
def test_points_that_only_look_good_are_named(
    tmp_path: Path, held_out: float, texts: dict[str, float], uniform: dict[str, float], said: list[str]
) -> None:
    warnings = _judged(tmp_path, held_out, texts, uniform)
    assert len(warnings) == len(said)
    for warning, part in zip(warnings, said, strict=True):
        assert part in warning
        assert "p02" in warning


def test_off_text_can_be_left_out_and_is_checked(tmp_path: Path) -> None:
    loaded = load_problem("tiny-llama", overrides=["data.off_text.tokens=0", "data.calibration.tokens=1024"])
    assert prepare(loaded.problem, base_dir=loaded.base_dir, on_event=ignore).splits.off_text is None
    with pytest.raises(ConfigError, match=r"data\.off_text\.tokens = -3 should be greater than or equal to 0"):
        load_problem("tiny-llama", overrides=["data.off_text.tokens=-3"])
