from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from nas_llm.config import Problem, dump_problem, list_problems, load_problem

text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
ratio = st.floats(0.0, 1.0, exclude_min=True, allow_subnormal=False)
source = st.fixed_dictionaries({"source": text}, optional={"weight": st.floats(0.1, 1e6), "subset": text})
scalar = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False), text)
positive = st.floats(0.0, exclude_min=True, allow_infinity=False)
reconstruction = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.integers(512),
        "sources": st.lists(source, min_size=1),
        "damping": st.one_of(positive, st.lists(positive, min_size=1).map(lambda values: [*values, float("inf")])),
        "target": st.one_of(st.sampled_from(["residual", "sublayer"]), st.floats(0.0, 1.0)),
    },
)
problems = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True),
        "model": st.fixed_dictionaries({"source": text}, optional={"revision": text}),
    },
    optional={
        "description": text,
        "seed": st.integers(0, 2**62),
        "objectives": st.sampled_from([("kl", "params"), ("macs_per_token", "perplexity", "kv_cache_bytes")]),
        "data": st.builds(lambda s: {"held_out": {"tokens": 4096, "sources": s}}, st.lists(source, min_size=1)),
        "space": st.builds(lambda p: {"protected_layers": p, "mlp_ratio": sorted((0.1, 1.0))}, st.lists(st.integers())),
        "constraints": st.builds(lambda r: {"min_ratio": r}, ratio),
        "reconstruction": reconstruction,
        "search": st.builds(
            lambda a, t: {"algorithm_args": a, "operators": {"temperature": t}},
            st.dictionaries(text, scalar, max_size=3),
            st.floats(0.0),
        ),
    },
)


def reread(problem: Problem) -> Problem:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dumped.toml"
        path.write_text(dump_problem(problem), encoding="utf-8")
        return load_problem(path).problem


@given(problems)
def test_a_dumped_problem_reads_back_equal(data: dict[str, Any]) -> None:
    problem = Problem.model_validate(data)
    assert reread(problem) == problem


@pytest.mark.parametrize("name", [entry.name for entry in list_problems()])
def test_packaged_problems_read_back_equal(name: str) -> None:
    problem = load_problem(name).problem
    assert reread(problem) == problem
