"""Questions of random tokens, for models without a tokenizer."""

from __future__ import annotations

import numpy as np
import torch
from dense_models import VOCABULARY
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.data import QuestionSet
from nas_llm.data.questions import Encoded

TEMPERATURE = 0.2


def random_questions(count: int = 7, seed: int = 0) -> QuestionSet:
    """Questions of 2 to 4 choices, prompts and choices of different lengths."""
    rng = np.random.default_rng(seed)

    def question() -> Encoded:
        choices = int(rng.integers(2, 5))
        prompt = rng.integers(2, VOCABULARY, rng.integers(3, 30))
        rows = [np.concatenate([prompt, rng.integers(2, VOCABULARY, rng.integers(1, 9))]) for _ in range(choices)]
        return Encoded(
            rows=tuple(rows),
            starts=(len(prompt),) * choices,
            sizes=tuple(int(size) for size in rng.integers(3, 40, choices)),
            answer=int(rng.integers(choices)),
        )

    return QuestionSet(questions=tuple(question() for _ in range(count)))


def plain_scores(model: PreTrainedModel, question: Encoded) -> Tensor:
    """Log-likelihood per character of each choice, one unpadded sequence at a time."""
    scores = []
    for row, start, size in zip(question.rows, question.starts, question.sizes, strict=True):
        ids = torch.from_numpy(row)
        found = model(ids[None]).logits[0, :-1].double().log_softmax(-1)
        scores.append(found.gather(1, ids[1:, None])[start - 1 :].sum() / size)
    return torch.stack(scores)


def plain_margin(model: PreTrainedModel, questions: QuestionSet) -> Tensor:
    """Mean cross-entropy of the right choices."""
    losses = [
        -(plain_scores(model, question) / TEMPERATURE).log_softmax(0)[question.answer]
        for question in questions.questions
    ]
    return torch.stack(losses).mean()
