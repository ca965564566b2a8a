"""A stranger's mutation, objective, finishing method and family, one file each, by name from a TOML file.

All of it runs as commands in processes of their own: search, SIGKILL, resume, finish, export. Nothing of the four
files is installed; they lie beside the problem file.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, SeedOssConfig, SeedOssForCausalLM

from nas_llm.models import PACKAGED_MODELS

OPERATOR = '''
from nas_llm.search import Mutation


class Swap(Mutation):
    """Two layers exchange their FFN masks: same cost, another place."""

    def __init__(self, space, *, probability=0.3):
        self.space, self.probability = space, probability

    def __call__(self, genome, *, rng):
        if rng.random() >= self.probability:
            return genome
        one, two = rng.choice(genome.num_layers, size=2, replace=False).tolist()
        return genome.with_rows(mlp=[(one, genome.mlp_mask[two]), (two, genome.mlp_mask[one])])
'''

OBJECTIVE = '''
from nas_llm.space import CostObjective


class Energy(CostObjective):
    """Joules of one token: a little for each multiplication, much for each byte that is moved."""

    name = "energy"
    title = "energy per token"
    unit = "uJ"

    def __call__(self, genome):
        kept = genome.kv_groups.sum() * self.architecture.head_dim + genome.ffn_channels.sum()
        return 5.0 + 0.25 * float(kept)
'''

METHOD = '''
from nas_llm.finishing import FinishingMethod


class Scaled(FinishingMethod):
    """Output projections are scaled; that is no good method, and easy to recognise."""

    name = "scaled"

    def __init__(self, *, share=0.5):
        self.share = share

    def in_words(self):
        return f"output projections times {self.share:g}"

    def refit(self, inputs, genome, on_layer):
        names = inputs.dense.adapter.names
        scaled = {f"{names.o}.weight", f"{names.fc2}.weight"}

        def edit(layer, sliced):
            return {key: value * self.share if key in scaled else value for key, value in sliced.items()}

        for layer in range(genome.num_layers):
            on_layer(layer)
        return edit
'''

FAMILY = '''
from dataclasses import replace

from nas_llm.models import LlamaAdapter, register_family


@register_family
class SeedOssAdapter(LlamaAdapter):
    """Llama but for the bias of the output projection, which has a setting of its own."""

    name = "seed_oss"
    model_types = ("seed_oss",)
    renames = {"seed_oss": (("Llama", "SeedOss"), ("llama", "seed_oss"))}

    def architecture(self, config):
        return replace(super().architecture(config), o_bias=config.attention_out_bias)
'''

PROBLEM = """
name = "strangers"
objectives = ["perplexity", "energy.py:Energy"]
plugins = ["family.py"]

[model]
source = "{model}"
dtype = "float32"

[data]
window = 64
calibration = {{tokens = 1024, sources = [{{source = "text.txt"}}]}}
fitness = {{tokens = 256, sources = [{{source = "text.txt"}}]}}
held_out = {{tokens = 256, sources = [{{source = "text.txt"}}]}}

[space]
ffn_multiple = 8

[search]
population = 12
evaluations = 60
descent = {{looks = 0}}

[search.operators]
mutations = ["guided", {{use = "swap.py:Swap", probability = 0.9}}, "ratio", "mask"]

[reconstruction]
method = "scaled.py:Scaled"
method_args = {{share = 0.75}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Seed-OSS, some text, the problem file and the strangers' files beside it."""
    folder = tmp_path_factory.mktemp("strangers")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(PACKAGED_MODELS["tiny-llama"].locate())
    config = SeedOssConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        attention_bias=True,
        vocab_size=len(tokenizer),
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = SeedOssForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    words = "the clerk counted coins before supper and walked home along the quiet harbour wall again".split()
    text = " ".join(words[(7 * n + n // 5) % len(words)] for n in range(6000))
    files = {"swap.py": OPERATOR, "energy.py": OBJECTIVE, "scaled.py": METHOD, "family.py": FAMILY, "text.txt": text}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "problem.toml").write_text(PROBLEM.format(model=folder / "model"), encoding="utf-8")
    return folder


def command(place: Path, *arguments: str) -> subprocess.Popen[str]:
    # From elsewhere: files are found beside the definition, not in the working directory.
    elsewhere = place.parent
    environment = os.environ | {"NAS_LLM_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", "from nas_llm.cli import main; main()", *arguments],
        cwd=elsewhere,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(place: Path, *arguments: str, code: int = 0) -> str:
    process = command(place, *arguments)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == code, out
    return out


def history(directory: Path) -> list[tuple[object, ...]]:
    path = directory / "history.sqlite"
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        return database.execute("SELECT ordinal, generation, digest, quality, further FROM evaluations").fetchall()
    except sqlite3.Error:
        return []


@pytest.fixture(scope="module")
def searched(place: Path) -> Path:
    """A run that was killed in the middle and resumed."""
    directory = place / "run"
    process = command(place, "search", str(place / "problem.toml"), "--run", str(directory))
    deadline = time.monotonic() + 200
    while len(history(directory)) < 20 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, out
    assert 20 <= len(history(directory)) < 60
    run(place, "search", str(place / "problem.toml"), "--run", str(directory), "--resume")
    return directory


def test_a_killed_search_ends_as_an_unbroken_one(place: Path, searched: Path) -> None:
    whole = place / "whole"
    run(place, "search", str(place / "problem.toml"), "--run", str(whole), "--no-study")
    assert len(history(searched)) == 60
    assert history(searched) == history(whole)
    assert all(json.loads(str(row[-1]))["energy"] > 5.0 for row in history(searched))


def test_what_was_used_stands_in_the_run(place: Path, searched: Path) -> None:
    resolved = tomllib.loads((searched / "problem.toml").read_text(encoding="utf-8"))["resolved"]
    used = {"family.py", "energy.py:Energy", "swap.py:Swap", "scaled.py:Scaled"}
    assert used <= resolved["plugins"].keys()
    assert all(len(use["sha256"]) == 32 for use in resolved["plugins"].values())
    out = run(place, "front", str(searched))
    assert "energy per token" in out


def test_another_operator_is_refused_by_name(place: Path, searched: Path) -> None:
    file = place / "swap.py"
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace("0.3", "0.4"), encoding="utf-8")
    try:
        arguments = ("search", str(place / "problem.toml"), "--run", str(searched), "--resume")
        out = run(place, *arguments, code=2)
        assert "was started with another swap.py:Swap: file " in out
        file.unlink()
        assert "plugin 'swap.py' cannot be used: there is no file" in run(place, *arguments, code=2)
    finally:
        file.write_text(before, encoding="utf-8")


def test_points_are_finished_and_exported(place: Path, searched: Path) -> None:
    out = run(place, "reconstruct", str(searched), "--point", "knee")
    assert "scaled" in out
    run(place, "export", str(searched), "--point", "smallest", "--out", str(place / "models"))
    (export,) = (place / "models").glob("*/hf")
    made = json.loads((export / "export.json").read_text(encoding="utf-8"))["reconstruction"]
    assert made["method"] == "scaled.py:Scaled"
    assert made["method_args"] == {"share": 0.75}
    # In a process without nas_llm: transformers and the modelling file that the export carries.
    program = (
        "import sys, torch; from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(export)!r}, trust_remote_code=True)\n"
        "assert 'nas_llm' not in sys.modules\n"
        "print(type(model).__name__, model(torch.arange(8)[None]).logits.sum().item())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in ("NasSeedOssForCausalLM", "SeedOssForCausalLM")
    dense = AutoModelForCausalLM.from_pretrained(place / "model")
    assert dense(torch.arange(8)[None]).logits.sum().item() != float(done.stdout.split()[1])
