"""Texts are cut into windows after they were tokenised, so a tokenizer's warning that one is long is wrong."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest
import torch

import nas_llm
from nas_llm.config import SelfSampleSection
from nas_llm.data import perplexity_windows
from nas_llm.events import ignore
from nas_llm.models import load_model
from nas_llm.session import self_texts

PACKAGE = Path(nas_llm.__file__).parent


def test_long_texts_are_tokenised_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        dense = load_model("tiny-llama")
        assert dense.tokenizer.model_max_length == 512
        texts = self_texts(dense, 64, settings=SelfSampleSection(), device=torch.device("cpu"), on_event=ignore)
        perplexity_windows([" ".join(texts)], tokenizer=dense.tokenizer, window=64)
        assert caplog.messages == []
        # A tokenizer warns once in its life, and this one has not yet.
        dense.tokenizer(" ".join(texts))
        assert "indexing errors" in caplog.text
    finally:
        logger.setLevel(before)
        logger.removeHandler(caplog.handler)


def test_every_call_of_a_tokenizer_says_so() -> None:
    loud = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] != "tokenizer":
                continue
            # A word of the code's own is short.
            if not isinstance(node.args[0], ast.Constant) and "verbose" not in {word.arg for word in node.keywords}:
                loud.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert loud == []
