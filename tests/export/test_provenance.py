"""``nas_llm.json`` is read by one rule: what is damaged is said before anything is measured or trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_exports import irregular_export
from typer.testing import CliRunner

from nas_llm.cli import app
from nas_llm.errors import ModelError
from nas_llm.evaluation import load
from nas_llm.events import Event, StageStarted
from nas_llm.export import PROVENANCE_FILE, read_provenance
from nas_llm.posttrain import PosttrainSettings
from nas_llm.workflow import PosttrainTexts, convert_export, evaluate_models, posttrain_export

SAMPLE = str(Path(__file__).parents[2] / "nas_llm" / "data" / "samples" / "tiny-llama.jsonl")
DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], str | bytes], str]] = {
    "empty": (lambda document: "", "it is no JSON"),
    "half": (lambda document: json.dumps(document)[:40], "it is no JSON"),
    "bytes": (lambda document: b"\xff\xfe{", "it is no JSON"),
    "list": (lambda document: "[]", r"it should hold an object, not \[\]"),
    "null": (lambda document: "null", "it should hold an object, not null"),
    "without": (lambda document: json.dumps({"inheriting_ratio": 0.5}), "it has no base_model, a name"),
    "base": (lambda document: json.dumps(document | {"base_model": 3}), "base_model should be a name, not 3"),
    "no name": (lambda document: json.dumps(document | {"base_model": ""}), 'base_model should be a name, not ""'),
    "ratio": (
        lambda document: json.dumps(document | {"inheriting_ratio": "half"}),
        'inheriting_ratio should be a number above 0, not "half"',
    ),
    "true": (lambda document: json.dumps(document | {"inheriting_ratio": True}), "a number above 0, not true"),
    "params": (lambda document: json.dumps(document | {"block_params": [1]}), r"block_params should be .*, not \[1\]"),
    "seed": (lambda document: json.dumps(document | {"seed": "x"}), 'seed should be a whole number, not "x"'),
    "length": (lambda document: json.dumps(document | {"sequence_length": None}), "sequence_length should be a whole"),
    "texts": (lambda document: json.dumps(document | {"texts": []}), r"texts should be an object, not \[\]"),
    "stages": (lambda document: json.dumps(document | {"posttraining": {}}), "posttraining should be a list, not {}"),
    "perplexities": (lambda document: json.dumps(document | {"perplexities": None}), "should be an object, not null"),
}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return irregular_export(tmp_path_factory.mktemp("p03") / "hf")


@pytest.fixture
def broken(export: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(export, tmp_path / "hf"))


def write(directory: Path, name: str) -> str:
    """Damage the record in one way; returns what is to be said."""
    path = directory / PROVENANCE_FILE
    change, said = DAMAGED[name]
    content = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"{PROVENANCE_FILE} is damaged: .*{said}.*; export the point again"


def test_what_an_export_says_and_what_is_none(export: Path, tmp_path: Path) -> None:
    document = read_provenance(export)
    assert document is not None
    assert document["base_model"] == "tiny-llama"
    assert read_provenance(tmp_path) is read_provenance(tmp_path / "nix") is None
    assert read_provenance(export / "config.json") is None


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line_that_says_where(name: str, broken: Path) -> None:
    said = write(broken, name)
    with pytest.raises(ModelError, match=said) as caught:
        read_provenance(broken)
    assert str(broken / PROVENANCE_FILE) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["half", "list", "base", "ratio", "seed"])
def test_evaluate_and_posttrain_refuse_it_before_they_begin(name: str, broken: Path, tmp_path: Path) -> None:
    said = write(broken, name)
    told: list[Event] = []
    with pytest.raises(ModelError, match=said):
        evaluate_models(["tiny-llama", str(broken)], text=SAMPLE, window=64, windows=1, on_event=told.append)
    assert told == []
    texts, settings = PosttrainTexts(text=SAMPLE, window=64), PosttrainSettings(method="full", steps=1)
    with pytest.raises(ModelError, match=said):
        posttrain_export(broken, texts, settings, output=tmp_path / "m", on_event=told.append)
    assert [event.stage for event in told if isinstance(event, StageStarted)] == ["model"]
    assert not (tmp_path / "m").exists()
    with pytest.raises(ModelError, match=said):
        convert_export(broken, "gguf", output=tmp_path / "m")
    # It has nothing to do with the weights.
    load(broken)


def test_the_ratio_is_that_of_the_record(export: Path) -> None:
    document = read_provenance(export)
    assert document is not None
    (row,) = evaluate_models([str(export)], text=SAMPLE, window=64, windows=1)
    assert row.inheriting_ratio == document["inheriting_ratio"]


def posttrain(export: Path, *words: str) -> tuple[int, str]:
    options = ("--text", SAMPLE, "--method", "full", "--steps", "1", "--window", "64", "--dtype", "float32")
    done = CliRunner().invoke(app, ["posttrain", str(export), *options, *words], catch_exceptions=False)
    return done.exit_code, done.stderr


def test_a_place_that_is_no_export_is_refused_in_the_same_words_with_and_without_force(
    export: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for name in ("mine", "file"):
        place = tmp_path / name
        said = f"error: {place} exists and is no export of nas-llm; name another place with --out\n"
        assert posttrain(export, "--output", str(place)) == (2, said)
        assert posttrain(export, "--output", str(place), "--force") == (2, said)
    assert (tmp_path / "mine" / "letter.txt").read_text() == (tmp_path / "file").read_text() == "dear"


def test_a_place_that_is_an_export_is_replaced_with_force(export: Path, broken: Path) -> None:
    code, said = posttrain(export, "--output", str(broken))
    mend = "replace it with --force or export to another place with --out"
    assert (code, said) == (2, f"error: {broken} exists; {mend}\n")
    assert posttrain(export, "--output", str(broken), "--force")[0] == 0
    assert "posttraining" in json.loads((broken / PROVENANCE_FILE).read_text(encoding="utf-8"))


def test_a_card_in_another_encoding_does_not_cost_the_training(broken: Path, tmp_path: Path) -> None:
    (broken / "README.md").write_bytes("# Für später\n\nSehr schön.\n".encode("latin-1"))
    assert posttrain(broken, "--output", str(tmp_path / "m"))[0] == 0
    assert "Sehr sch" in (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
