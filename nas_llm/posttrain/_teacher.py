"""Whether a model can teach a subnet: their predictions have to be over the same tokens."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.errors import ModelError


def check_teacher(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    teacher: PreTrainedModel,
    teacher_tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
) -> None:
    """Refuse a teacher of another vocabulary.

    Args:
        model: What is to be trained.
        tokenizer: Its tokenizer.
        teacher: The model whose predictions it is trained towards.
        teacher_tokenizer: The teacher's own.
        name: What the user called the teacher.

    Raises:
        ModelError: If sizes or tokens of the vocabularies differ.
    """
    ours, theirs = model.config.vocab_size, teacher.config.vocab_size
    mend = "take the dense model that the export comes from"
    if ours != theirs:
        raise ModelError(f"teacher '{name}' has a vocabulary of {theirs:,} tokens, the export has {ours:,}; {mend}")
    if tokenizer.get_vocab() != teacher_tokenizer.get_vocab():
        raise ModelError(f"teacher '{name}' has another vocabulary than the export, of the same size; {mend}")
