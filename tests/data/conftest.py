from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCE = "the cat sat on a mat and ate small red fish while birds sang over wide green hills"
WORDS = tuple(SENTENCE.split(" "))


Prose = Callable[..., str]
TokenizerFactory = Callable[..., PreTrainedTokenizerFast]


def _prose(words: int, *, start: int = 0) -> str:
    """Text whose windows all differ: every fourth word is a running number."""
    numbers = range(start, start + words)
    return " ".join(str(i) if i % 4 == 0 else WORDS[i * i % len(WORDS)] for i in numbers)


def _make_tokenizer(texts: Sequence[str], *, special: Sequence[str], eos: str | None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=eos,
        eos_token=eos,
        model_max_length=64,
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def prose() -> Prose:
    return _prose


@pytest.fixture(scope="session")
def make_tokenizer() -> TokenizerFactory:
    return _make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return _make_tokenizer([_prose(400)], special=["<|endoftext|>", "<|im_end|>"], eos="<|im_end|>")


@pytest.fixture(scope="session")
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.train(False)
    return model
