"""A family of somebody else is as good as the package's own: the same oracles, clear words where it is not complete."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import random_genome
from exported import provenance
from seed_oss import save_seed_oss
from torch import nn

import nas_llm
from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError, ModelError
from nas_llm.evaluation import Workload, count_block_params, model_perplexity, process_memory
from nas_llm.export import export_hf, expressible
from nas_llm.models import DenseModel, FamilyAdapter, LlamaAdapter, adapter_for, load_model, register_family
from nas_llm.models.families import _registry, family_sources, family_use, known_adapter
from nas_llm.space import CostModel
from nas_llm.subnet import PopulationEvaluator, build_subnet, check_family, masked_copy

SUPPORT = Path(__file__).parents[1] / "support"
CPU = torch.device("cpu")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    for part in ("_named", "_uses"):
        monkeypatch.setattr(_registry._FAMILIES, part, dict(getattr(_registry._FAMILIES, part)))


@pytest.fixture
def family(registry: None) -> type[FamilyAdapter]:
    kind: type[FamilyAdapter] = importlib.import_module("stranger_family").SeedOssAdapter
    return register_family(kind)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_seed_oss(tmp_path_factory.mktemp("seed") / "dense")


@pytest.fixture
def dense(family: type[FamilyAdapter], checkpoint: Path) -> DenseModel:
    return load_model(str(checkpoint))


def windows() -> WindowSet:
    return WindowSet(tokens=np.random.default_rng(0).integers(3, 1000, (3, 24)), name="windows")


@pytest.mark.parametrize("seed", range(4))
def test_sliced_equals_masked_equals_counted(dense: DenseModel, seed: int) -> None:
    ids, genome = torch.from_numpy(windows().tokens.copy()), random_genome(dense, seed)
    masked, subnet = masked_copy(dense, genome)(ids).logits, build_subnet(dense, genome)
    assert (masked - subnet(ids).logits).abs().max() <= 1e-4
    assert (masked - dense.model(ids).logits).abs().max() > 1e-2
    cost = CostModel(dense.architecture, sequence_length=24)(genome)
    assert cost.params == sum(parameter.numel() for parameter in subnet.parameters())
    assert cost.block_params == count_block_params(subnet)


def test_candidates_are_evaluated_as_the_model_computes_them(dense: DenseModel) -> None:
    genomes = [random_genome(dense, seed) for seed in range(3)]
    evaluator = PopulationEvaluator(dense, windows(), metric="perplexity", device=CPU, dtype=torch.float32)
    expected = [model_perplexity(build_subnet(dense, genome), windows()) for genome in genomes]
    assert evaluator.evaluate(genomes) == pytest.approx(expected, rel=1e-5)


def test_a_family_that_fits_is_let_through(dense: DenseModel) -> None:
    check_family(dense)


def _twice(self: Any, outer: nn.ModuleDict, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
    hidden, context = LlamaAdapter.embed(self, outer, ids)
    return 2 * hidden, context


def _damped(self: Any, model_type: str) -> str:
    text: str = LlamaAdapter.modeling_source(self, model_type)
    line = '        if getattr(config, "qk_head_dim", None):\n'
    return text.replace(line, f"        self.post_attention_layernorm.variance_epsilon = 10.0\n{line}")


def _without(self: Any, model_type: str) -> str:
    text: str = LlamaAdapter.modeling_source(self, model_type)
    return text.replace(
        "        super().__init__(around)\n", "        super().__init__(around)\n        del self.rotary_emb\n"
    )


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"embed": _twice}, r"blocks one by one do not compute what the model does, logits differ by \d+\.\d%"),
        ({"modeling_source": _damped}, "blocks one by one do not compute what the model does"),
        ({"modeling_source": _without}, "its modelling file does not run: AttributeError: .* no attribute .rotary_emb"),
    ],
)
def test_a_family_that_computes_otherwise_is_refused(
    dense: DenseModel, family: type[FamilyAdapter], wrong: dict[str, Any], expected: str
) -> None:
    found = replace(dense, adapter=type("Wrong", (family,), wrong)())
    with pytest.raises(ModelError, match=f"family 'seed_oss' does not fit model '.*/dense': (its )?{expected}"):
        check_family(found)


def test_exports_load_here_and_without_the_package(dense: DenseModel, tmp_path: Path) -> None:
    genome = random_genome(dense, 1)
    subnet, ids = build_subnet(dense, genome), torch.arange(20)[None]
    export_hf(subnet, dense, tmp_path / "hf", provenance=provenance(dense, genome))
    loaded, _ = nas_llm.load(tmp_path / "hf")
    with torch.no_grad():
        expected = subnet(ids).logits
        assert torch.equal(loaded(ids).logits, expected)
    program = [sys.executable, str(SUPPORT / "stranger.py"), str(tmp_path / "hf"), str(tmp_path), "logits"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["logits"]["class"] == "NasSeedOssForCausalLM"
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    peak, _ = process_memory(str(tmp_path / "hf"), Workload(prompt_tokens=8, new_tokens=2), dtype=torch.float32)
    assert peak > 0


def test_formats_for_llama_alone_refuse_its_kin(dense: DenseModel) -> None:
    (problem,) = expressible("gguf", random_genome(dense, 1), dense.model.config)
    assert "not for model type 'seed_oss'" in problem.reason
    assert problem.accepted == (
        "model types llama, mistral, qwen2, ministral3 and granite are accepted, and with --pad gemma3_text, qwen3 and "
        "smollm3; hf takes every family"
    )


def test_code_behind_a_family_is_known(family: type[FamilyAdapter]) -> None:
    use = family_use(adapter_for("seed_oss"))
    assert use is not None
    assert len(use.sha256) == 32
    assert family_use(adapter_for("llama")) is None
    assert family_sources() == [("stranger_family", str(SUPPORT))]
    assert known_adapter("nas_seed_oss") is known_adapter("seed_oss")


def test_a_model_without_family_says_how_to_add_one(checkpoint: Path, registry: None) -> None:
    _registry._FAMILIES._named.pop("seed_oss", None)
    expected = (
        r"model type 'seed_oss' is not supported; supported are [a-z0-9_, ]+; add a family of your own by a "
        r"subclass of nas_llm\.models\.FamilyAdapter with the decorator @nas_llm\.models\.register_family"
    )
    with pytest.raises(ModelError, match=expected):
        load_model(str(checkpoint))
    with pytest.raises(ModelError, match=r"'lama' is not supported; did you mean 'llama'\? supported are"):
        adapter_for("lama")


def test_an_export_without_its_family_is_named(dense: DenseModel, tmp_path: Path) -> None:
    genome = random_genome(dense, 1)
    export_hf(build_subnet(dense, genome), dense, tmp_path / "hf", provenance=provenance(dense, genome))
    program = "import sys, nas_llm; nas_llm.load(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "hf")], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == (
        f"nas_llm.errors.ModelError: {tmp_path}/hf is an export of a model of type 'seed_oss', whose family is not "
        "known here; import the module that registers it, or load the export by transformers alone, with "
        "trust_remote_code=True"
    )


def test_a_family_comes_by_entry_point(tmp_path: Path, checkpoint: Path) -> None:
    info = tmp_path / "strangers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nas_llm.plugins]\nseed = stranger_family\n")
    program = "import sys; from nas_llm.models import load_model; print(load_model(sys.argv[1]).adapter.name)"
    paths = os.pathsep.join([str(tmp_path), str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program, str(checkpoint)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.stdout.strip() == "seed_oss"


class Other(LlamaAdapter):
    """Complete, and of no model."""

    name = "other"
    model_types = ("other",)


class Unfinished(FamilyAdapter):
    """Lacks everything."""


@pytest.mark.parametrize(
    ("kind", "attributes", "expected"),
    [
        (Other, {"model_types": ("other", "llama")}, "model type 'llama' is served by the package itself; leave it"),
        (Other, {"name": "llama"}, "the name 'llama' is the package's own; give it another"),
        (Other, {"model_types": "other"}, r"model_types = 'other' should be a tuple of transformers' model_type"),
        (Other, {"model_types": ()}, r"model_types = \(\) should be a tuple"),
        (Other, {"names": {"q": "q_proj"}}, r"names = {'q': 'q_proj'} should be nas_llm\.models\.BlockNames"),
        (Other, {"__init__": lambda self, size: None}, "cannot be made without arguments: .*'size'"),
        (Unfinished, {}, r"is not complete: it lacks architecture, .*, name, model_types, names"),
        (nn.Linear, {}, "is no subclass of nas_llm.models.FamilyAdapter"),
    ],
)
def test_what_is_no_family_is_refused(kind: Any, attributes: dict[str, Any], expected: str, registry: None) -> None:
    with pytest.raises(ConfigError, match=expected):
        register_family(type("Mine", (kind,), attributes))
    assert known_adapter("other") is None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import nowhere", "does not run: ModuleNotFoundError: No module named 'nowhere'"),
        ("CONFIG_CLASS = int", "lacks MODEL_CLASS, LAYER_CLASS; assign the classes of a subnet to these names"),
        (
            "from transformers import LlamaConfig\nCONFIG_CLASS = MODEL_CLASS = LAYER_CLASS = LlamaConfig",
            "model_type of its CONFIG_CLASS is 'llama', it should be 'nas_other'",
        ),
    ],
)
def test_a_modelling_file_of_ones_own_is_checked(source: str, expected: str) -> None:
    adapter = type("Mine", (Other,), {"modeling_source": lambda self, model_type: source})()
    with pytest.raises(ModelError, match=f"the modelling file of model type 'other'.*{expected}"):
        adapter.modeling("other")


def test_a_text_of_ones_own_is_what_exports_carry(
    dense: DenseModel, family: type[FamilyAdapter], tmp_path: Path
) -> None:
    text = "# By hand.\n" + dense.adapter.modeling_source("seed_oss")
    kind = type("ByHand", (family,), {"modeling_source": lambda self, model_type: text})
    register_family(kind)
    model, genome = load_model(dense.source), random_genome(dense, 2)
    export_hf(build_subnet(model, genome), model, tmp_path / "hf", provenance=provenance(model, genome))
    assert (tmp_path / "hf" / "modeling_nas_seed_oss.py").read_text().startswith("# By hand.\n")
