"""How much a search computes, from its definition and sizes alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_llm.calibration import gram_products
from nas_llm.config import Problem
from nas_llm.search.descent import descent_effort
from nas_llm.session import search_space
from nas_llm.space import Cost, CostModel

# Targets of a descent whose problem names none, and what one of its looks costs in candidates on as many tokens.
_TARGETS = 5
_LOOK = 4


@dataclass(frozen=True, kw_only=True)
class SearchEffort:
    """Multiply-accumulates of a search; what it need not do again (kept states, kept blocks) is not taken off.

    Attributes:
        candidates: Genomes evaluated, those of the descent included, at most.
        calibration: The pass over the calibration text, in float32.
        evaluation: All candidates, looks of the descent, and the front on held-out text, in their arithmetic.
        refits: Closed forms of candidates that are evaluated with reconstructed weights, in float64.
    """

    candidates: int
    calibration: int
    evaluation: int
    refits: int


def search_effort(problem: Problem, cost_model: CostModel, lowest: Cost, highest: Cost) -> SearchEffort:
    """What a search of a problem computes.

    Args:
        problem: The definition.
        cost_model: Of its dense model.
        lowest: Cost of the smallest genome within the constraints.
        highest: Cost of the largest.
    """
    architecture, data, search = cost_model.architecture, problem.data, problem.search
    layers = architecture.num_layers
    targets = search.target_ratios or tuple(
        np.linspace(highest.inheriting_ratio, lowest.inheriting_ratio, _TARGETS + 1)[1:].tolist()
    )
    space = search_space(problem, architecture)
    looks, proposals = descent_effort(
        targets,
        layers=layers,
        looks=search.descent.looks,
        axes=len(space.layout.axes),
        groups=not space.whole_groups,
    )
    candidates = search.evaluations + proposals
    macs = (lowest.macs_per_token + highest.macs_per_token) // 2
    tokens = candidates * _priced_tokens(problem) + _LOOK * looks * search.descent.tokens
    tokens += problem.front.size * data.held_out.tokens
    reads = cost_model.dense.block_params + layers * gram_products(architecture)
    return SearchEffort(
        candidates=candidates,
        calibration=data.calibration.tokens * reads,
        evaluation=tokens * macs,
        refits=candidates * _refit(cost_model, lowest, highest) if problem.fitness.weights == "reconstructed" else 0,
    )


def _priced_tokens(problem: Problem) -> int:
    """Tokens that a candidate is evaluated on: windows, and questions at their most."""
    questions = problem.data.questions
    asked = questions.tokens if problem.asks_questions and questions is not None else 0
    return asked + (problem.data.fitness.tokens if problem.reads_text else 0)


def _refit(cost_model: CostModel, lowest: Cost, highest: Cost) -> int:
    """Multiply-accumulates of one candidate's closed forms: W H[:, S], a Cholesky factor and two triangular solves."""
    a = cost_model.architecture
    kept = (lowest.inheriting_ratio + highest.inheriting_ratio) / 2
    total = 0.0
    for width in (a.num_heads * a.head_dim, a.intermediate_size):
        inputs = kept * width
        total += inputs**3 / 3 + a.hidden_size * inputs * (width - inputs) + a.hidden_size * inputs**2
    return round(a.num_layers * total)
