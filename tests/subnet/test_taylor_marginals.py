"""First-order marginals are directional derivatives of the real loss, checked by finite differences in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import DENSE_CASES, dense_model, random_genome, random_windows
from questions import plain_margin, random_questions
from torch import Tensor
from torch.nn import functional

from nas_llm.calibration import keep_grams
from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel
from nas_llm.reconstruction import BlockReconstructor
from nas_llm.space import BoolArray, Genome, UnitScores, resize_attention
from nas_llm.subnet import Reconstructor, TaylorMarginals, build_subnet

CPU = torch.device("cpu")
STEP = 9
WINDOWS = random_windows(count=4)
QUESTIONS = random_questions(5)
TERMS = {"kl": 0.5, "margin": 2.0}


def _scores(dense: DenseModel, mode: str = "kv_group") -> UnitScores:
    shape, rng = dense.architecture, np.random.default_rng(3)
    layout = shape.attention_layout(mode)
    return UnitScores(
        rng.random((shape.num_layers, layout.units)), rng.random((shape.num_layers, shape.intermediate_size)), layout
    )


def _marginals(dense: DenseModel, metric: str, reconstructor: Reconstructor | None, tokens: int) -> TaylorMarginals:
    return TaylorMarginals(
        dense,
        WINDOWS,
        metric=metric,
        scores=_scores(dense),
        step=STEP,
        tokens=tokens,
        device=CPU,
        dtype=torch.float32,
        reconstructor=reconstructor,
        questions=QUESTIONS,
        terms=TERMS if metric == "fitness" else None,
    )


class _Oracle:
    """The dense model in float64 with output projections of our choice, omitted units cut off by zero columns."""

    def __init__(self, dense: DenseModel, metric: str, reconstructor: Reconstructor | None) -> None:
        self.dense = dense
        self.metric = metric
        self.reconstructor = reconstructor
        self.model = copy.deepcopy(dense.model).double()
        self.layers = dense.adapter.layers(self.model)
        self.ids = torch.from_numpy(WINDOWS.tokens)
        self.target = functional.log_softmax(self.model(self.ids).logits[:, :-1], -1)

    def projection(self, layer: int, kind: str, mask: BoolArray) -> tuple[Tensor, Tensor | None]:
        """Dense-width weight and bias of the output projection that a mask gets."""
        a, names = self.dense.architecture, self.dense.adapter.names
        whole = np.ones(a.num_kv_heads, dtype=bool), np.ones(a.intermediate_size, dtype=bool)
        masks = (mask, whole[1]) if kind == "attn" else (whole[0], mask)
        name = names.o if kind == "attn" else names.fc2
        weights = self.dense.block_state(layer)
        state = self.dense.adapter.slice_block(a, weights, *masks)
        if self.reconstructor is not None:
            state = self.reconstructor.refit(layer, state, *masks)
        weight = torch.zeros_like(weights[f"{name}.weight"])
        bias = weights.get(f"{name}.bias")
        if not mask.any():
            return weight.double(), None if bias is None else torch.zeros_like(bias).double()
        units = mask.repeat(a.heads_per_group * a.head_dim) if kind == "attn" else mask
        weight[:, torch.from_numpy(units)] = state[f"{name}.weight"]
        return weight.double(), None if bias is None else state[f"{name}.bias"].double()

    def place(self, layer: int, kind: str, weight: Tensor, bias: Tensor | None) -> None:
        names = self.dense.adapter.names
        module = self.layers[layer].get_submodule(names.o if kind == "attn" else names.fc2)
        module.weight.data.copy_(weight)
        if bias is not None:
            module.bias.data.copy_(bias)

    def loss(self) -> float:
        if self.metric == "fitness":
            return TERMS["kl"] * self.token_loss("kl") + TERMS["margin"] * float(plain_margin(self.model, QUESTIONS))
        return float(plain_margin(self.model, QUESTIONS)) if self.metric == "margin" else self.token_loss(self.metric)

    def token_loss(self, metric: str) -> float:
        found = functional.log_softmax(self.model(self.ids).logits[:, :-1], -1)
        if metric == "kl":
            return float((self.target.exp() * (self.target - found)).sum(-1).mean())
        return float(functional.nll_loss(found.flatten(0, 1), self.ids[:, 1:].flatten()))

    def slope(self, layer: int, mask: BoolArray, other: BoolArray) -> float:
        """Change of the loss per share of the way from one FFN mask's fc2 to the other's."""
        (weight, bias), (weight_to, bias_to) = (self.projection(layer, "mlp", m) for m in (mask, other))
        losses = []
        # Not smaller where transformers' RMSNorm rounds to float32 even here; OPT, whose norms do not, has kinks.
        step = 1e-4 if self.dense.adapter.name == "opt" else 2e-3
        for part in (step, -step):
            shifted = None if bias is None or bias_to is None else bias + part * (bias_to - bias)
            self.place(layer, "mlp", weight + part * (weight_to - weight), shifted)
            losses.append(self.loss())
        self.place(layer, "mlp", weight, bias)
        return (losses[0] - losses[1]) / (2 * step)


def _resized(mask: BoolArray, scores: np.ndarray, change: int) -> BoolArray | None:
    """One step more or less, written down without the code under test; None where there is none."""
    count = int(mask.sum())
    wanted = min(max(count + change, 0), len(mask))
    if wanted == count:
        return None
    result = mask.copy()
    pool = np.flatnonzero(~mask) if change > 0 else np.flatnonzero(mask)
    by_score = pool[np.argsort(scores[pool])]
    result[by_score[::-1][: wanted - count] if change > 0 else by_score[: count - wanted]] = change > 0
    return result


@pytest.mark.parametrize("metric", ["kl", "perplexity", "margin", "fitness"])
@pytest.mark.parametrize("refitted", [False, True])
@pytest.mark.parametrize("case", DENSE_CASES)
def test_marginals_are_derivatives_of_the_loss(case: str, refitted: bool, metric: str) -> None:
    dense = dense_model(case)
    genome, scores = random_genome(dense, 3), _scores(dense)
    reconstructor = None
    if refitted:
        grams = keep_grams(dense, random_windows(count=40, seed=5), device=CPU)
        reconstructor = BlockReconstructor(dense, grams, damping=1e-2, device=CPU)
    found = _marginals(dense, metric, reconstructor, max(WINDOWS.num_tokens, QUESTIONS.num_tokens))(genome, 0)
    oracle = _Oracle(dense, metric, reconstructor)
    for layer in range(genome.num_layers):
        for kind, masks in (("attn", genome.attn_mask), ("mlp", genome.mlp_mask)):
            oracle.place(layer, kind, *oracle.projection(layer, kind, masks[layer]))
    assert found.step == STEP
    for layer, mask in enumerate(genome.mlp_mask):
        for change, marginal in ((-STEP, found.mlp_less[layer]), (STEP, found.mlp_more[layer])):
            other = _resized(mask, scores.mlp[layer], change) if mask.any() else None
            if other is None:
                assert np.isnan(marginal)
            else:
                assert marginal == pytest.approx(oracle.slope(layer, mask, other), rel=5e-3, abs=2e-4)


def test_turns_take_other_text_until_all_was_read() -> None:
    dense = dense_model("llama-gqa-tied")
    genome = random_genome(dense, 1)
    marginals = _marginals(dense, "kl", None, 2 * WINDOWS.tokens.shape[1])
    first, second, third = (marginals(genome, turn).mlp_less for turn in range(3))
    assert not np.allclose(first, second, equal_nan=True)
    assert np.array_equal(first, third, equal_nan=True)
    # Both halves together are the whole.
    whole = _marginals(dense, "kl", None, WINDOWS.num_tokens)(genome, 0).mlp_less
    np.testing.assert_allclose((first + second) / 2, whole, atol=1e-7)


def test_questions_take_turns_too() -> None:
    dense = dense_model("llama-gqa-tied")
    genome = random_genome(dense, 1)
    marginals = _marginals(dense, "margin", None, QUESTIONS.num_tokens // 5)
    turns = [marginals(genome, turn).mlp_more for turn in range(len(QUESTIONS) + 1)]
    assert not np.allclose(turns[0], turns[1], equal_nan=True)
    np.testing.assert_array_equal(turns[0], turns[-1])
    whole = _marginals(dense, "margin", None, QUESTIONS.num_tokens)(genome, 0).mlp_more
    np.testing.assert_allclose(np.mean(turns[:-1], axis=0), whole, atol=1e-6)


def test_questions_and_terms_have_to_be_there() -> None:
    dense = dense_model("llama-gqa-tied")
    settings: dict[str, Any] = {"scores": _scores(dense), "step": STEP, "device": CPU, "dtype": torch.float32}
    with pytest.raises(ConfigError, match="margin is measured on questions, and there are none"):
        TaylorMarginals(dense, WINDOWS, metric="margin", **settings)
    with pytest.raises(ConfigError, match="is a sum of terms"):
        TaylorMarginals(dense, WINDOWS, metric="fitness", questions=QUESTIONS, **settings)


def test_nothing_is_changed() -> None:
    dense = dense_model("llama-gqa-tied")
    before = {name: weight.clone() for name, weight in dense.model.state_dict().items()}
    _marginals(dense, "kl", None, WINDOWS.num_tokens)(Genome.dense(dense.architecture), 0)
    assert all(torch.equal(before[name], weight) for name, weight in dense.model.state_dict().items())
    assert all(parameter.grad is None for parameter in dense.model.parameters())


class _HeadOracle:
    """A subnet in float64 whose reach of one layer's heads is cut off by zero rows of q and zero columns of o."""

    def __init__(
        self, dense: DenseModel, genome: Genome, layer: int, wide: BoolArray, reconstructor: Reconstructor | None
    ) -> None:
        self.dense, self.genome, self.layer, self.reconstructor = dense, genome, layer, reconstructor
        a, names = dense.architecture, dense.adapter.names
        reach = genome.with_rows(attn=[(layer, wide)])

        def edit(index: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
            row = wide if index == layer else genome.attn_mask[index]
            return sliced if reconstructor is None else reconstructor.refit(index, sliced, row, genome.mlp_mask[index])

        self.model = build_subnet(dense, reach, edit=edit).double()
        self.block = dense.adapter.layers(self.model)[layer]
        self.q, self.o = self.block.get_submodule(names.q), self.block.get_submodule(names.o)
        self.wide = [a.of_query_heads(mask) for mask in a.head_channels(wide)]
        self.ids = torch.from_numpy(WINDOWS.tokens)

    def weights(self, row: BoolArray) -> dict[str, Tensor]:
        """q and o of an attention mask, as wide as the reach."""
        a, names, mlp = self.dense.architecture, self.dense.adapter.names, self.genome.mlp_mask[self.layer]
        state = self.dense.adapter.slice_block(a, self.dense.block_state(self.layer), row, mlp)
        if self.reconstructor is not None:
            state = self.reconstructor.refit(self.layer, state, row, mlp)
        qk, vo = (
            torch.from_numpy(np.flatnonzero(a.of_query_heads(mask)[wide]))
            for mask, wide in zip(a.head_channels(row), self.wide, strict=True)
        )
        q, o = (state[f"{name}.weight"].double() for name in (names.q, names.o))
        found = {
            "q.weight": q.new_zeros(int(self.wide[0].sum()), q.shape[1]).index_copy(0, qk, q),
            "o.weight": o.new_zeros(len(o), int(self.wide[1].sum())).index_copy(1, vo, o),
        }
        if f"{names.q}.bias" in state:
            bias = state[f"{names.q}.bias"].double()
            found["q.bias"] = bias.new_zeros(int(self.wide[0].sum())).index_copy(0, qk, bias)
        if f"{names.o}.bias" in state:
            found["o.bias"] = state[f"{names.o}.bias"].double()
        return found

    def slope(self, other: BoolArray) -> float:
        start, end = self.weights(self.genome.attn_mask[self.layer]), self.weights(other)
        losses = []
        for part in (2e-3, -2e-3):
            for key, weight in start.items():
                module, _, kind = key.partition(".")
                getattr(self.q if module == "q" else self.o, kind).data.copy_(weight + part * (end[key] - weight))
            found = functional.log_softmax(self.model(self.ids).logits[:, :-1], -1)
            losses.append(float(functional.nll_loss(found.flatten(0, 1), self.ids[:, 1:].flatten())))
        return (losses[0] - losses[1]) / 4e-3


@pytest.mark.parametrize("refitted", [False, True])
@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-mha-biases", "llama-wide-heads", "opt"])
@pytest.mark.parametrize("mode", ["head_dim", "head_dim_split"])
def test_marginals_of_heads_are_derivatives_of_the_loss(case: str, mode: str, refitted: bool) -> None:
    dense = dense_model(case)
    scores, genome = _scores(dense, mode), random_genome(dense, 2, mode)
    grams = keep_grams(dense, random_windows(seed=5, count=40), device=CPU)
    reconstructor = BlockReconstructor(dense, grams, damping=1e-2, device=CPU) if refitted else None
    marginals = TaylorMarginals(
        dense,
        WINDOWS,
        metric="perplexity",
        scores=scores,
        step=STEP,
        head_step=2,
        tokens=WINDOWS.num_tokens,
        device=CPU,
        dtype=torch.float32,
        reconstructor=reconstructor,
    )(genome, 0)
    most, checked = dense.architecture.head_dim, 0
    for layer in range(genome.num_layers):
        widths = [int(width[layer]) for width in genome.head_widths]
        groups = int(genome.kv_groups[layer])

        def row(*wanted: int, layer: int = layer, groups: int = groups) -> BoolArray:
            return resize_attention(genome.attn_mask[layer], scores, layer, groups=groups, widths=wanted)

        for axis, width in enumerate(widths):
            found = marginals.heads_more[axis][layer]
            if not width or width + 2 > most:
                assert np.isnan(found)
                continue
            oracle = _HeadOracle(dense, genome, layer, row(*(min(most, own + 2) for own in widths)), reconstructor)
            slope = oracle.slope(row(*(own + 2 * (place == axis) for place, own in enumerate(widths))))
            # The losses are rounded as the norms are, and divided by a small step.
            assert found == pytest.approx(slope, rel=2e-2, abs=4e-4)
            checked += 1
    assert checked >= 3
