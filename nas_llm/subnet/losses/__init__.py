"""Losses of a subnet on a text: from its last hidden states to what it is measured by."""

from nas_llm.subnet.losses._batch import Batch, WindowBatch
from nas_llm.subnet.losses._margin import TEMPERATURE, choice_losses, choice_slopes
from nas_llm.subnet.losses._metric import Metric, Quality, Term, quality_named
from nas_llm.subnet.losses._questions import QuestionBatch, padded_length, question_batches
from nas_llm.subnet.losses._scored_text import ScoredText
from nas_llm.subnet.losses._token_loss import TokenLoss

__all__ = [
    "TEMPERATURE",
    "Batch",
    "Metric",
    "Quality",
    "QuestionBatch",
    "ScoredText",
    "Term",
    "TokenLoss",
    "WindowBatch",
    "choice_losses",
    "choice_slopes",
    "padded_length",
    "quality_named",
    "question_batches",
]
