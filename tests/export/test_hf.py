"""Exports load in transformers alone, bit for bit, and say where they come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dense_models import dense_model, random_genome, random_windows

from nas_llm.errors import ExportError
from nas_llm.evaluation import load_any
from nas_llm.export import GENOME_FILE, Provenance, export_hf
from nas_llm.models import DenseModel
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import build_subnet

# A process in which nas_llm cannot be imported, as on a user's machine.
_STRANGER = """
import json, sys
sys.modules["nas_llm"] = None
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
ids = torch.tensor(json.loads(sys.argv[2]))
again = sys.argv[3] + "/again"
model.save_pretrained(again)
reloaded = AutoModelForCausalLM.from_pretrained(again, trust_remote_code=True).eval()
with torch.no_grad():
    logits = model(ids).logits
    same = torch.equal(logits, reloaded(ids).logits)
    short = ids[:1, :8]
    tokens = model.generate(short, attention_mask=torch.ones_like(short), max_new_tokens=8, do_sample=False)
torch.save({"logits": logits, "tokens": tokens, "same": same}, sys.argv[3] + "/out.pt")
"""


def _provenance(dense: DenseModel, genome: Genome) -> Provenance:
    costs = CostModel(dense.architecture, sequence_length=64)
    return Provenance(
        base_model=dense.source,
        base_revision=dense.revision,
        problem="a-problem",
        seed=7,
        point="p03",
        genome=genome,
        cost=costs(genome),
        dense_cost=costs.dense,
        sequence_length=64,
        weights="inherited as they are",
        texts={"held_out": random_windows(name="held_out").describe()},
        perplexities={"held_out": (10.0, 12.5)},
        reproduce=("nas-llm search a-problem",),
        versions={"torch": torch.__version__},
    )


@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-mha-biases", "mistral", "opt", "opt-post-norm"])
def test_reloads_without_nas_llm_bit_for_bit(case: str, tmp_path: Path) -> None:
    dense = dense_model(case)
    genome = random_genome(dense, 0)
    subnet = build_subnet(dense, genome)
    target = export_hf(subnet, dense, tmp_path / "model", provenance=_provenance(dense, genome))
    ids = torch.from_numpy(random_windows().tokens.copy())
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    subprocess.run(
        [sys.executable, "-c", _STRANGER, str(target), json.dumps(ids.tolist()), str(tmp_path)],
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    out = torch.load(tmp_path / "out.pt")
    assert torch.equal(out["logits"], subnet(ids).logits)
    assert out["same"]
    short = ids[:1, :8]
    own = subnet.generate(short, attention_mask=torch.ones_like(short), max_new_tokens=8, do_sample=False)
    assert torch.equal(out["tokens"], own)


def test_loads_through_this_package_without_running_its_code(tmp_path: Path) -> None:
    dense = dense_model("opt")
    genome = random_genome(dense, 1)
    subnet = build_subnet(dense, genome)
    target = export_hf(subnet, dense, tmp_path / "model", provenance=_provenance(dense, genome))
    (target / "modeling_nas_opt.py").write_text("raise SystemExit('the code of an export was run')\n")
    config = json.loads((target / "config.json").read_text())
    classes = {"AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification"}
    assert set(config["auto_map"]) == classes
    _save_a_tokenizer(target)
    loaded, _ = load_any(str(target))
    ids = torch.from_numpy(random_windows().tokens.copy())
    assert torch.equal(loaded(ids).logits, subnet(ids).logits)


def _save_a_tokenizer(target: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"a": 0, "?": 1}, unk_token="?"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(target)


def test_configuration_names_every_layer(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    genome = random_genome(dense, 0)
    target = export_hf(build_subnet(dense, genome), dense, tmp_path / "m", provenance=_provenance(dense, genome))
    layers = json.loads((target / "config.json").read_text())["per_layer_config"]
    for layer, (groups, channels) in enumerate(zip(genome.kv_groups, genome.ffn_channels, strict=True)):
        entry = layers.get(str(layer), {})
        assert ("attention" in entry.get("skip", [])) == (groups == 0)
        assert ("mlp" in entry.get("skip", [])) == (channels == 0)
        if groups:
            assert entry.get("num_key_value_heads", 3) == groups
            assert entry.get("num_attention_heads", 6) == 2 * groups
        if channels:
            assert entry.get("intermediate_size", 80) == channels


def test_card_and_provenance_say_where_it_comes_from(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    genome = random_genome(dense, 0)
    provenance = _provenance(dense, genome)
    target = export_hf(build_subnet(dense, genome), dense, tmp_path / "m", provenance=provenance)
    card = (target / "README.md").read_text()
    facts = (
        genome.digest(),
        dense.revision,
        "a-problem",
        "seed 7",
        "12.500",
        f"{provenance.cost.macs_per_token:,}",
        "nas-llm search a-problem",
        f"{provenance.cost.inheriting_ratio:.3f}",
    )
    for fact in facts:
        assert fact in card
    assert Genome.from_bytes((target / GENOME_FILE).read_bytes()) == genome
    assert json.loads((target / "nas_llm.json").read_text())["perplexities"]["held_out"]["subnet"] == 12.5


def test_an_existing_export_is_kept_unless_forced(tmp_path: Path) -> None:
    dense = dense_model("opt")
    genome = random_genome(dense, 0)
    subnet, provenance = build_subnet(dense, genome), _provenance(dense, genome)
    target = tmp_path / "m"
    export_hf(subnet, dense, target, provenance=provenance)
    (target / "mine.txt").write_text("precious")
    with pytest.raises(ExportError, match="exists; replace it with --force"):
        export_hf(subnet, dense, target, provenance=provenance)
    assert (target / "mine.txt").read_text() == "precious"
    export_hf(subnet, dense, target, provenance=provenance, force=True)
    assert (target / "config.json").is_file()
    assert not (target / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_export_is_never_replaced(tmp_path: Path, force: bool) -> None:
    dense = dense_model("opt")
    genome = random_genome(dense, 0)
    subnet, provenance = build_subnet(dense, genome), _provenance(dense, genome)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("folder", "file"):
        with pytest.raises(ExportError, match=f"{name} exists and is no export of nas-llm; name another place"):
            export_hf(subnet, dense, tmp_path / name, provenance=provenance, force=force)
    assert (tmp_path / "folder" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "precious"


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    dense = dense_model("opt")
    genome = random_genome(dense, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write"):
        export_hf(build_subnet(dense, genome), dense, tmp_path / "file" / "m", provenance=_provenance(dense, genome))


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = dense_model("opt")
    genome = random_genome(dense, 0)

    def full(*args: object, **kwargs: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nas_llm.export._hf.model_card", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export_hf(build_subnet(dense, genome), dense, tmp_path / "m", provenance=_provenance(dense, genome))
    assert list(tmp_path.iterdir()) == []
