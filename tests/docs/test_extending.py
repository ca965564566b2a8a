"""The pages of docs/extending: each example is run by name from the definition that its page shows."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import random_genome
from safetensors.torch import load_file
from synthetic_search import architecture, unit_scores
from torch import Tensor
from transformers import AutoTokenizer, OlmoConfig, OlmoForCausalLM

import nas_llm
from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import ConfigError, ModelError, RunError
from nas_llm.models import PACKAGED_MODELS, load_model
from nas_llm.plugins import load_reference
from nas_llm.plugins._registry import _of_kind
from nas_llm.runs import Run, open_run
from nas_llm.search import History
from nas_llm.space import CostModel, Genome, register_objective
from nas_llm.subnet import build_subnet, masked_copy
from nas_llm.workflow import export_points, reconstruct_points, run_search

DOCS = Path(__file__).parents[2] / "docs"
EXTENDING = DOCS / "extending"
EXAMPLES = {
    "operator": "swap.py",
    "objective": "objective.py",
    "finishing_method": "finishing_method.py",
    "family": "family.py",
    "exporter": "exporter.py",
}
PAGES = [*sorted(EXTENDING.glob("*.md")), DOCS / "session.md", DOCS / "index.md"]


@pytest.fixture(autouse=True, scope="module")
def forgotten() -> Iterator[None]:
    """What the examples register is forgotten after them."""
    before = {kind: (dict(found._named), dict(found._uses)) for kind, found in _of_kind.items()}
    yield
    for kind, (named, uses) in before.items():
        _of_kind[kind]._named, _of_kind[kind]._uses = named, uses
    for name in [name for name in sys.modules if name.startswith("nas_llm_plugin_")]:
        del sys.modules[name]


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def definition(page: str) -> str:
    """The definition that all pages share, with the lines of one page."""
    base, *_ = blocks(EXTENDING / "README.md", "toml")
    (lines,) = blocks(EXTENDING / f"{page}.md", "toml")
    return f"{base}\n{lines}" if lines.startswith("[") else f"{lines}\n{base}"


def problem(folder: Path, page: str, *overrides: str) -> LoadedProblem:
    folder.mkdir(exist_ok=True)
    shutil.copy(EXTENDING / "examples" / EXAMPLES[page], folder)
    (folder / "mine.toml").write_text(definition(page), encoding="utf-8")
    return load_problem(folder / "mine.toml", overrides=overrides)


def searched(folder: Path, page: str, *overrides: str) -> Run:
    run_search(problem(folder, page, *overrides), run_dir=folder / "run", shared_cache=False)
    return open_run(folder / "run")


def history(directory: Path) -> list[tuple[str, dict[str, float]]]:
    with History(directory / "history.sqlite", read_only=True) as rows:
        return [(row.digest, dict(row.objectives)) for row in rows.rows()]


def recorded(run: Run) -> dict[str, Any]:
    resolved = tomllib.loads((run.directory / "problem.toml").read_text(encoding="utf-8"))["resolved"]
    found: dict[str, Any] = resolved["plugins"]
    return found


@pytest.mark.parametrize(("page", "file"), EXAMPLES.items())
def test_a_page_shows_its_file(page: str, file: str) -> None:
    shown, *_ = blocks(EXTENDING / f"{page}.md", "python")
    assert shown == (EXTENDING / "examples" / file).read_text(encoding="utf-8")


def test_every_example_has_a_page() -> None:
    assert {path.name for path in (EXTENDING / "examples").glob("*.py")} == set(EXAMPLES.values())
    assert {path.stem for path in EXTENDING.glob("*.md")} == {"README", *EXAMPLES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_pages_compiles_and_what_it_imports_is_there(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "nas_llm":
                module = importlib.import_module(str(node.module))
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []
            if isinstance(node, ast.Import):
                assert all(importlib.import_module(name.name) for name in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def example(page: str, name: str) -> Any:
    """A class or function of an example, as a definition would find it."""
    return load_reference(f"{EXAMPLES[page]}:{name}", base_dir=EXTENDING / "examples")


def test_an_operator_runs_and_a_resumed_search_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    run = searched(tmp_path, "operator")
    assert recorded(run).keys() == {"swap.py:SwapNeighbours"}
    whole = history(run.directory)
    assert len(whole) == 24
    parts = tmp_path / "parts"
    for evaluations, resume in ((14, False), (24, True)):
        loaded = load_problem(tmp_path / "mine.toml", overrides=[f"search.evaluations={evaluations}"])
        run_search(loaded, run_dir=parts, resume=resume, shared_cache=False)
    assert history(parts) == whole
    before = recorded(run)["swap.py:SwapNeighbours"]["sha256"][:8]
    file = tmp_path / "swap.py"
    file.write_text(file.read_text(encoding="utf-8").replace("0.3", "0.4"), encoding="utf-8")
    said = rf"was started with another swap.py:SwapNeighbours: file {before}, it is now file \w{{8}}; restore it or"
    with pytest.raises(RunError, match=said):
        run_search(load_problem(tmp_path / "mine.toml"), run_dir=run.directory, resume=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_operator_exchanges_two_counts_by_importance(seed: int) -> None:
    sizes = architecture()
    scores, rng = unit_scores(sizes), np.random.default_rng(seed)
    swap = example("operator", "SwapNeighbours")
    genome = Genome(np.ones((6, 3), dtype=bool), rng.random((6, 64)) < rng.random((6, 1)))
    child = swap(scores, probability=1.0)(genome, rng=np.random.default_rng(seed))
    (lower, upper) = np.flatnonzero(genome.ffn_channels != child.ffn_channels)
    assert upper == lower + 1
    assert child.ffn_channels[[upper, lower]].tolist() == genome.ffn_channels[[lower, upper]].tolist()
    costs = CostModel(sizes, sequence_length=16)
    assert costs(child) == costs(genome)
    for layer in (lower, upper):
        less, more = sorted((genome.mlp_mask[layer], child.mlp_mask[layer]), key=np.count_nonzero)
        assert (less <= more).all()
    assert swap(scores, probability=0.0)(genome, rng=rng) is genome
    dense = Genome.dense(sizes)
    assert swap(scores, probability=1.0)(dense, rng=rng) is dense


def test_an_objective_runs(tmp_path: Path) -> None:
    run = searched(tmp_path, "objective", "search.evaluations=12")
    assert recorded(run).keys() == {"objective.py:Energy"}
    front = run.front
    assert front.objectives == ("perplexity", "energy")
    for point in (front.dense, *front.points):
        # Weights are read once, and 1,024 positions of the cache; attention is counted at 1,024 tokens.
        macs = CostModel(load_model("tiny-llama").architecture, sequence_length=1024)(point.genome).macs_per_token
        joules = 1e-12 * macs + 60e-12 * (2 * point.cost.params + 1024 * point.cost.kv_cache_bytes)
        assert point.objectives["energy"] == pytest.approx(1e6 * joules, rel=1e-12)
    assert front.record("energy").label == "energy per token (uJ)"


def test_the_objective_is_a_sum_over_units_as_it_says() -> None:
    sizes = architecture()
    energy, dense = example("objective", "Energy")(sizes), Genome.dense(sizes)

    def without(layer: int, channels: int) -> float:
        mask = dense.mlp_mask[layer].copy()
        mask[:channels] = False
        return float(energy(dense) - energy(dense.with_rows(mlp=[(layer, mask)])))

    assert without(0, 1) > 0
    assert without(3, 5) == pytest.approx(5 * without(0, 1))


def test_a_finishing_method_runs(tmp_path: Path) -> None:
    run = searched(tmp_path, "finishing_method", "search.evaluations=12")
    assert recorded(run).keys() == {"finishing_method.py:ScaledRows"}
    (point,) = run.front.select(["smallest"])
    (record,) = reconstruct_points(run, [point])
    inherited, finished = record.held_out_perplexity
    assert finished < inherited
    (written,) = export_points(run, [point], out=tmp_path / "models")
    found = nas_llm.load(written.path)[0].state_dict()
    before = build_subnet(load_model("tiny-llama"), point.genome).state_dict()
    names = {name for name in before if not torch.equal(before[name], found[name])}
    assert names
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in names} == {"o_proj", "down_proj"}
    for name in names:
        old, new = before[name].double(), found[name].double()
        factor = (new / old).nanmedian(1, keepdim=True).values
        # The weights are float16.
        assert ((new - factor * old).abs() <= 2**-9 * (factor * old).abs() + 1e-7).all()
        assert factor.max() <= 3.0 + 2**-8
    card = (written.path / "README.md").read_text(encoding="utf-8")
    assert "rows of the output projections scaled by least squares (at most 3 times)" in card


def test_the_scales_are_those_of_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight, inputs = drawn(7, 12), drawn(12, 12) @ drawn(12, 200)
    kept = torch.arange(12) % 3 > 0
    found = example("finishing_method", "ScaledRows")(largest=9.0).rows(weight, inputs @ inputs.T, kept)
    wanted, made = weight @ inputs, (weight * kept) @ inputs
    for row in range(7):
        (best,) = torch.linalg.lstsq(made[row, :, None], wanted[row, :, None]).solution
        torch.testing.assert_close(found[row], best.clamp(0.0, 9.0))


def save_olmo(directory: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(PACKAGED_MODELS["tiny-llama"].locate())
    config = OlmoConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        **settings,
    )
    model = OlmoForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def test_a_family_runs(tmp_path: Path) -> None:
    model = save_olmo(tmp_path / "olmo")
    run = searched(tmp_path, "family", f"model.source='{model}'", "search.evaluations=8", "space.ffn_multiple=8")
    assert "family.py" in recorded(run)
    dense, ids = load_model(str(model)), torch.arange(20)[None]
    for seed in range(3):
        genome = random_genome(dense, seed)
        subnet = build_subnet(dense, genome)
        torch.testing.assert_close(subnet(ids).logits, masked_copy(dense, genome)(ids).logits, atol=1e-4, rtol=1e-4)
        counted = CostModel(dense.architecture)(genome).params
        assert counted == sum(parameter.numel() for parameter in subnet.parameters())
    point = run.front.points[0]
    (written,) = export_points(run, [point], out=tmp_path / "models", method="none")
    loaded, _ = nas_llm.load(written.path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, build_subnet(dense, point.genome)(ids).logits)
    # As transformers alone loads and runs it.
    assert loaded.generate(ids, max_new_tokens=4, do_sample=False, eos_token_id=None).shape == (1, 24)
    clipped = save_olmo(tmp_path / "clipped", clip_qkv=8.0)
    with pytest.raises(ModelError, match="OLMo that clips queries, keys and values is not supported"):
        load_model(str(clipped))


def test_an_exporter_runs(tmp_path: Path) -> None:
    run = searched(tmp_path, "exporter", "search.evaluations=8")
    assert "exporter.py" in recorded(run)
    (point,) = run.front.select(["knee"])
    plain, own = export_points(
        run, [point], out=tmp_path / "models", formats=["hf", "shapes"], dtype={"shapes": "bfloat16"}
    )
    found = load_file(own.path / "weights.safetensors")
    for name, parameter in nas_llm.load(plain.path)[0].named_parameters():
        assert torch.equal(found.pop(name), parameter.to(torch.bfloat16))
    assert not found
    shapes = json.loads((own.path / "shapes.json").read_text(encoding="utf-8"))
    assert [layer["kv_groups"] for layer in shapes["layers"]] == point.genome.kv_groups.tolist()
    assert [layer["ffn_channels"] for layer in shapes["layers"]] == point.genome.ffn_channels.tolist()


def test_a_registered_cost_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(
        "from nas_llm.space import CostObjective, register_objective\n\n\n"
        "@register_objective('layers')\n"
        "class Layers(CostObjective):\n"
        "    name = 'layers'\n\n"
        "    def __call__(self, genome):\n"
        "        return 1.0 + float((genome.ffn_channels > 0).sum())\n",
        encoding="utf-8",
    )
    lines = 'plugins = ["names.py"]\nobjectives = ["perplexity", "layers"]\n'
    base, *_ = blocks(EXTENDING / "README.md", "toml")
    (tmp_path / "mine.toml").write_text(lines + base, encoding="utf-8")
    assert load_problem(tmp_path / "mine.toml").problem.objectives == ("perplexity", "layers")
    with pytest.raises(ConfigError, match="objective 'params' cannot be registered: the name is taken"):
        register_objective("params")
