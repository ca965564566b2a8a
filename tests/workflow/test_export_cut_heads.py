"""Points whose heads keep some of their channels: exported, converted and trained, or refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result
from whole_fronts import make_run

from nas_llm.cli import app
from nas_llm.errors import ConfigError, ExportError
from nas_llm.evaluation import load
from nas_llm.models import load_model
from nas_llm.subnet import build_subnet
from nas_llm.workflow import Run, load_genome

QUICK = ("--method", "none")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "heads", mode="head_dim_split")


@pytest.fixture(scope="module")
def exports(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "models"
    done = cli("export", run.directory, "--point", "p04", "--format", "hf,gguf,decilm", "--pad", "--out", out, *QUICK)
    assert done.exit_code == 0, done.stderr
    return out


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_refused_formats_are_not_worked_for(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(*arguments: object, **options: object) -> Any:
        raise AssertionError("a point was finished for nothing")

    monkeypatch.setattr("nas_llm.finishing.Finisher.finish", finish)
    done = cli("export", run.directory, "--point", "p04", "--format", "gguf,decilm", "--out", tmp_path / "out")
    assert done.exit_code == 2
    for format in ("gguf", "decilm"):
        assert f"error: p04/{format}: layers 0-5: heads that keep some of their channels only" in done.stderr
    assert "--pad fills them up with zeros, hf takes them as they are" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_written_all_the_same(run: Run, tmp_path: Path) -> None:
    done = cli("export", run.directory, "--point", "p04", "--format", "hf,gguf", "--out", tmp_path / "out", *QUICK)
    assert done.exit_code == 2
    assert "error: p04/gguf: layers 0-5" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "p04").iterdir()) == ["hf"]


def test_padded_files_are_told_apart(run: Run, exports: Path) -> None:
    index = json.loads((exports / "front.json").read_text())
    assert {form: entry.get("heads") for form, entry in index["exports"]["p04"].items()} == {
        "hf": None,
        "gguf": "padded",
        "decilm": "padded",
    }
    (point,) = (point for point in run.front.points if point.id == "p04")
    (entry,) = (entry for entry in index["points"] if entry["id"] == "p04")
    assert entry["layers"] == list(point.genome.layer_sizes())
    table = (exports / "README.md").read_text()
    assert "[gguf, f16, padded heads](p04/gguf)" in table
    assert "[hf, keep](p04/hf)" in table
    for form in ("gguf", "decilm"):
        card = (exports / "p04" / form / "README.md").read_text()
        assert "## What this file does not save" in card
        assert f"--format {form} " in card
        assert "--pad" in card
    assert "--pad" not in (exports / "p04" / "hf" / "README.md").read_text()


def test_said_again_nothing_is_done_and_without_padding_it_is_another_export(run: Run, exports: Path) -> None:
    words = ("export", run.directory, "--point", "p04", "--format", "gguf", "--out", exports, *QUICK)
    again = cli(*words, "--pad")
    assert again.exit_code == 0
    assert "p04/gguf is already exported" in again.stderr
    other = cli(*words)
    assert other.exit_code == 2
    assert "was exported with heads padded, it is now unset" in other.stderr


def test_points_of_whole_heads_take_no_notice(run: Run, tmp_path: Path) -> None:
    words = ("export", run.directory, "--point", "p01", "--format", "gguf", *QUICK)
    for name, more in (("plain", ()), ("padded", ("--pad",))):
        assert cli(*words, "--out", tmp_path / name, *more).exit_code == 0
    plain, padded = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "p01" / "gguf").iterdir()}
        for name in ("plain", "padded")
    )
    assert plain == padded


def test_a_format_that_pads_nothing_is_no_reason_to_load_a_model(run: Run, tmp_path: Path) -> None:
    done = cli("export", run.directory, "--point", "p04", "--pad", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: pad is for the formats gguf and decilm; hf is written without")
    assert not (tmp_path / "out").exists()


def test_an_export_is_converted_with_padding_alone(exports: Path, tmp_path: Path) -> None:
    words = ("convert", exports / "p04" / "hf", "--format", "decilm", "--output", tmp_path / "d")
    refused = cli(*words)
    assert refused.exit_code == 2
    assert "error: decilm: layers 0-5: heads that keep some of their channels only" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    assert cli(*words, "--pad").exit_code == 0
    ways = exports / "p04" / "decilm", tmp_path / "d"
    found, wanted = (load_file(way / "model.safetensors") for way in ways)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())
    found, wanted = (json.loads((way / "nas_llm.json").read_text())["padding"] for way in ways)
    assert found == wanted


def test_an_export_is_trained_and_stays_what_it_is(exports: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (pip install 'nas-llm[posttrain]')")
    sample = Path(__file__).parents[2] / "nas_llm" / "data" / "samples" / "tiny-llama.jsonl"
    source, target = exports / "p04" / "hf", tmp_path / "tuned"
    steps = ("--steps", 2, "--window", 64, "--batch", 2)
    done = cli("posttrain", source, "--text", sample, "--tokens", "1k", *steps, "--output", target)
    assert done.exit_code == 0, done.stderr
    before, after = (load(directory)[0] for directory in (source, target))
    kept = {name: value for name, value in before.state_dict().items() if name.endswith("kept_units")}
    assert kept
    assert all(torch.equal(after.state_dict()[name], value) for name, value in kept.items())
    assert {name: value.dtype for name, value in after.state_dict().items()} == {
        name: value.dtype for name, value in before.state_dict().items()
    }
    assert not torch.equal(before(torch.arange(9)[None]).logits, after(torch.arange(9)[None]).logits)
    assert load_genome(target) == load_genome(source)
    assert (target / "config.json").read_bytes() == (source / "config.json").read_bytes()


def test_the_export_has_the_logits_of_the_subnet(run: Run, exports: Path) -> None:
    (point,) = (point for point in run.front.points if point.id == "p04")
    model, _ = load(exports / "p04" / "hf")
    assert torch.equal(
        model(torch.arange(20)[None]).logits,
        build_subnet(load_model("tiny-llama"), point.genome)(torch.arange(20)[None]).logits,
    )


def test_a_session_refuses_before_it_finishes(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from whole_fronts import SETTINGS

    from nas_llm import Session

    (point,) = (point for point in run.front.points if point.id == "p04")
    with Session("tiny-llama", overrides=[*SETTINGS, "reconstruction.method=none"]) as session:
        with monkeypatch.context() as patch:
            patch.setattr("nas_llm.finishing.Finisher.finish", None)
            with pytest.raises(ExportError, match=r"p04 has no form in gguf: layers 0-5.*--pad"):
                session.export(point, tmp_path / "m", format="gguf")
            with pytest.raises(ConfigError, match="pad is for the formats"):
                session.export(point, tmp_path / "m", pad=True)
        assert list(tmp_path.iterdir()) == []
        session.export(point, tmp_path / "m", format="gguf", dtype="f32", pad=True)
    assert "padding" in json.loads((tmp_path / "m" / "nas_llm.json").read_text())
