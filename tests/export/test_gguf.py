"""llama.cpp computes what PyTorch computes, whatever sublayers are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from dense_models import dense_model, random_genome
from exported import provenance
from llama_cpp import LlamaCpp, largest_difference, partial_characters, torch_greedy
from llama_cpp_models import LLAMA_CPP_CASES, PROMPT, VOCABULARY, random_model

from nas_llm.errors import ExportError
from nas_llm.export import GENOME_FILE, export_gguf
from nas_llm.export.gguf._layers import plan_blocks
from nas_llm.models import DenseModel, load_model
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet


@pytest.fixture(scope="module")
def tiny() -> DenseModel:
    dense = load_model("tiny-llama")
    dense.model.float()
    return dense


@pytest.fixture(scope="module")
def banned(tiny: DenseModel) -> list[int]:
    return partial_characters(tiny.tokenizer, VOCABULARY)


def _masks(dense: DenseModel) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    whole = Genome.dense(dense.architecture)
    return whole.attn_mask.copy(), whole.mlp_mask.copy()


def _genome(dense: DenseModel, case: str) -> Genome:
    attn, mlp = _masks(dense)
    if case == "uniform":
        attn[:, 1] = False
        mlp[:, ::2] = False
    if case == "attention-dropped":
        attn[[2, 5]] = False
    if case == "first-attention-dropped":
        attn[0] = False
    if case == "ffn-dropped":
        mlp[[0, 3, 5]] = False
    if case == "blocks-dropped":
        for layer in (0, 3, 5):
            attn[layer] = mlp[layer] = False
    if case == "fewer-groups":
        attn[1, 0] = attn[2, 1:] = attn[4, 2] = False
    if case == "odd-widths":
        for layer, width in enumerate((1, 31, 77, 96, 255, 256)):
            mlp[layer, width:] = False
    if case == "everything":
        attn[0] = attn[3] = attn[4] = mlp[4] = mlp[2] = False
        attn[1, 1] = attn[2, :2] = False
        mlp[5, 77:] = mlp[1, ::3] = False
    return Genome(attn, mlp)


def _written(dense: DenseModel, genome: Genome, target: Path, **options: Any) -> Path:
    subnet = build_subnet(dense, genome)
    return export_gguf(subnet, dense, target, provenance=provenance(dense, genome), **options)


@pytest.mark.parametrize(
    "case",
    [
        "uniform",
        "attention-dropped",
        "first-attention-dropped",
        "ffn-dropped",
        "blocks-dropped",
        "fewer-groups",
        "odd-widths",
        "everything",
    ],
)
def test_llama_cpp_agrees_with_pytorch(case: str, tiny: DenseModel, banned: list[int], tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to run a GGUF file")
    genome = _genome(tiny, case)
    subnet = build_subnet(tiny, genome)
    served = LlamaCpp(_written(tiny, genome, tmp_path / "m", dtype="f32"))
    count = 200 if case == "everything" else 60
    assert largest_difference(served, subnet, PROMPT, count, banned=banned, probs=VOCABULARY) < 1e-3
    assert served.greedy(PROMPT, 20) == torch_greedy(subnet, PROMPT, 20)


@pytest.mark.parametrize(
    ("case", "uniform"), [*((case, False) for case in LLAMA_CPP_CASES), ("biases", True), ("llama3-rope", True)]
)
def test_llama_cpp_agrees_on_every_trait(
    case: str, uniform: bool, tiny: DenseModel, banned: list[int], tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to run a GGUF file")
    dense = random_model(case, tiny)
    genome = Genome.dense(dense.architecture) if uniform else random_genome(dense, 0)
    assert uniform or not genome.kv_groups.all()
    assert uniform or not genome.ffn_channels.all()
    subnet = build_subnet(dense, genome)
    served = LlamaCpp(_written(dense, genome, tmp_path / "m", dtype="f32"), context=256)
    assert largest_difference(served, subnet, PROMPT, 40, banned=banned, probs=VOCABULARY) < 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 0.01), ("bf16", 0.1), ("q8_0", 0.25)])
def test_shorter_types_stay_close(
    dtype: str, tolerance: float, tiny: DenseModel, banned: list[int], tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to run a GGUF file")
    genome = _genome(tiny, "everything")
    path = _written(tiny, genome, tmp_path / "m", dtype=dtype)
    assert path.name == f"model-{dtype}.gguf"
    gap = largest_difference(LlamaCpp(path), build_subnet(tiny, genome), PROMPT, 60, banned=banned, probs=VOCABULARY)
    assert gap < tolerance


def _fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def test_sizes_and_origin_are_in_the_file(tiny: DenseModel, tmp_path: Path) -> None:
    genome = _genome(tiny, "everything")
    path = _written(tiny, genome, tmp_path / "m", dtype="f32")
    fields = _fields(path)
    # Layer 4 has nothing left. Layers 0 and 2 lack what llama.cpp needs: one head and 32 channels of zeros stand in.
    assert fields["general.architecture"] == "deci"
    assert fields["deci.block_count"] == 5
    assert fields["deci.attention.head_count"] == [1, 4, 2, 0, 6]
    assert fields["deci.attention.head_count_kv"] == [1, 2, 1, 0, 3]
    assert fields["deci.feed_forward_length"] == [256, 170, 32, 256, 77]
    assert fields["deci.attention.key_length"] == fields["deci.rope.dimension_count"] == 16
    assert fields["nas_llm.genome"] == genome.digest()
    assert fields["general.base_model.0.name"] == "tiny-llama"
    assert "general.license" not in fields
    assert {item.name for item in path.parent.iterdir()} == {path.name, GENOME_FILE, "nas_llm.json"}
    names = {tensor.name for tensor in gguf.GGUFReader(path).tensors}
    assert "output.weight" not in names
    assert "blk.3.attn_q.weight" not in names


def test_blocks_that_are_alike_make_a_plain_llama(tiny: DenseModel, tmp_path: Path) -> None:
    attn, mlp = _masks(tiny)
    attn[:, 0] = mlp[:, :56] = False
    attn[2] = mlp[2] = False
    fields = _fields(_written(tiny, Genome(attn, mlp), tmp_path / "m", dtype="f32"))
    assert fields["general.architecture"] == "llama"
    assert fields["llama.block_count"] == 5
    assert fields["llama.attention.head_count"] == 4
    assert fields["llama.feed_forward_length"] == 200


def test_rows_that_are_no_whole_blocks_are_kept_as_f16(
    tiny: DenseModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="nas_llm.export")
    path = _written(tiny, _genome(tiny, "odd-widths"), tmp_path / "m", dtype="q8_0")
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert types["blk.1.ffn_down.weight"] == "F16"
    assert types["blk.1.ffn_up.weight"] == types["blk.3.ffn_down.weight"] == types["token_embd.weight"] == "Q8_0"
    assert types["blk.1.ffn_norm.weight"] == "F32"
    assert "blk.1.ffn_down.weight has rows of 31 weights" in caplog.text


def test_plan_leaves_empty_blocks_out(tiny: DenseModel) -> None:
    blocks = plan_blocks(_genome(tiny, "blocks-dropped"), tiny.architecture)
    assert [block.layer for block in blocks] == [1, 2, 4]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("opt", "gguf cannot express this subnet.*model type 'opt'.*hf takes every family"),
        ("llama-gqa-tied", "gguf needs a tokenizer"),
    ],
)
def test_refusals_name_format_and_reason(case: str, message: str, tmp_path: Path) -> None:
    dense = dense_model(case)
    with pytest.raises(ExportError, match=message):
        _written(dense, random_genome(dense, 0), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_unknown_rotary_positions_are_refused(tiny: DenseModel, tmp_path: Path) -> None:
    dense = random_model("untied", tiny)
    dense.model.config.rope_parameters = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    with pytest.raises(ExportError, match="'yarn' have no form.*default, linear, llama3 are accepted"):
        _written(dense, Genome.dense(dense.architecture), tmp_path / "m")


def test_an_unknown_type_is_refused(tiny: DenseModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="types are f32, f16, bf16, q8_0"):
        _written(tiny, Genome.dense(tiny.architecture), tmp_path / "m", dtype="q4_0")


def test_a_model_without_attention_is_refused(tiny: DenseModel, tmp_path: Path) -> None:
    attn, mlp = _masks(tiny)
    attn[:] = False
    with pytest.raises(ExportError, match="no attention is left"):
        _written(tiny, Genome(attn, mlp), tmp_path / "m")


def test_an_existing_export_is_kept_unless_forced(tiny: DenseModel, tmp_path: Path) -> None:
    genome = Genome.dense(tiny.architecture)
    (tmp_path / "m").mkdir()
    with pytest.raises(ExportError, match="exists; replace it with --force"):
        _written(tiny, genome, tmp_path / "m")
    assert _written(tiny, genome, tmp_path / "m", force=True).is_file()
