"""A question as tokens, cut between prompt and choice as lm-eval cuts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_llm.data._files import clean
from nas_llm.data._rows import Question
from nas_llm.data._tokens import TokenArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Encoded:
    """One question.

    Attributes:
        rows: Tokens of each choice, the prompt before it.
        starts: Where the choice begins in each row.
        sizes: Characters of each choice.
        answer: Place of the right one.
    """

    rows: tuple[TokenArray, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    answer: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(map(len, self.rows))

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(map(len, self.rows))

    @property
    def scorable(self) -> bool:
        """Whether every choice has tokens of its own, and one before them."""
        return all(0 < start < len(row) for start, row in zip(self.starts, self.rows, strict=True))


def encode(question: Question, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Tokens of a question: prompt and choice are encoded together, white space between them belongs to the choice.

    Its length for normalisation is that of the choice in characters, without that white space; both as lm-eval's
    ``acc_norm`` has it. Special tokens are those that the tokenizer adds by itself.

    Args:
        question: The question.
        tokenizer: Tokenizer of the dense model.
    """
    prompt = question.prompt.rstrip()
    space = question.prompt[len(prompt) :]
    texts = [prompt, *(prompt + space + choice for choice in question.choices)]
    first, *rows = (
        np.asarray(ids, dtype=np.int64) for ids in tokenizer([*map(clean, texts)], verbose=False)["input_ids"]
    )
    return Encoded(
        rows=tuple(rows),
        starts=(len(first),) * len(rows),
        sizes=tuple(map(len, question.choices)),
        answer=question.answer,
    )
