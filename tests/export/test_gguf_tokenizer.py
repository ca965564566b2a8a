"""llama.cpp reads the same tokens out of a text as transformers does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from exported import provenance
from llama_cpp import LlamaCpp
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from nas_llm.errors import ExportError
from nas_llm.export import export_gguf
from nas_llm.export.gguf._pretokenizer import _LLAMA_3, _QWEN_2, _TEKKEN, KNOWN_PRE_TOKENIZERS
from nas_llm.models import DenseModel, load_model
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet

VOCABULARY = 1024
TEXT = (
    "Hello  world! It's 12345 o'clock; WE'LL see.\n\n\tdef f(x):\n        return x**2  # naïve café ÜBER\r\n"
    "HTTPServer camelCase 3.14159, 日本語のテキスト и русский — “quotes” … 👍🏽 end   "
)
# Trained on more than the text, so that merges compete.
CORPUS = [
    TEXT,
    "the clock of the world returns to the server and it is seen 2024 times",
    "Well, we'll see 123 456 7890",
]


@pytest.fixture(scope="module")
def tiny() -> DenseModel:
    return load_model("tiny-llama")


def _split(regex: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _splitter(name: str) -> pre_tokenizers.PreTokenizer:
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return {
        "gpt-2": lambda: words,
        "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words]),
        "llama-bpe": lambda: _split(_LLAMA_3),
        "dbrx": lambda: _split(_LLAMA_3),
        "qwen2": lambda: _split(_QWEN_2),
        "tekken": lambda: _split(_TEKKEN),
    }[name]()


def _byte_level(name: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    tokenizer.pre_tokenizer = _splitter(name)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _sentencepiece(*, prefix: bool) -> Tokenizer:
    """A tokenizer of the Llama 2 kind: characters and merges, bytes for the rest."""
    steps = [normalizers.Prepend("▁")] if prefix else []
    marks = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    trained = Tokenizer(models.BPE())
    trained.normalizer = marks
    trained.train_from_iterator(CORPUS[1:], trainers.BpeTrainer(vocab_size=300, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    texts += sorted(model["vocab"], key=model["vocab"].__getitem__)
    tokenizer = Tokenizer(
        models.BPE(
            vocab={text: index for index, text in enumerate(texts)},
            merges=[tuple(merge) for merge in model["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = marks
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def _with(tiny: DenseModel, tokenizer: Tokenizer, **names: str) -> DenseModel:
    names = names or {"bos_token": "<s>", "eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    return dataclasses.replace(tiny, tokenizer=fast, source="somewhere")


def _written(dense: DenseModel, target: Path) -> Path:
    genome = Genome.dense(dense.architecture)
    return export_gguf(build_subnet(dense, genome), dense, target, provenance=provenance(dense, genome))


def _fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("name", KNOWN_PRE_TOKENIZERS)
def test_every_known_pre_tokenizer_splits_alike(name: str, tiny: DenseModel, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to read a GGUF tokenizer")
    dense = _with(tiny, _byte_level(name))
    path = _written(dense, tmp_path / "m")
    assert _fields(path)["tokenizer.ggml.pre"] == name
    # llama.cpp's own tekken tells upper from lower case in ASCII only.
    text = TEXT.replace("ÜBER", "über") if name == "tekken" else TEXT
    assert LlamaCpp(path).tokenize(text) == dense.tokenizer(text)["input_ids"]


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_vocabulary(prefix: bool, tiny: DenseModel, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to read a GGUF tokenizer")
    dense = _with(tiny, _sentencepiece(prefix=prefix))
    path = _written(dense, tmp_path / "m")
    assert _fields(path)["tokenizer.ggml.model"] == "llama"
    assert LlamaCpp(path).tokenize(TEXT) == dense.tokenizer(TEXT)["input_ids"]


def test_the_packaged_tokenizer_with_its_special_tokens(tiny: DenseModel, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to read a GGUF tokenizer")
    served = LlamaCpp(_written(tiny, tmp_path / "m"))
    text = f"{TEXT}<|endoftext|>again"
    assert served.tokenize(text, special=True) == tiny.tokenizer(text)["input_ids"]


def test_rows_without_a_token_are_unused(tiny: DenseModel, tmp_path: Path) -> None:
    tokenizer = _byte_level("gpt-2")
    fields = _fields(_written(_with(tiny, tokenizer), tmp_path / "m"))
    size = tokenizer.get_vocab_size()
    assert len(fields["tokenizer.ggml.tokens"]) == VOCABULARY
    assert set(fields["tokenizer.ggml.token_type"][size:]) == {int(gguf.TokenType.UNUSED)}
    assert fields["tokenizer.ggml.token_type"][:2] == [int(gguf.TokenType.CONTROL)] * 2
    assert fields["tokenizer.ggml.eos_token_id"] == 1
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_a_gguf_source_hands_its_tokenizer_on(tiny: DenseModel, tmp_path: Path) -> None:
    first = _written(_with(tiny, _byte_level("smollm")), tmp_path / "first")
    again = _written(dataclasses.replace(tiny, source=str(first)), tmp_path / "again")
    kept = {name: value for name, value in _fields(first).items() if name.startswith("tokenizer.")}
    assert kept == {name: value for name, value in _fields(again).items() if name.startswith("tokenizer.")}
    assert kept["tokenizer.ggml.pre"] == "smollm"


def test_an_unknown_pre_tokenizer_is_refused_by_name(tiny: DenseModel, tmp_path: Path) -> None:
    tokenizer = _byte_level("gpt-2")
    tokenizer.pre_tokenizer = _split(r"\d{1,2}|\w+|\s")
    with pytest.raises(ExportError, match=r"its pre-tokenizer is none of gpt-2, smollm.*\\\\d\{1,2\}.*GGUF file"):
        _written(_with(tiny, tokenizer), tmp_path / "m")


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>")), "it is a WordLevel model"),
        (Tokenizer(models.BPE({"<s>": 0, "</s>": 5000}, [])), "token ids up to 5000, and the embedding has 1024 rows"),
        (Tokenizer(models.BPE({"<s>": 0, "</s>": 1}, [], byte_fallback=True)), "not those of a SentencePiece model"),
    ],
)
def test_other_tokenizers_are_refused(tokenizer: Tokenizer, message: str, tiny: DenseModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        _written(_with(tiny, tokenizer), tmp_path / "m")
