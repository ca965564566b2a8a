"""Operators as a definition names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_search import architecture, unit_scores

from nas_llm.config import ConstraintSection, OperatorSection, load_problem
from nas_llm.errors import ConfigError
from nas_llm.search import (
    DepthMutation,
    GenomeMutation,
    GuidedMutation,
    LayerwiseCrossover,
    MaskMutation,
    Operators,
    RatioMutation,
    build_operators,
    check_operators,
)
from nas_llm.space import CostModel, Genome, SearchSpace

SWAP = '''
import numpy as np
from nas_llm.search import Crossover, Mutation, Sampling


class Swap(Mutation):
    """Exchanges the FFN masks of two layers."""

    def __init__(self, space, *, probability: float = 0.5) -> None:
        self.space, self.probability = space, probability

    def __call__(self, genome, *, rng):
        if rng.random() >= self.probability:
            return genome
        first, second = rng.choice(genome.num_layers, size=2, replace=False).tolist()
        return genome.with_rows(mlp=[(first, genome.mlp_mask[second]), (second, genome.mlp_mask[first])])


class Copy(Crossover):
    """The parents as they are."""

    def __call__(self, first, second, *, rng):
        return first, second


class Dense(Sampling):
    """The dense genome alone."""

    def __init__(self, architecture) -> None:
        from nas_llm.space import Genome

        self.genome = Genome.dense(architecture)

    def draw(self, count, rng):
        return [self.genome]


class Nameless(Mutation):
    """Does not say how it works."""
'''


def section(text: str, folder: Path) -> OperatorSection:
    """``[search.operators]`` of a definition with these lines, read as a user's is."""
    (folder / "ops.py").write_text(SWAP, encoding="utf-8")
    path = folder / "problem.toml"
    path.write_text(f'name = "x"\n[model]\nsource = "tiny-llama"\n[search.operators]\n{text}\n', encoding="utf-8")
    return load_problem(path).problem.search.operators


def built(operators: OperatorSection) -> Operators:
    sizes = architecture()
    return build_operators(
        operators,
        space=SearchSpace(sizes, ffn_multiple=1),
        scores=unit_scores(sizes),
        cost_model=CostModel(sizes, sequence_length=16),
        constraints=ConstraintSection(),
    )


def test_the_defaults_are_the_packages_four_in_their_order(tmp_path: Path) -> None:
    found = built(section("", tmp_path))
    assert isinstance(found.mutation, GenomeMutation)
    kinds = [GuidedMutation, DepthMutation, RatioMutation, MaskMutation]
    assert [type(mutation) for mutation in found.mutation.mutations] == kinds


def test_a_strangers_operators_stand_beside_the_packages_own(tmp_path: Path) -> None:
    operators = section(
        'mask_probability = 0.9\nmutations = ["ops.py:Swap", {use = "ops.py:Swap", probability = 1.0}, '
        '{use = "mask", alpha = 0.5}]\ncrossover = "ops.py:Copy"\nsampling = {use = "ops.py:Dense"}',
        tmp_path,
    )
    found = built(operators)
    assert isinstance(found.mutation, GenomeMutation)
    default, sure, mask = found.mutation.mutations
    assert (default.probability, sure.probability) == (0.5, 1.0)  # type: ignore[attr-defined]
    # What an entry does not say comes from the section.
    assert (mask.alpha, mask.probability, mask.temperature) == (0.5, 0.9, 0.01)  # type: ignore[attr-defined]
    assert found.sampling.draw(5, np.random.default_rng(0)) == [Genome.dense(architecture())]
    genome = Genome.dense(architecture())
    assert found.crossover(genome, genome, rng=np.random.default_rng(0)) == (genome, genome)
    swapped = sure(genome.with_rows(mlp=[(0, np.zeros_like(genome.mlp_mask[0]))]), rng=np.random.default_rng(1))
    assert sorted(swapped.ffn_channels.tolist())[0] == 0


def test_a_definition_with_operators_survives_being_written_and_read(tmp_path: Path) -> None:
    operators = section('mutations = [{use = "ops.py:Swap", probability = 1.0}, {use = "mask"}]', tmp_path)
    again = OperatorSection.model_validate(operators.model_dump())
    assert again == operators
    assert again.mutations is not None
    assert again.mutations[0].settings == {"probability": 1.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('crossover = "unifrom"', 'search.operators.crossover = "unifrom" is not known; did you mean "uniform"?'),
        ('sampling = "random"', 'search.operators.sampling = "random" is not known'),
        ('mutations = ["mask", "guidde"]', 'mutations[1] = "guidde" is not known; did you mean "guided"?'),
        ('mutations = ["ops.py:Swop"]', "ops.py has no 'Swop'"),
        ("mutations = []", "search.operators.mutations = [] should have at least 1 item"),
        ("mutations = [{probability = 0.5}]", '"search.operators.mutations[0].use" is missing'),
    ],
)
def test_unknown_operators_are_refused_when_the_definition_is_read(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(text, tmp_path)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('mutations = ["ops.py:Copy"]', "mutation 'ops.py:Copy' is no subclass of nas_llm.search.Mutation"),
        ('mutations = ["ops.py:Nameless"]', "does not say how it works: it lacks __call__"),
        (
            'mutations = [{use = "ops.py:Swap", probabilty = 1.0}]',
            'search.operators.mutations[0].probabilty is unknown for ops.py:Swap; did you mean "probability"?',
        ),
        (
            'crossover = {use = "ops.py:Copy", rate = 1}',
            "crossover.rate is unknown for ops.py:Copy; it has no settings",
        ),
    ],
)
def test_operators_that_cannot_be_made_are_refused_before_anything_is_loaded(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_operators(section(text, tmp_path))
    assert expected in str(caught.value)


def test_values_out_of_range_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search.operators.mutations\[0\]: alpha must be in \[0, 1\], got 7"):
        built(section('mutations = [{use = "mask", alpha = 7.0}]', tmp_path))


def test_library_and_definition_have_the_same_defaults() -> None:
    sizes, defaults = architecture(), OperatorSection()
    space, scores = SearchSpace(sizes, ffn_multiple=1), unit_scores(sizes)
    mask, ratio, depth = MaskMutation(scores), RatioMutation(space, scores), DepthMutation(space, scores)
    assert (mask.probability, mask.alpha) == (defaults.mask_probability, defaults.alpha)
    assert mask.temperature == ratio.temperature == defaults.temperature
    assert (ratio.probability, ratio.ratio_step, ratio.transfer_probability) == (
        defaults.ratio_probability,
        defaults.ratio_step,
        defaults.transfer_probability,
    )
    assert depth.probability == defaults.depth_probability
    assert LayerwiseCrossover().kind == defaults.crossover
    found = built(defaults).mutation
    assert isinstance(found, GenomeMutation)
    guided = next(mutation for mutation in found.mutations if isinstance(mutation, GuidedMutation))
    assert guided.probability == defaults.guided_probability
