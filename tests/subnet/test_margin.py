"""The margin equals plain forward passes, one choice at a time, whatever stands beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from dense_models import DENSE_CASES, dense_model, random_genome, random_windows
from questions import plain_margin, random_questions
from torch.nn import functional

from nas_llm.data import QuestionSet, WindowSet
from nas_llm.data.questions import Encoded
from nas_llm.errors import ConfigError, DataError
from nas_llm.models import DenseModel
from nas_llm.space import Genome
from nas_llm.subnet import PopulationEvaluator, Racing, build_subnet
from nas_llm.subnet.losses import TEMPERATURE, QuestionBatch, choice_losses, choice_slopes, question_batches

CPU = torch.device("cpu")
WINDOWS = random_windows(count=12)
QUESTIONS = random_questions(12)
TERMS = {"kl": 1.0, "margin": 0.5}


def evaluator(
    dense: DenseModel,
    metric: str = "margin",
    *,
    questions: QuestionSet | None = QUESTIONS,
    windows: WindowSet = WINDOWS,
    terms: dict[str, float] | None = None,
    dtype: torch.dtype = torch.float32,
    memory_bytes: int | None = None,
    stream: bool = False,
    racing: Racing | None = None,
) -> PopulationEvaluator:
    return PopulationEvaluator(
        dense,
        windows,
        metric=metric,
        device=CPU,
        dtype=dtype,
        memory_bytes=memory_bytes,
        stream=stream,
        racing=racing,
        questions=questions,
        terms=terms,
    )


def population(dense: DenseModel) -> list[Genome]:
    """Genomes that share prefixes of every length, the whole included."""
    first, second = random_genome(dense, 1), random_genome(dense, 2)
    family = [
        Genome(
            np.vstack([first.attn_mask[:cut], second.attn_mask[cut:]]),
            np.vstack([first.mlp_mask[:cut], second.mlp_mask[cut:]]),
        )
        for cut in range(first.num_layers + 1)
    ]
    return [*family, Genome.dense(dense.architecture), first]


@pytest.mark.parametrize("case", DENSE_CASES)
def test_margin_is_that_of_plain_forward_passes(case: str) -> None:
    dense = dense_model(case)
    genomes = population(dense)
    with torch.no_grad():
        expected = [float(plain_margin(build_subnet(dense, genome), QUESTIONS)) for genome in genomes]
    assert evaluator(dense).evaluate(genomes) == pytest.approx(expected, rel=1e-4)
    assert evaluator(dense, stream=True).evaluate(genomes) == pytest.approx(expected, rel=1e-4)


def test_half_precision_is_near() -> None:
    dense = dense_model("llama-gqa-tied")
    genomes = population(dense)
    expected = evaluator(dense).evaluate(genomes)
    assert evaluator(dense, dtype=torch.bfloat16).evaluate(genomes) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("metric", ["margin", "fitness"])
@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt-post-norm"])
def test_results_do_not_depend_on_the_population_or_the_memory(case: str, metric: str) -> None:
    dense = dense_model(case)
    genomes = population(dense)
    terms = TERMS if metric == "fitness" else None
    together = evaluator(dense, metric, terms=terms).evaluate(genomes)
    assert together == [evaluator(dense, metric, terms=terms).evaluate([genome])[0] for genome in genomes]
    tight = evaluator(dense, metric, terms=terms, memory_bytes=700_000)
    assert tight.evaluate(genomes) == together
    assert evaluator(dense, metric, terms=terms, memory_bytes=700_000, stream=True).evaluate(genomes) == together


def test_lanes_change_nothing() -> None:
    dense = dense_model("llama-gqa-tied")
    genomes, threads = population(dense), torch.get_num_threads()
    alone = evaluator(dense, "fitness", terms=TERMS).evaluate(genomes)
    try:
        torch.set_num_threads(3)
        several = evaluator(dense, "fitness", terms=TERMS)
        assert several.plan.lanes == 3
        assert several.evaluate(genomes) == alone
    finally:
        torch.set_num_threads(threads)


def test_a_child_starts_where_it_differs_from_its_parent() -> None:
    dense = dense_model("llama-gqa-tied")
    parent, other = random_genome(dense, 1), random_genome(dense, 2)
    child = parent.with_rows(mlp=[(parent.num_layers - 1, other.mlp_mask[-1])])
    seen = evaluator(dense)
    seen.evaluate([parent])
    before = seen.statistics.blocks_run
    assert seen.evaluate([child]) == evaluator(dense).evaluate([child])
    assert seen.statistics.blocks_run - before == pytest.approx(1.0)
    assert seen.statistics.tokens == 2 * QUESTIONS.num_tokens


def test_the_fitness_is_the_weighted_sum_of_the_mean_losses() -> None:
    dense = dense_model("llama-gqa-tied")
    genomes = population(dense)
    kl, perplexity, margin = (
        np.array(evaluator(dense, name).evaluate(genomes)) for name in ("kl", "perplexity", "margin")
    )
    found = evaluator(dense, "fitness", terms=TERMS).evaluate(genomes)
    np.testing.assert_allclose(found, kl + 0.5 * margin, rtol=1e-9)
    found = evaluator(dense, "fitness", terms={"margin": 2.0, "perplexity": 0.25}).evaluate(genomes)
    np.testing.assert_allclose(found, 2.0 * margin + 0.25 * np.log(perplexity), rtol=1e-9)


def permuted(question: Encoded, order: list[int]) -> Encoded:
    rows, starts, sizes = (
        tuple(values[place] for place in order) for values in (question.rows, question.starts, question.sizes)
    )
    return Encoded(rows=rows, starts=starts, sizes=sizes, answer=order.index(question.answer))


def test_the_order_of_the_choices_changes_nothing_but_the_label() -> None:
    dense, rng = dense_model("llama-gqa-tied"), np.random.default_rng(0)
    turned = tuple(permuted(one, rng.permutation(len(one.rows)).tolist()) for one in QUESTIONS.questions)
    other = replace(QUESTIONS, questions=turned)
    assert other.digest() != QUESTIONS.digest()
    genomes = population(dense)
    expected = evaluator(dense).evaluate(genomes)
    assert evaluator(dense, questions=other).evaluate(genomes) == pytest.approx(expected, rel=1e-6)
    # The same choices with another right one are another question.
    wrong = tuple(replace(one, answer=(one.answer + 1) % len(one.rows)) for one in QUESTIONS.questions)
    assert evaluator(dense, questions=replace(QUESTIONS, questions=wrong)).evaluate(genomes) != pytest.approx(expected)


def test_padding_changes_nothing() -> None:
    dense = dense_model("opt")
    question = QUESTIONS.questions[0]
    found = []
    for width in (question.longest, question.longest + 40):
        batch = QuestionBatch([question], width, CPU)
        assert batch.ids.shape == (len(question.rows), width)
        with torch.no_grad():
            logits = batch.predicting(dense.model(batch.ids).logits)[0]
        targets = torch.cat(
            [torch.from_numpy(row[start:]) for row, start in zip(question.rows, question.starts, strict=True)]
        )
        found.append(batch.scores(functional.cross_entropy(logits, targets, reduction="none")))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("tokens", [1, 300, 10_000])
def test_batches_hold_whole_questions_of_one_length(tokens: int) -> None:
    batches = question_batches(QUESTIONS.questions, tokens=tokens, device=CPU, positions=40)
    assert sum(batch.losses for batch in batches) == len(QUESTIONS)
    assert sum(len(batch.ids) for batch in batches) == sum(len(one.rows) for one in QUESTIONS.questions)
    widths = [batch.ids.shape[1] for batch in batches]
    assert widths == sorted(widths, reverse=True)
    assert max(widths) <= 40
    assert all(batch.ids.numel() <= tokens or batch.losses == 1 for batch in batches)


def test_a_clear_win_costs_nothing_and_a_clear_loss_its_distance() -> None:
    scores, right = (
        torch.tensor([-1.0, -3.0, -3.0, -1.0], dtype=torch.float64),
        torch.tensor([True, False, True, False]),
    )
    won, lost = choice_losses(scores, right, torch.tensor([2, 2])).tolist()
    assert won == pytest.approx(0.0, abs=1e-4)
    assert lost == pytest.approx(2.0 / TEMPERATURE, abs=1e-4)
    tie = choice_losses(torch.zeros(3, dtype=torch.float64), torch.tensor([False, True, False]), torch.tensor([3]))
    assert float(tie) == pytest.approx(np.log(3))


def test_slopes_are_derivatives() -> None:
    scores = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    right, counts = torch.tensor([place in (1, 2, 8) for place in range(9)]), torch.tensor([2, 3, 4])
    choice_losses(scores, right, counts).sum().backward()
    torch.testing.assert_close(choice_slopes(scores.detach(), right, counts), scores.grad)


def test_values_are_kept_under_a_name_of_their_own() -> None:
    dense = dense_model("llama-gqa-tied")

    def identity(metric: str, **how: object) -> str:
        return evaluator(dense, metric, **how).identity  # type: ignore[arg-type]

    names = [
        identity("kl"),
        identity("margin"),
        identity("margin", questions=random_questions(12, seed=1)),
        identity("fitness", terms=TERMS),
        identity("fitness", terms={"kl": 1.0, "margin": 0.25}),
        identity("fitness", terms={"perplexity": 1.0, "margin": 0.5}),
        identity("fitness", terms=TERMS, windows=random_windows(count=13)),
    ]
    assert len(set(names)) == len(names)
    # Windows say nothing of the margin, questions nothing of KL, and the order of the terms nothing at all.
    assert identity("margin", windows=random_windows(count=13)) == names[1]
    assert identity("kl", questions=None) == names[0]
    assert identity("fitness", terms=dict(reversed(TERMS.items()))) == names[3]


def test_what_cannot_be_measured_is_refused() -> None:
    dense = dense_model("opt")
    with pytest.raises(ConfigError, match="margin is measured on questions, and there are none"):
        evaluator(dense, questions=None)
    with pytest.raises(ConfigError, match="fitness is measured on questions, and there are none"):
        evaluator(dense, "fitness", questions=None, terms=TERMS)
    with pytest.raises(ConfigError, match="is a sum of terms; give their weights"):
        evaluator(dense, "fitness")
    with pytest.raises(ConfigError, match=r"unknown fitness metric 'margn'; did you mean .margin.*known are"):
        evaluator(dense, "margn")
    with pytest.raises(ConfigError, match="racing cannot estimate margin"):
        evaluator(dense, racing=Racing())
    long = Encoded(rows=(np.full(200, 5), np.full(190, 6)), starts=(180, 180), sizes=(3, 4), answer=0)
    with pytest.raises(DataError, match="a question of 200 tokens is longer than the model's 128 positions"):
        evaluator(dense, questions=QuestionSet(questions=(long,)))
