"""An export goes in and an export comes out: whole, of the same form, loadable by strangers, or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small_exports import irregular_export
from typer.testing import CliRunner

from nas_llm.cli import app
from nas_llm.errors import ModelError
from nas_llm.evaluation import load
from nas_llm.posttrain import PosttrainSettings
from nas_llm.workflow import PosttrainTexts, load_genome, posttrain_export

pytest.importorskip("peft", reason="peft is not installed (pip install 'nas-llm[posttrain]')")

STRANGER = Path(__file__).parents[1] / "support" / "stranger.py"
SAMPLE = str(Path(__file__).parents[2] / "nas_llm" / "data" / "samples" / "tiny-llama.jsonl")
QUICK = ("--steps", "3", "--window", "64", "--batch", "4", "--dtype", "float32")
WITHOUT_PEFT = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "peft" else find(name, *rest)
sys.modules["peft"] = None
from nas_llm.cli import main
main()
"""


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return irregular_export(tmp_path_factory.mktemp("p03") / "hf")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["posttrain", *map(str, arguments)], catch_exceptions=False)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def tuned(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("tuned") / "model"
    texts = ("--text", "self", "--tokens", "2k", "--held-out", SAMPLE, "--windows", 4)
    done = run(export, *texts, "--distill", *QUICK, "--output", target)
    assert done.exit_code == 0, done.stderr
    assert f"written: {target}" in done.stdout
    assert "held-out perplexity:" in done.stdout
    return target


def test_it_is_an_export_of_the_same_form(export: Path, tuned: Path) -> None:
    assert names(tuned) == sorted([*names(export), "learning_curve.jsonl"])
    for file in ("config.json", "genome.bin", "modeling_nas_llama.py", "tokenizer.json", "generation_config.json"):
        assert (tuned / file).read_bytes() == (export / file).read_bytes()
    before, after = (load(directory)[0] for directory in (export, tuned))
    assert after.dtype == before.dtype
    assert load_genome(tuned) == load_genome(export)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (before, after)]
    assert shapes[0] == shapes[1]
    assert not torch.equal(before(torch.arange(9)[None]).logits, after(torch.arange(9)[None]).logits)


def test_it_loads_without_nas_llm_and_peft(tuned: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(STRANGER), str(tuned), str(tmp_path), "logits,again,caches"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers["logits"]["class"] == "NasLlamaForCausalLM"
    assert answers["again"]["same"]
    assert torch.equal(torch.load(tmp_path / "logits.pt"), load(tuned)[0](torch.arange(20)[None]).logits)


def test_it_says_what_was_done(export: Path, tuned: Path) -> None:
    before, after = (json.loads((directory / "nas_llm.json").read_text()) for directory in (export, tuned))
    (stage,) = after["posttraining"]
    assert (stage["method"], stage["loss"], stage["teacher"]["source"]) == ("lora", "kl", "tiny-llama")
    assert stage["teacher"]["revision"] == before["base_revision"]
    assert (stage["steps"], stage["tokens"], stage["seed"], stage["interrupted"]) == (3, 3 * 4 * 64, 0, False)
    assert stage["text"]["sources"][0]["source"] == "self"
    assert len(stage["text"]["digest"]) == 32
    assert stage["seconds"] > 0
    assert stage["before"] == {"weights": before["weights"], "perplexities": before["perplexities"]}
    assert after["genome_digest"] == before["genome_digest"]
    assert after["weights"] == "inherited as they are; then post-trained (LoRA of rank 16, merged)"
    card = (tuned / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "post-trained" in card
    assert "--text self --method lora --distill --steps 3 --tokens 2000" in card
    assert "## Before post-training" in card
    assert "trust_remote_code=True" in card
    curve = [json.loads(line) for line in (tuned / "learning_curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == [0, 1, 2, 3]
    assert curve[0]["perplexity"] == stage["held_out"]["perplexities"]["before"]
    assert curve[-1]["perplexity"] == stage["held_out"]["perplexities"]["after"]


def test_it_may_be_trained_again(tuned: Path, tmp_path: Path) -> None:
    done = run(tuned, "--text", SAMPLE, "--method", "full", *QUICK, "--output", tmp_path / "m")
    assert done.exit_code == 0, done.stderr
    stages = json.loads((tmp_path / "m" / "nas_llm.json").read_text())["posttraining"]
    assert [(stage["method"], stage["loss"]) for stage in stages] == [("lora", "kl"), ("full", "next_token")]
    assert (tmp_path / "m" / "README.md").read_text().count("## Before post-training") == 2


def test_the_default_place_is_beside_the_export_and_never_overwritten(tmp_path: Path) -> None:
    export = irregular_export(tmp_path / "p03" / "hf")
    assert run(export, "--text", SAMPLE, *QUICK).exit_code == 0
    assert names(tmp_path / "p03") == ["hf", "hf-lora"]
    again = run(export, "--text", SAMPLE, *QUICK)
    assert again.exit_code == 2
    assert "hf-lora exists; replace it with --force" in again.stderr
    assert run(export, "--text", SAMPLE, *QUICK, "--force").exit_code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    refused = run(export, "--text", SAMPLE, *QUICK, "--force", "--output", tmp_path / "mine")
    assert refused.exit_code == 2
    assert "is no export of nas-llm; name another place with --out" in refused.stderr
    assert names(tmp_path / "mine") == ["letter.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nix", "--text", SAMPLE), "error: no such directory: nix; load takes the hf directory of an export"),
        (("EXPORT", "--text", "nix.txt"), "error: nix.txt"),
        (("EXPORT", "--text", "short.txt"), "error: short.txt is shorter than one window of 512 tokens"),
        (("EXPORT", "--text", SAMPLE, "--method", "lorra"), "error: unknown method 'lorra'; did you mean 'lora'?"),
        (("EXPORT", "--text", SAMPLE, "--steps", "0"), "error: steps = 0 should be at least 1"),
        (("EXPORT", "--text", SAMPLE, "--minutes", "-1"), "error: --minutes -1 should be above 0"),
        (("EXPORT", "--text", SAMPLE, "--tokens", "12"), "error: tokens = 12 is less than one window of 512"),
        (("EXPORT", "--text", SAMPLE, "--tokens", "x"), "error: --tokens 'x' is not a positive number"),
        (("EXPORT", "--text", SAMPLE, "--teacher", "./nix"), "error: no such model directory: ./nix"),
        (("EXPORT", "--text", SAMPLE, "--held-out", "nix.txt"), "error: nix.txt"),
        (("PLAIN", "--text", SAMPLE), "is no export of nas-llm: it has no nas_llm.json"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("Too short.")
    plain = str(Path(__file__).parents[2] / "nas_llm" / "models" / "packaged" / "tiny-llama")
    words = [{"EXPORT": str(export), "PLAIN": plain}.get(word, word) for word in arguments]
    done = run(*words, "--out", "out")
    assert done.exit_code == 2
    lines = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert len(lines) == 1
    assert done.stderr.endswith(f"{lines[0]}\n")
    assert expected in lines[0]
    assert names(tmp_path) == ["short.txt"]


def test_without_peft_it_says_what_to_install(export: Path, tmp_path: Path) -> None:
    words = ["posttrain", str(export), "--text", SAMPLE, *QUICK, "--out", str(tmp_path / "m")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PEFT, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr == "error: method lora needs peft: pip install 'nas-llm[posttrain]'\n"
    assert not (tmp_path / "m").exists()


def test_a_failure_leaves_nothing(export: Path, tmp_path: Path) -> None:
    texts = PosttrainTexts(text=SAMPLE, window=64)
    settings = PosttrainSettings(method="full", learning_rate=1e30, steps=30, dtype="float32")
    with pytest.raises(ModelError, match="diverged"):
        posttrain_export(export, texts, settings, output=tmp_path / "m")
    assert names(tmp_path) == []


def test_stopped_before_the_first_step_nothing_is_written(export: Path, tmp_path: Path) -> None:
    texts, settings = PosttrainTexts(text=SAMPLE, window=64), PosttrainSettings(steps=3, dtype="float32")
    found = posttrain_export(export, texts, settings, output=tmp_path / "m", should_stop=lambda: True)
    assert found is None
    assert names(tmp_path) == []


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_writes_what_it_has_and_twice_leaves_nothing(export: Path, tmp_path: Path, signals: int) -> None:
    """One signal: a whole export that says it was stopped. Two: no trace."""
    program = "from nas_llm.cli import main; main()"
    words = ["posttrain", str(export), "--text", SAMPLE, "--minutes", "30", "--window", "64", "--dtype", "float32"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words, "--held-out", SAMPLE, "--output", str(tmp_path / "m")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for text in process.stderr:
        if text.startswith("note: step 0"):
            break
    # The note comes before the first step.
    time.sleep(1)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(120) == 130
    if signals == 2 and not (tmp_path / "m").exists():
        assert names(tmp_path) == []
        return
    assert names(tmp_path) == ["m"]
    (stage,) = json.loads((tmp_path / "m" / "nas_llm.json").read_text())["posttraining"]
    assert stage["interrupted"]
    load(tmp_path / "m")
