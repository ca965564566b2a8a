"""What a search space leads to is known before the search, and agrees with what exporters refuse."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from dense_models import LAYERS, dense_model, random_genome
from transformers import LlamaConfig

from nas_llm.errors import ExportError
from nas_llm.export import FORMATS, Problem, Servability, expressible, servable
from nas_llm.export._servable import tried_servable
from nas_llm.models import adapter_for, load_model
from nas_llm.space import Genome, SearchSpace


def _space(case: str = "llama-gqa-tied", **settings: Any) -> tuple[SearchSpace, Any]:
    dense = dense_model(case)
    return SearchSpace(dense.architecture, **{"ffn_multiple": 16, **settings}), dense.model.config


def _answer(format: str, case: str = "llama-gqa-tied", **settings: Any) -> Servability:
    return servable(*_space(case, **settings))[format]


def test_every_format_answers() -> None:
    answers = servable(*_space())
    assert tuple(answers) == FORMATS
    assert all(answer.format == name for name, answer in answers.items())
    assert answers["hf"].genomes == "all"


@pytest.mark.parametrize(
    ("settings", "genomes", "mends"),
    [
        ({"attn_ratio": (1.0, 1.0)}, "all", {}),
        ({}, "some", {"space.attn_ratio": "[1.0, 1.0]"}),
        ({"attn_ratio": (1.0, 1.0), "min_attn_layers": 3}, "some", {"space.protected_layers": "[0]"}),
        ({"attn_ratio": (1.0, 1.0), "min_attn_layers": 3, "protected_layers": [0]}, "all", {}),
        (
            {"attn_ratio": (1.0, 1.0), "min_attn_layers": 3, "protected_layers": [4]},
            "some",
            {"space.protected_layers": "[0, 4]"},
        ),
        ({"attn_ratio": (0.3, 0.7)}, "none", {"space.attn_ratio": "[1.0, 1.0]"}),
        (
            {"attn_ratio": (0.3, 0.7), "min_attn_layers": 1, "protected_layers": [0]},
            "some",
            {"space.attn_ratio": "[1.0, 1.0]"},
        ),
    ],
)
def test_decilm_names_the_setting(settings: dict[str, Any], genomes: str, mends: dict[str, str]) -> None:
    answer = _answer("decilm", **settings)
    assert answer.genomes == genomes
    assert {hint.setting: hint.value for hint in answer.hindrances if hint.blocks} == mends


def test_gguf_holds_everything_but_a_model_without_attention() -> None:
    assert _answer("gguf").genomes == "all"
    some = _answer("gguf", min_attn_layers=0)
    assert some.genomes == "some"
    assert some.hindrances[0].setting == "space.min_attn_layers"


@pytest.mark.parametrize("attention", ["head_dim", "head_dim_split", ("kv_group", "head_dim")])
@pytest.mark.parametrize(("ratio", "genomes"), [((0.3, 1.0), "some"), ((0.3, 0.7), "none"), ((1.0, 1.0), "all")])
def test_heads_that_keep_some_of_their_channels_name_the_settings(
    attention: Any, ratio: tuple[float, float], genomes: str
) -> None:
    mends = {"gguf": {"attention": "kv_group"}, "decilm": {"attn_ratio": (1.0, 1.0)}}
    for format, mend in mends.items():
        settings: dict[str, Any] = {"attention": attention, "attn_ratio": ratio}
        answer = _answer(format, **settings)
        assert answer.genomes == genomes
        blocking = [hint for hint in answer.hindrances if hint.blocks]
        assert bool(blocking) == (genomes != "all")
        if blocking:
            assert "one head width for all layers" in blocking[0].reason
            assert "--pad" in blocking[0].reason
            assert blocking[0].setting == f"space.{next(iter(mend))}"
            assert _answer(format, **{**settings, **mend}).genomes == "all"
    assert _answer("hf", attention=attention, attn_ratio=ratio).genomes == "all"


@pytest.mark.parametrize("mode", ["head_dim", "head_dim_split"])
@pytest.mark.parametrize(("ratio", "genomes"), [((0.3, 1.0), "some"), ((0.3, 0.7), "none")])
def test_another_format_is_tried_on_narrow_heads_too(mode: str, ratio: tuple[float, float], genomes: str) -> None:
    space, config = _space(attention=mode, attn_ratio=ratio)
    seen: list[Genome] = []

    def refusal(genome: Genome, config: Any) -> str | None:
        seen.append(genome)
        return "narrow" if genome.cut_layers.size else None

    assert tried_servable("mine", refusal, space, config).genomes == genomes
    assert all(space.contains(genome) for genome in seen)
    assert {int(width) for genome in seen for axis in genome.head_widths for width in axis} == {
        pick(space.head_counts(0)) for pick in (min, max)
    }


def test_quantised_types_name_the_multiple() -> None:
    config = LlamaConfig(hidden_size=512, intermediate_size=1536, num_attention_heads=8, num_hidden_layers=2)
    architecture = adapter_for("llama").architecture(config)

    def mends(**settings: Any) -> dict[str, dict[str | None, str | None]]:
        answers = servable(SearchSpace(architecture, **settings), config)
        return {name: {hint.setting: hint.value for hint in answer.hindrances} for name, answer in answers.items()}

    assert mends(ffn_multiple=24)["gguf"] == {"space.ffn_multiple": "768"}
    assert mends(ffn_multiple=32)["gguf"] == {"space.ffn_multiple": "256"}
    assert mends(ffn_multiple=256)["gguf"] == {}
    assert mends(ffn_multiple=32)["decilm"]["space.ffn_multiple"] == "256"
    assert not any(hint.blocks for hint in servable(SearchSpace(architecture), config)["gguf"].hindrances)


@pytest.mark.parametrize("format", ["gguf", "decilm"])
def test_a_family_that_a_runtime_lacks_is_no_setting(format: str) -> None:
    answer = _answer(format, "opt")
    assert answer.genomes == "none"
    assert [hint.setting for hint in answer.hindrances] == [None]
    assert "model type 'opt'" in answer.hindrances[0].reason


def test_a_loaded_model_answers_for_its_tokenizer() -> None:
    dense = dense_model("llama-gqa-tied")
    space = SearchSpace(dense.architecture, ffn_multiple=16)
    answer = servable(space, dense.model.config, dense=dense)["gguf"]
    assert answer.genomes == "none"
    assert "needs a tokenizer" in answer.hindrances[0].reason
    tiny = load_model("tiny-llama")
    assert servable(SearchSpace(tiny.architecture), tiny.model.config, dense=tiny)["gguf"].genomes == "all"


@pytest.mark.parametrize("seed", range(12))
def test_all_means_that_nothing_is_refused(seed: int) -> None:
    dense = dense_model("llama-gqa-tied")
    genome = random_genome(dense, seed)
    assert expressible("hf", genome, dense.model.config) == []
    assert expressible("gguf", genome, dense.model.config) == []
    whole = Genome(np.repeat(genome.attn_mask.all(axis=1)[:, None], 3, axis=1), genome.mlp_mask)
    problems = expressible("decilm", whole, dense.model.config)
    assert bool(problems) == (not whole.attn_mask[0].any())


def test_problems_are_data() -> None:
    dense = dense_model("llama-gqa-tied")
    attn = np.ones((LAYERS, 3), dtype=bool)
    attn[[1, 2, 4], 0] = False
    whole = Genome.dense(dense.architecture)
    (problem,) = expressible("decilm", Genome(attn, whole.mlp_mask), dense.model.config)
    assert isinstance(problem, Problem)
    assert problem.format == "decilm"
    assert problem.layers == (1, 2, 4)
    assert str(problem).startswith("layers 1-2, 4: attention with a part")


def test_other_activations_and_formats_are_named() -> None:
    dense = dense_model("llama-gqa-tied")
    genome = Genome.dense(dense.architecture)
    config = copy.deepcopy(dense.model.config)
    config.hidden_act = "gelu"
    assert "activation is 'gelu'" in str(expressible("gguf", genome, config)[0])
    with pytest.raises(ExportError, match="unknown export format 'onnx'; formats are hf, gguf, decilm"):
        expressible("onnx", genome, dense.model.config)
