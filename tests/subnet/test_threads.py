"""No value depends on the number of threads: sizes of a small real model, at which LAPACK shares its work out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nas_llm.calibration import SCORERS, calibrate
from nas_llm.data import WindowSet
from nas_llm.models import DenseModel, adapter_for, one_thread
from nas_llm.reconstruction import BlockReconstructor, SequentialReconstructor, Solver, admm, closed_form
from nas_llm.space import Genome
from nas_llm.subnet import PopulationEvaluator, Racing

CPU = torch.device("cpu")
THREADS = (1, 2, 3)


@pytest.fixture(autouse=True)
def threads_of_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dense() -> DenseModel:
    """SmolLM2-135M's widths in two layers; KV groups are copies of one, and so are pairs of channels."""
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=2,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=512,
        max_position_embeddings=128,
        mlp_bias=True,
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, 0.05, generator=generator)
    adapter = adapter_for("llama")
    shape = adapter.architecture(config)
    return DenseModel(
        model=model,
        tokenizer=None,  # type: ignore[arg-type]
        adapter=adapter,
        architecture=shape,
        source="wide",
        revision="wide-0",
    )


def _windows(name: str, count: int) -> WindowSet:
    rng = np.random.default_rng(len(name))
    return WindowSet(tokens=rng.integers(1, 512, (count, 64)), name=name)


def _pruned(dense: DenseModel) -> Genome:
    whole = Genome.dense(dense.architecture)
    attn, mlp = whole.attn_mask.copy(), whole.mlp_mask.copy()
    attn[0, 0] = False
    mlp[:, 1000:] = False
    return Genome(attn, mlp)


@pytest.mark.parametrize(("metric", "racing"), [("perplexity", None), ("perplexity", Racing()), ("kl", None)])
def test_a_candidate_alone_scores_what_it_scores_beside_others(
    dense: DenseModel, metric: str, racing: Racing | None
) -> None:
    calibration = calibrate(dense, _windows("calibration", 16), scorer="importance", damping=0.01, device=CPU)
    pruned = _pruned(dense)

    def value(genomes: list[Genome], threads: int) -> float:
        torch.set_num_threads(threads)
        reconstructor = BlockReconstructor(dense, calibration, damping=0.01, device=CPU, dtype=torch.float32)
        evaluator = PopulationEvaluator(
            dense,
            _windows("fitness", 8),
            metric=metric,
            device=CPU,
            dtype=torch.float32,
            reconstructor=reconstructor,
            racing=racing,
        )
        found = evaluator.evaluate(genomes, bars=[np.inf] * len(genomes) if racing else None)[0]
        assert torch.get_num_threads() == threads
        return found

    alone = {value([pruned], threads) for threads in THREADS}
    beside = {value([pruned, Genome.dense(dense.architecture)], threads) for threads in THREADS}
    assert len(alone | beside) == 1


def test_a_race_is_judged_alike_by_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    dense, other = torch.rand(2, 200_000, generator=generator, dtype=torch.float64)
    found = set()
    for threads in THREADS:
        torch.set_num_threads(threads)
        found.add(Racing().estimate(other[:150_000], dense))
    assert len(found) == 1


def test_values_that_depended_on_threads_are_not_mixed_with_new_ones(dense: DenseModel) -> None:
    evaluator = PopulationEvaluator(dense, _windows("fitness", 2), metric="perplexity", device=CPU, dtype=torch.float32)
    assert evaluator.identity.split("|")[0] not in ("v1", "v2", "v3")


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_copies_of_a_unit_are_ranked_alike(
    dense: DenseModel, scorer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = LlamaForCausalLM._from_config(dense.model.config, attn_implementation="sdpa").eval().requires_grad_(False)
    copied.load_state_dict(dense.model.state_dict())
    for layer in copied.model.layers:
        attention, ffn = layer.self_attn, layer.mlp
        for projection, rows in ((attention.q_proj, 192), (attention.k_proj, 64), (attention.v_proj, 64)):
            projection.weight[:] = projection.weight[:rows].repeat(3, 1)
        attention.o_proj.weight[:] = attention.o_proj.weight[:, :192].repeat(1, 3)
        for projection in (ffn.gate_proj, ffn.up_proj):
            projection.weight[1::2] = projection.weight[::2]
        ffn.down_proj.weight[:, 1::2] = ffn.down_proj.weight[:, ::2]
    model = DenseModel(
        model=copied,
        tokenizer=dense.tokenizer,
        adapter=dense.adapter,
        architecture=dense.architecture,
        source="copies",
        revision="copies-0",
    )
    found = []
    for threads in THREADS:
        torch.set_num_threads(threads)
        monkeypatch.setenv("NAS_LLM_CACHE", str(tmp_path / str(threads)))
        scores = calibrate(model, _windows("calibration", 16), scorer=scorer, damping=0.01, device=CPU).scores
        found.append([ranks(layer).tolist() for layer in (0, 1) for ranks in (scores.attn_ranks, scores.mlp_ranks)])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("start", [False, True])
def test_a_sequentially_finished_point_is_the_same_bits(dense: DenseModel, start: bool) -> None:
    calibration = calibrate(dense, _windows("calibration", 16), scorer="importance", damping=0.01, device=CPU)
    found = []
    for threads in THREADS:
        torch.set_num_threads(threads)
        sequential = SequentialReconstructor(
            dense,
            _windows("finish", 24),
            damping=(0.01, 0.1),
            start=BlockReconstructor(dense, calibration, damping=0.01, device=CPU) if start else None,
            device=CPU,
        )
        found.append(sequential.reconstruct(_pruned(dense)).layers)
    for other in found[1:]:
        for before, after in zip(found[0], other, strict=True):
            assert before.keys() == after.keys()
            assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("solve", [closed_form, admm])
def test_a_refit_that_is_kept_is_the_same_bits(dense: DenseModel, solve: Solver) -> None:
    calibration = calibrate(dense, _windows("calibration", 16), scorer="importance", damping=0.01, device=CPU)
    pruned, found = _pruned(dense), []
    for threads in THREADS:
        torch.set_num_threads(threads)
        reconstructor = BlockReconstructor(dense, calibration, damping=0.01, solve=solve, device=CPU, residuals=True)
        masks = pruned.attn_mask[0], pruned.mlp_mask[0]
        sliced = dense.adapter.slice_block(dense.architecture, dense.block_state(0), *masks)
        found.append((reconstructor.refit(0, sliced, *masks), reconstructor.residuals))
    for weights, residuals in found[1:]:
        assert residuals == found[0][1]
        assert all(torch.equal(weights[name], found[0][0][name]) for name in weights)


def test_threads_come_back_after_a_failure() -> None:
    def fail() -> None:
        with one_thread():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError

    torch.set_num_threads(3)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == 3
