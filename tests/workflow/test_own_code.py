"""A family and an export format of somebody else, one file each, named in a TOML file: search, export, reload."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dense_models import dense_model
from seed_oss import save_seed_oss

from nas_llm.data import packaged_sample
from nas_llm.errors import ConfigError
from nas_llm.export import EXPORT_FORMATS, Writer, export_format, register_format, servable
from nas_llm.runs import Run, open_run
from nas_llm.space import SearchSpace
from nas_llm.workflow import ExportRefused, export_points

SUPPORT = Path(__file__).parents[1] / "support"
DEFINITION = """
name = "own-code"
plugins = ["stranger_family.py", "stranger_format.py"]
objectives = ["perplexity", "macs_per_token"]

[model]
source = "DENSE"
dtype = "float32"

[data]
window = 64
calibration = { tokens = 1024, sources = [{ source = "text.jsonl" }] }
fitness = { tokens = 512, sources = [{ source = "text.jsonl" }] }
held_out = { tokens = 512, sources = [{ source = "text.jsonl" }] }

[space]
ffn_multiple = 16

[fitness]
weights = "reconstructed"

[search]
population = 4
evaluations = 8
descent = { looks = 0 }

[reconstruction]
method = "closed_form"
"""


def nas(folder: Path, *arguments: str, code: int = 0) -> str:
    """The command line in a process of its own; what it says."""
    program = [sys.executable, "-c", "from nas_llm.cli import main; main()", *arguments]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A definition with a searched run, its plugins beside it."""
    folder = tmp_path_factory.mktemp("own")
    dense = save_seed_oss(folder / "dense")
    for name in ("stranger_family.py", "stranger_format.py"):
        shutil.copy(SUPPORT / name, folder)
    sample = packaged_sample("tiny-llama")
    assert sample is not None
    shutil.copy(sample, folder / "text.jsonl")
    (folder / "own.toml").write_text(DEFINITION.replace("DENSE", str(dense)), encoding="utf-8")
    nas(folder, "search", "own.toml", "--run", "run")
    return folder


@pytest.fixture
def formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats that a test registers are forgotten after it."""
    for part in ("_named", "_uses"):
        monkeypatch.setattr(EXPORT_FORMATS, part, dict(getattr(EXPORT_FORMATS, part)))


def test_a_search_and_its_exports_know_code_of_ones_own(folder: Path) -> None:
    said = nas(folder, "export", "run", "--point", "all", "--format", "hf,npz", "--dtype", "npz=float16")
    assert "numpy.load('DIRECTORY/weights.npz')" in said
    out = folder / "run" / "exports"
    index = json.loads((out / "front.json").read_text(encoding="utf-8"))
    assert all(list(forms) == ["hf", "npz"] for forms in index["exports"].values())
    point = next(iter(index["exports"]))
    entry = index["exports"][point]["npz"]
    size = (out / point / "npz" / "weights.npz").stat().st_size
    assert (entry["path"], entry["dtype"], entry["weights"]["weights.npz"]) == (f"{point}/npz", "f16", size)
    record = json.loads((out / point / "npz" / "export.json").read_text(encoding="utf-8"))
    assert set(record["identity"]["format_code"]) == {"version", "sha256"}
    # Both hold the same point: what the archive says is what the directory loads as.
    loads = (
        "import sys, numpy, nas_llm, nas_llm.plugins; nas_llm.plugins.load_module('stranger_family.py')\n"
        "state = nas_llm.load(sys.argv[1] + '/hf')[0].state_dict()\n"
        "found = numpy.load(sys.argv[1] + '/npz/weights.npz')\n"
        "print(all((weight.numpy().astype('float16') == found[name]).all() for name, weight in state.items()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", loads, str(out / point)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
    resolved = (folder / "run" / "problem.toml").read_text(encoding="utf-8")
    for name in ("stranger_family.py", "stranger_format.py", "family seed_oss"):
        assert f'plugins."{name}"' in resolved
    again = nas(folder, "export", "run", "--point", "all", "--format", "hf,npz", "--dtype", "npz=float16")
    assert again.count("is already exported") == 2 * len(index["exports"])


def test_the_command_lists_what_a_format_of_ones_own_can_hold(folder: Path) -> None:
    said = nas(folder, "servable", "own.toml", "--set", "space.min_attn_layers=4")
    assert "npz" in said
    assert "layer 0 has no attention" in " ".join(said.split())
    said = nas(folder, "export", "run", "--point", "knee", "--format", "npy", code=2)
    assert "unknown export format 'npy'; did you mean 'npz'? formats are hf, gguf, decilm, npz" in said


def test_an_exporter_that_changed_is_another_one(folder: Path) -> None:
    nas(folder, "export", "run", "--point", "knee", "--format", "npz", "--out", "changed")
    path = folder / "stranger_format.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "# changed\n", encoding="utf-8")
    try:
        said = nas(folder, "export", "run", "--point", "knee", "--format", "npz", "--out", "changed", code=2)
    finally:
        path.write_text(before, encoding="utf-8")
    assert "was exported with another version of the format (file" in said or "another stranger_format.py" in said


def test_an_index_keeps_formats_that_this_process_does_not_know(folder: Path, tmp_path: Path, formats: None) -> None:
    out = tmp_path / "out"
    nas(folder, "export", "run", "--point", "knee", "--format", "npz", "--out", str(out))
    run = open_run(folder / "run")
    EXPORT_FORMATS._named.pop("npz", None)
    export_points(run, run.front.select(["knee"]), out=out)
    (forms,) = json.loads((out / "front.json").read_text(encoding="utf-8"))["exports"].values()
    assert list(forms) == ["hf", "npz"]


def _raise(*_: Any, **__: Any) -> None:
    raise ValueError("no such thing")


def _do_nothing(*_: Any, **__: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("write", "refusal", "expected"),
    [
        (_raise, None, "format 'bad' failed: ValueError: no such thing"),
        (_do_nothing, None, "format 'bad' wrote no directory; its writer has to make the one that it is given"),
        (_raise, "layer 2 is odd", "layer 2 is odd"),
    ],
)
def test_a_writer_that_fails_is_a_refusal_and_the_others_are_done(
    folder: Path, tmp_path: Path, formats: None, write: Writer, refusal: str | None, expected: str
) -> None:
    register_format("bad", dtypes=("f32",), loads="cat", refusal=lambda genome, config: refusal)(write)
    run: Run = open_run(folder / "run")
    with pytest.raises(ExportRefused) as caught:
        export_points(run, run.front.select(["knee"]), out=tmp_path / "out", formats=["bad", "hf"])
    (point,) = run.front.select(["knee"])
    assert caught.value.refusals == [f"{point.id}/bad: {expected}"]
    assert [record.format for record in caught.value.records] == ["hf"]


def test_names_of_formats_are_checked(formats: None) -> None:
    known: dict[str, Any] = {"dtypes": ("f32",), "loads": "cat"}
    with pytest.raises(ConfigError, match="export format 'hf' cannot be registered: the name is taken"):
        register_format("hf", **known)(lambda *_, **__: None)
    with pytest.raises(ConfigError, match="has a name that is none for a folder: take small letters"):
        register_format("My Format", **known)(lambda *_, **__: None)
    with pytest.raises(ConfigError, match="names no type of weights in dtypes"):
        register_format("mine", dtypes=(), loads="cat")(lambda *_, **__: None)
    with pytest.raises(ConfigError, match=r"unknown export format 'minne'; formats are hf, gguf, decilm, and those"):
        export_format("minne")
    register_format("mine", **known)(lambda *_, **__: None)
    with pytest.raises(ConfigError, match=r"'minne'; did you mean 'mine'\? formats are hf, gguf, decilm, mine"):
        export_format("minne")
    with pytest.raises(ConfigError, match=r"unknown dtype 'q4' for mine; take f32"):
        export_format("mine").dtype("q4")


def test_servable_tries_a_format_of_ones_own(formats: None) -> None:
    dense = dense_model("llama-gqa-tied")
    importlib.reload(importlib.import_module("stranger_format"))
    register_format("all", dtypes=("f32",), loads="cat")(lambda *_, **__: None)
    register_format("none", dtypes=("f32",), loads="cat", refusal=lambda genome, config: "never")(lambda *_, **__: None)

    def answers(**settings: Any) -> dict[str, tuple[str, list[str]]]:
        found = servable(SearchSpace(dense.architecture, ffn_multiple=16, **settings), dense.model.config)
        return {name: (answer.genomes, [hint.reason for hint in answer.hindrances]) for name, answer in found.items()}

    whole = answers()
    assert list(whole) == ["hf", "gguf", "decilm", "npz", "all", "none"]
    assert (whole["npz"], whole["all"], whole["none"]) == (("all", []), ("all", []), ("none", ["never"]))
    holes = answers(min_attn_layers=2, protected_layers=[0])
    assert holes["npz"] == ("some", [f"layer {layer} has no attention" for layer in (1, 2, 3)])
