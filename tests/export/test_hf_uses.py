"""An export does what its dense model does: generation, padding, tuning, evaluation, saving, without nas_llm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import provenance
from safetensors import safe_open
from transformers import LlamaForCausalLM, PreTrainedModel

from nas_llm.errors import ExportError
from nas_llm.evaluation import load_any
from nas_llm.export import export_hf, parse_size
from nas_llm.models import DenseModel, load_model
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet

TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
IDS = torch.arange(20)[None]
# Never imported here: it makes nas_llm unimportable.
STRANGER = Path(__file__).parents[1] / "support" / "stranger.py"
USES = ("caches", "padding", "lora", "device_map", "again", "checkpointing", "logits")


@pytest.fixture(scope="module")
def dense() -> DenseModel:
    found = load_model("tiny-llama")
    found.tokenizer.chat_template = TEMPLATE
    found.model.generation_config.max_length = 77
    return found


def irregular(dense: DenseModel) -> Genome:
    """Differing widths, a block without attention, one without FFN, one without either."""
    shape, rng = dense.architecture, np.random.default_rng(0)
    attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = rng.random((shape.num_layers, shape.intermediate_size)) < 0.6
    attn[0] = attn[3] = mlp[2] = mlp[3] = False
    attn[1, 0] = False
    return Genome(attn, mlp)


def uniform(dense: DenseModel, groups: int = 2, channels: int = 130) -> Genome:
    shape = dense.architecture
    attn = np.zeros((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool)
    attn[:, :groups] = mlp[:, :channels] = True
    return Genome(attn, mlp)


def exported(dense: DenseModel, genome: Genome, target: Path, **options: Any) -> PreTrainedModel:
    """Export, and give the model in memory back."""
    subnet = build_subnet(dense, genome)
    export_hf(subnet, dense, target, provenance=provenance(dense, genome), **options)
    return subnet


def ask(directory: Path, scratch: Path, *uses: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(STRANGER), str(directory), str(scratch), ",".join(uses)],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
        env={**os.environ, "HF_MODULES_CACHE": str(scratch / "modules")},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def export(dense: DenseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("irregular") / "model"
    exported(dense, irregular(dense), target, dtype="float32")
    return target


@pytest.fixture(scope="module")
def answers(export: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ask(export, tmp_path_factory.mktemp("stranger"), *USES)


def test_every_kind_of_cache_generates_the_same(answers: dict[str, Any]) -> None:
    found = answers["caches"]
    assert len(found["none"][0]) == 12
    assert found["dynamic"] == found["none"]
    assert found["static"] == found["none"]


def test_left_padding_in_a_batch_generates_what_single_prompts_do(answers: dict[str, Any]) -> None:
    found = answers["padding"]
    assert found["batch"] == found["single"]
    assert len({tuple(row) for row in found["single"]}) > 1


def test_lora_trains(answers: dict[str, Any]) -> None:
    pytest.importorskip("peft")
    found = answers["lora"]
    assert found["without_gradient"] == 0
    assert found["nonzero"] == found["trained"] > 0
    assert found["losses"][-1] < found["losses"][0]


def test_device_map_auto_places_whole_blocks(answers: dict[str, Any]) -> None:
    found = answers["device_map"]
    assert found["same"]
    assert len(set(found["places"].values())) > 1
    blocks = [name for name in found["places"] if name.startswith("model.layers.")]
    assert len(blocks) == 6
    assert all(name.count(".") == 2 for name in blocks)


def test_saved_again_in_shards_it_reloads_equal(answers: dict[str, Any]) -> None:
    assert answers["again"]["same"]
    assert answers["again"]["files"] > 1


def test_gradient_checkpointing_changes_nothing(answers: dict[str, Any]) -> None:
    found = answers["checkpointing"]
    assert found["loss"]
    assert found["gradients"]
    assert found["parameters"] > 0


def test_lm_eval_scores_it(export: Path) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, words = load_any(str(export), dtype=None)
    context, continuation = "The man went to", " the house"
    request = Instance("loglikelihood", {}, (context, continuation), 0)
    found, _ = HFLM(pretrained=model, tokenizer=words, batch_size=1).loglikelihood([request])[0]
    start, whole = words(context)["input_ids"], words(context + continuation)["input_ids"]
    scores = torch.log_softmax(model(torch.tensor([whole])).logits[0].float(), dim=-1)
    own = sum(scores[at - 1, whole[at]].item() for at in range(len(start), len(whole)))
    assert found == pytest.approx(own, abs=1e-3)


def test_a_sharded_export_reloads_bit_for_bit(dense: DenseModel, tmp_path: Path) -> None:
    subnet = exported(dense, irregular(dense), tmp_path / "m", max_shard_size="100kB")
    shards = sorted((tmp_path / "m").glob("model-*-of-*.safetensors"))
    assert len(shards) > 2
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {shard.name for shard in shards}
    assert torch.equal(load_any(str(tmp_path / "m"), dtype=None)[0](IDS).logits, subnet(IDS).logits)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "keep"])
def test_weights_have_the_type_that_was_asked_for(dense: DenseModel, tmp_path: Path, dtype: str) -> None:
    subnet = exported(dense, irregular(dense), tmp_path / "m", dtype=dtype)
    expected = dense.model.dtype if dtype == "keep" else getattr(torch, dtype)
    assert subnet.dtype == dense.model.dtype
    model, _ = load_any(str(tmp_path / "m"), dtype=None)
    assert model.dtype == expected
    name = "model.embed_tokens.weight"
    with safe_open(tmp_path / "m" / "model.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor(name), subnet.state_dict()[name].to(expected))
    assert (tmp_path / "m" / "model.safetensors").stat().st_mode & 0o077 == 0o044


def test_chat_template_generation_settings_and_tokenizer_come_along(dense: DenseModel, export: Path) -> None:
    _, words = load_any(str(export))
    assert words("A house")["input_ids"] == dense.tokenizer("A house")["input_ids"]
    chat = [{"role": "user", "content": "hello"}]
    assert words.apply_chat_template(chat, tokenize=False) == "<user>hello"
    assert json.loads((export / "generation_config.json").read_text())["max_length"] == 77


def test_a_uniform_subnet_is_a_stock_model_without_code(dense: DenseModel, tmp_path: Path) -> None:
    # Six heads of 16 become four, beside a hidden size of 96: head_dim is explicit.
    subnet = exported(dense, uniform(dense), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["architectures"] == ["LlamaForCausalLM"]
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 130, "head_dim": 16}
    assert sizes.items() <= config.items()
    assert not {"auto_map", "per_layer_config"} & set(config)
    assert not list((tmp_path / "m").glob("*.py"))
    card = (tmp_path / "m" / "README.md").read_text()
    assert "trust_remote_code" not in card
    model = LlamaForCausalLM.from_pretrained(tmp_path / "m", dtype="auto").eval()
    assert torch.equal(model(IDS).logits, subnet(IDS).logits)
    found = ask(tmp_path / "m", tmp_path, "logits", "padding")
    assert found["logits"]["class"] == "LlamaForCausalLM"
    assert torch.equal(torch.load(tmp_path / "logits.pt"), subnet(IDS).logits)
    assert found["padding"]["batch"] == found["padding"]["single"]


@pytest.mark.parametrize("change", ["narrow", "no-attention", "no-ffn"])
def test_one_odd_layer_needs_the_modelling_file(dense: DenseModel, tmp_path: Path, change: str) -> None:
    genome = uniform(dense, groups=3)
    attn, mlp = genome.attn_mask.copy(), genome.mlp_mask.copy()
    if change == "narrow":
        mlp[2, 0] = False
    else:
        (attn if change == "no-attention" else mlp)[2] = False
    exported(dense, Genome(attn, mlp), tmp_path / "m")
    assert "auto_map" in json.loads((tmp_path / "m" / "config.json").read_text())


def test_sizes_that_the_stock_class_cannot_say_keep_the_modelling_file(tmp_path: Path) -> None:
    from dense_models import dense_model

    for case, groups, stock in (("opt", 6, True), ("opt", 4, False), ("mistral", 1, True), ("opt-post-norm", 6, True)):
        model = dense_model(case)
        subnet = exported(model, uniform(model, groups=groups, channels=40), tmp_path / f"{case}-{groups}")
        config = json.loads((tmp_path / f"{case}-{groups}" / "config.json").read_text())
        assert ("auto_map" not in config) == stock, (case, groups)
        if stock:
            again = type(model.model).from_pretrained(tmp_path / f"{case}-{groups}").eval()
            assert torch.equal(again(IDS).logits, subnet(IDS).logits)


_TOKENIZER = """
import sys
sys.modules["nas_llm"] = None
from transformers import AutoTokenizer
options = {"trust_remote_code": True} if sys.argv[2] == "trusted" else {}
print(AutoTokenizer.from_pretrained(sys.argv[1], **options)("A house")["input_ids"])
"""


@pytest.mark.parametrize(("how", "kind"), [("closed", "irregular"), ("trusted", "irregular"), ("open", "stock")])
def test_the_tokenizer_asks_nothing(dense: DenseModel, export: Path, tmp_path: Path, how: str, kind: str) -> None:
    """With nobody to ask (standard input closed), with code trusted as the card says, or with nothing to trust."""
    directory = export
    if kind == "stock":
        directory = tmp_path / "m"
        exported(dense, uniform(dense), directory)
    words = [sys.executable, "-c", _TOKENIZER, str(directory), how]
    if how == "closed":
        words = ["sh", "-c", 'exec "$@" <&-', "sh", *words]
    # An open pipe in which nothing comes: a question would wait fifteen seconds for its answer.
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        process.wait(60)
    assert process.returncode == 0
    assert said.strip() == str(dense.tokenizer("A house")["input_ids"])


@pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 10**9), ("200 kb", 200_000), ("1.5M", 1_500_000), ("77", 77)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-5GB", "0", "5 apples", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ExportError, match="is no size; write e.g. 5GB"):
        parse_size(text)


def test_an_unknown_type_is_refused_before_anything_is_written(dense: DenseModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="unknown dtype 'int3' for hf; take keep, float32, bfloat16, float16"):
        exported(dense, uniform(dense), tmp_path / "m", dtype="int3")
    assert list(tmp_path.iterdir()) == []
