"""A damaged ``config.json`` is said to be one, with its place; files are hashed once, revisions are for hub names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nas_llm
from nas_llm.cli import app
from nas_llm.errors import ModelError
from nas_llm.evaluation import load_any
from nas_llm.models import PACKAGED_MODELS, hub_options, load_model, locate_model, read_config, resolve_model
from nas_llm.workflow import evaluate_models

LOADERS: dict[str, Callable[[Path], object]] = {
    "load_model": lambda path: load_model(str(path)),
    "offloaded": lambda path: load_model(str(path), offload=True),
    "load_any": lambda path: load_any(str(path)),
    "load": lambda path: nas_llm.load(path),
}
WHOLE = ("", "{", "[]", "null", "3", '"llama"', "\ufeff{}", "{}")
VALUES = (
    {"hidden_size": "x"},
    {"hidden_size": None},
    {"num_attention_heads": 0},
    {"num_hidden_layers": [1]},
    {"model_type": ["llama"]},
    {"model_type": 3},
    {"rope_parameters": 2.5},
    {"vocab_size": {}},
)
# Of no wrong type, or not looked at by transformers: some loaders have no use for them, to others they are impossible.
IMPOSSIBLE = ({"head_dim": 0}, {"dtype": 3}, {"num_key_value_heads": 0}, {"intermediate_size": -1})
TEXT = "A kite is tethered, and it flies because the wind lifts it. " * 20


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of the packaged test model that a test may break."""
    return Path(shutil.copytree(PACKAGED_MODELS["tiny-llama"].locate(), tmp_path / "model"))


def refused(load: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(path)
    said = str(caught.value)
    assert "\n" not in said
    assert "cannot find" not in said
    return said


@pytest.mark.parametrize("loader", list(LOADERS))
def test_a_damaged_configuration_is_named(loader: str, broken: Path) -> None:
    file = broken / "config.json"
    good = json.loads(file.read_text(encoding="utf-8"))
    for content in (*WHOLE, *(json.dumps(good | change) for change in VALUES)):
        file.write_text(content, encoding="utf-8")
        said = refused(LOADERS[loader], broken)
        assert f"{file} is damaged or of an unknown kind" in said
    for change in IMPOSSIBLE:
        file.write_text(json.dumps(good | change), encoding="utf-8")
        with suppress(ModelError):
            LOADERS[loader](broken)
    refused(LOADERS[loader], broken)


def test_evaluate_refuses_it_before_anything_is_measured(broken: Path, tmp_path: Path) -> None:
    (broken / "config.json").write_text("{", encoding="utf-8")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    words = ["evaluate", "tiny-llama", str(broken), "--text", str(tmp_path / "text.txt"), "--window", "64"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: cannot read the configuration of model '{broken}': {broken}/config.json is damaged"
    )
    assert done.stderr.count("\n") == 1


def test_revisions_are_for_hub_names(broken: Path) -> None:
    assert hub_options("some-org/some-model", "abc") == {"revision": "abc"}
    assert hub_options("some-org/some-model", None) == hub_options(str(broken), "abc") == {}
    assert load_model(str(broken), revision="no-such").revision == load_model(str(broken)).revision
    assert load_any(str(broken), revision="no-such")
    assert read_config(str(broken), str(broken), revision="no-such").model_type == "llama"
    with pytest.raises(ModelError, match="no hub model in reach"):
        read_config("some-org/some-model", "some-org/some-model", revision="no-such")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files and directories whose content was hashed."""
    from nas_llm.models import _loading

    found: list[Path] = []

    def watched(original: Callable[[Path], str]) -> Callable[[Path], str]:
        def hash_it(path: Path) -> str:
            found.append(path)
            return original(path)

        return hash_it

    for name in ("file_revision", "directory_revision"):
        monkeypatch.setattr(_loading, name, watched(getattr(_loading, name)))
    return found


def test_evaluate_reads_each_model_once_to_tell_it_apart(
    broken: Path, tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF, converted by somebody else")
    monkeypatch.setattr("nas_llm.models._loading.convert_gguf", lambda path, revision: broken)
    options: dict[str, Any] = {"text": tmp_path / "text.txt", "window": 64, "windows": 1}
    options["text"].write_text(TEXT, encoding="utf-8")
    rows = evaluate_models([str(file), str(broken)], base=str(file), **options)
    assert rows[0].texts == rows[1].texts
    assert hashed == [file, broken]


def test_loading_needs_no_hash_of_a_directory(broken: Path, hashed: list[Path]) -> None:
    assert locate_model(str(broken)) == str(broken)
    assert locate_model("some-org/some-model") == "some-org/some-model"
    nas_llm.load(broken)
    assert hashed == []
    assert resolve_model(str(broken))[0] == locate_model(str(broken))
