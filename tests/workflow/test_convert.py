"""An hf export in another format: the weights that it has now, not those that it inherited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
from exported import provenance
from llama_cpp import LlamaCpp, largest_difference, partial_characters, torch_greedy
from safetensors.torch import load_file, save_file
from small_exports import irregular_export
from typer.testing import CliRunner, Result

from nas_llm.cli import app
from nas_llm.evaluation import load
from nas_llm.export import EXPORT_FORMATS, export_hf, register_format
from nas_llm.models import load_model
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet

PROMPT = [40, 478, 79, 221, 646, 359, 18, 19, 1]
STAGE = [{"method": "full", "in_words": "full, 3 steps"}]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export whose weights are others than the dense model's, as after a training."""
    export = irregular_export(tmp_path_factory.mktemp("p03") / "hf")
    weights = load_file(export / "model.safetensors")
    save_file(
        {name: 1.25 * weight if "down_proj" in name else weight for name, weight in weights.items()},
        export / "model.safetensors",
        metadata={"format": "pt"},
    )
    path = export / "nas_llm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"posttraining": STAGE, "perplexities": {}}))
    return export


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)], catch_exceptions=False)


def test_llama_cpp_runs_the_weights_that_the_export_has(tuned: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to run a GGUF file")
    done = convert(tuned, "--format", "gguf", "--dtype", "f32", "--output", tmp_path / "g")
    assert done.exit_code == 0, done.stderr
    assert f"written: {tmp_path / 'g'}" in done.stdout
    model, tokenizer = load(tuned)
    served = LlamaCpp(tmp_path / "g" / "model-f32.gguf")
    banned = partial_characters(tokenizer, model.config.vocab_size)
    assert largest_difference(served, model, PROMPT, 60, banned=banned, probs=1024) < 1e-3
    assert served.greedy(PROMPT, 20) == torch_greedy(model, PROMPT, 20)


def test_an_export_that_is_a_stock_model_is_converted_too(tmp_path: Path) -> None:
    dense = load_model("tiny-llama")
    genome = Genome.dense(dense.architecture)
    source = export_hf(build_subnet(dense, genome), dense, tmp_path / "hf", provenance=provenance(dense, genome))
    assert convert(source, "--format", "gguf", "--dtype", "f32").exit_code == 0
    fields = gguf.GGUFReader(tmp_path / "hf-gguf" / "model-f32.gguf").fields
    assert fields["general.architecture"].contents() == "llama"


def test_what_was_trained_is_told(tuned: Path, tmp_path: Path) -> None:
    assert convert(tuned, "--format", "gguf", "--output", tmp_path / "g").exit_code == 0
    before, after = (json.loads((place / "nas_llm.json").read_text()) for place in (tuned, tmp_path / "g"))
    for key in ("base_model", "genome_digest", "inheriting_ratio", "block_params", "params", "posttraining", "weights"):
        assert after[key] == before[key]
    assert after["perplexities"] == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "ggfu"), "did you mean 'gguf'?"),
        (("--format", "hf"), "converted from hf, not to it"),
        (("--format", "gguf", "--dtype", "q3"), "unknown dtype 'q3' for gguf"),
        (("--format", "decilm"), "decilm:"),
        (("--format", "gguf", "--model", "nowhere/model"), "nowhere/model"),
        (("--format", "gguf", "--model", "other"), "other has other sizes than the dense model"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    tuned: Path, tmp_path: Path, arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "other" in arguments:
        monkeypatch.chdir(tmp_path)
        dense = load_model("tiny-llama")
        config = dense.model.config
        smaller = type(dense.model)(type(config).from_dict({**config.to_dict(), "intermediate_size": 64}))
        smaller.save_pretrained(tmp_path / "other")
        dense.tokenizer.save_pretrained(tmp_path / "other")
    target = tmp_path / "new"
    refused = convert(tuned, *arguments, "--output", target)
    assert refused.exit_code == 2
    assert says in refused.stderr
    assert not target.exists()


def test_what_is_there_is_kept_and_what_is_no_export_is_refused(tuned: Path, tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "mine").write_text("mine")
    refused = convert(tuned, "--format", "gguf", "--output", tmp_path / "g")
    assert refused.exit_code == 2
    assert (tmp_path / "g" / "mine").read_text() == "mine"
    stranger = convert(tmp_path / "g", "--format", "gguf")
    assert stranger.exit_code == 2
    assert "is no export of nas-llm" in stranger.stderr


def test_a_format_that_tells_nothing_of_itself_gets_no_half_of_it(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("_named", "_things", "_uses"):
        monkeypatch.setattr(EXPORT_FORMATS, part, dict(getattr(EXPORT_FORMATS, part)))

    @register_format("shape", summary="one number", dtypes=("f32",), loads="read it")
    def write(subnet: Any, dense: Any, directory: Path, *, provenance: Any, settings: Any) -> None:
        directory.mkdir()
        (directory / "layers").write_text(str(provenance.genome.num_layers))

    assert convert(tuned, "--format", "shape", "--output", tmp_path / "s").exit_code == 0
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["layers"]


def test_damaged_perplexities_are_named(tuned: Path, tmp_path: Path) -> None:
    export = Path(shutil.copytree(tuned, tmp_path / "hf"))
    path = export / "nas_llm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"perplexities": {"fitness": 3.0}}))
    refused = convert(export, "--format", "gguf")
    assert refused.exit_code == 2
    assert f"{path} is damaged: each of its perplexities" in refused.stderr
    assert not (tmp_path / "hf-gguf").exists()
