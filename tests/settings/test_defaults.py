"""A default stands once: library, definition and command line have the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import typer
from pydantic import BaseModel

from nas_llm.calibration import calibrate, importance, obs
from nas_llm.cli import app
from nas_llm.config import (
    CalibrationSection,
    FrontSection,
    LatencySection,
    ModelSection,
    Problem,
    ReconstructionSection,
    SearchSection,
    SelfSampleSection,
    SourceSection,
    SpaceSection,
)
from nas_llm.data import perplexity_windows, read_hub, read_texts, sample_documents
from nas_llm.evaluation import Workload, latency_table, load_any, measure_latency_table
from nas_llm.export import WriteSettings, export_decilm, export_gguf, export_hf
from nas_llm.front import thin_front
from nas_llm.models import load_model
from nas_llm.posttrain import PosttrainSettings, training_method
from nas_llm.reconstruction import (
    BlockReconstructor,
    SequentialReconstructor,
    TokenWeights,
    admm,
    closed_form,
    held_out_windows,
)
from nas_llm.search import BudgetDescent
from nas_llm.session import Resources, Session
from nas_llm.settings import FINISHING_METHODS, LEARNING_RATES, SequentialDefaults
from nas_llm.space import CostModel, SearchSpace
from nas_llm.studies import run_study, serve_dashboard
from nas_llm.subnet import Racing, TaylorMarginals
from nas_llm.workflow import PosttrainTexts, convert_export, evaluate_models, export_points, posttrain_export

DESCENT = type(SearchSection().descent)


def library(function: Callable[..., Any], name: str) -> Any:
    found = inspect.signature(function).parameters[name].default
    assert found is not inspect.Parameter.empty, f"{function} has no default of {name}"
    return str(found).removeprefix("torch.") if isinstance(found, torch.dtype) else found


def section(model: type[BaseModel], name: str) -> Any:
    return model.model_fields[name].get_default(call_default_factory=True)


def command(name: str, option: str) -> Any:
    group = typer.main.get_command(app)
    found = {parameter.name: parameter.default for parameter in group.commands[name].params}[option]  # type: ignore[attr-defined]
    return getattr(found, "value", found)


PAIRS: list[tuple[str, list[Any]]] = [
    *(
        (f"reconstruction.{name}", [section(ReconstructionSection, name), *(library(f, n) for f, n in functions)])
        for name, functions in {
            "damping": [(f, "damping") for f in (SequentialReconstructor, BlockReconstructor, closed_form, admm)],
            "target": [(SequentialReconstructor, "target")],
            "step": [(SequentialReconstructor, "step")],
            "blend": [(SequentialReconstructor, "blend")],
            "start": [(SequentialReconstructor, "start")],
            "refit_inputs": [(SequentialReconstructor, "refit_inputs")],
            "validation": [(SequentialReconstructor, "validation"), (held_out_windows, "fraction")],
            "rho": [(admm, "rho")],
            "iterations": [(admm, "iterations")],
        }.items()
    ),
    (
        "reconstruction.token_weights",
        [section(ReconstructionSection, "token_weights") == "relative", TokenWeights().relative],
    ),
    (
        "batch of the sequential reconstruction",
        [SequentialDefaults.batch_tokens, library(SequentialReconstructor, "batch_tokens")],
    ),
    ("calibration.scorer", [section(CalibrationSection, "scorer"), library(calibrate, "scorer")]),
    (
        "calibration.damping",
        [section(CalibrationSection, "damping"), *(library(f, "damping") for f in (calibrate, importance, obs))],
    ),
    ("search.descent.tokens", [section(DESCENT, "tokens"), library(TaylorMarginals, "tokens")]),
    ("search.descent.looks", [section(DESCENT, "looks"), library(BudgetDescent, "looks")]),
    ("seed", [section(Problem, "seed"), library(TaylorMarginals, "seed")]),
    ("sequence_length", [section(Problem, "sequence_length"), library(CostModel, "sequence_length")]),
    ("front.size", [section(FrontSection, "size"), library(thin_front, "size")]),
    ("model.offload", [section(ModelSection, "offload"), library(load_model, "offload")]),
    *(
        (f"space.{name}", [section(SpaceSection, name), library(SearchSpace, name)])
        for name in SpaceSection.model_fields
        if name != "rotate_values"
    ),
    ("space.rotate_values", [section(SpaceSection, "rotate_values"), library(calibrate, "rotate")]),
    ("space.ffn_multiple", [section(SpaceSection, "ffn_multiple"), library(measure_latency_table, "ffn_multiple")]),
    ("latency", [LatencySection(), *(library(f, "settings") for f in (measure_latency_table, latency_table))]),
    *(
        (f"data.self_sample.{name}", [section(SelfSampleSection, name), library(sample_documents, name)])
        for name in SelfSampleSection.model_fields
    ),
    (
        "column",
        [section(SourceSection, "column"), *(library(f, "column") for f in (read_texts, read_hub, perplexity_windows))],
    ),
    ("split", [section(SourceSection, "split"), library(read_hub, "split")]),
    *(
        (f"posttrain {name}", [getattr(PosttrainSettings(), name), command("posttrain", name)])
        for name in ("method", "batch", "rank", "seed", "dtype")
    ),
    ("posttrain window", [PosttrainTexts(text="self").window, command("posttrain", "window")]),
    ("posttrain windows", [PosttrainTexts(text="self").held_out_windows, command("posttrain", "windows")]),
    *(
        (f"posttrain {name}", [library(posttrain_export, name), command("posttrain", name)])
        for name in ("distill", "force")
    ),
    *(
        (f"evaluate {name}", [library(evaluate_models, name), command("evaluate", name)])
        for name in (
            "window",
            "windows",
            "base",
            "method",
            "samples",
            "include_path",
            "limit",
            "latency",
            "memory",
            "device",
            "dtype",
        )
    ),
    ("dtype", [library(evaluate_models, "dtype"), library(load_any, "dtype")]),
    *(
        (f"evaluate {name}", [getattr(Workload(), name), command("evaluate", name)])
        for name in ("prompt_tokens", "new_tokens", "batch", "rounds")
    ),
    *(
        (f"export {name}", [library(export_points, name), command("export", name)])
        for name in ("out", "max_shard_size", "pad", "method", "samples", "jobs", "force")
    ),
    (
        "pad",
        [
            library(export_points, "pad"),
            library(convert_export, "pad"),
            library(Session.export, "pad"),
            library(export_gguf, "pad"),
            library(export_decilm, "pad"),
            WriteSettings(dtype="keep").pad,
            command("convert", "pad"),
        ],
    ),
    (
        "max_shard_size",
        [
            library(export_points, "max_shard_size"),
            library(export_hf, "max_shard_size"),
            WriteSettings(dtype="keep").max_shard_size,
        ],
    ),
    *((f"search {name}", [getattr(Resources(), name), command("search", name)]) for name in ("workers", "threads")),
    *(
        (f"study {name}", [library(run_study, name), command("study", name)])
        for name in ("workers", "timeout", "resume")
    ),
    *((f"dashboard {name}", [library(serve_dashboard, name), command("dashboard", name)]) for name in ("host", "port")),
    *(
        (f"learning rate of {name}", [rate, training_method(name).learning_rate])
        for name, rate in LEARNING_RATES.items()
    ),
]


@pytest.mark.parametrize(("name", "values"), PAIRS, ids=[name for name, _ in PAIRS])
def test_a_default_is_the_same_everywhere(name: str, values: list[Any]) -> None:
    assert len(values) > 1
    assert all(value == values[0] and type(value) is type(values[0]) for value in values), values


def test_every_key_of_the_finish_is_compared() -> None:
    compared = {name.removeprefix("reconstruction.") for name, _ in PAIRS if name.startswith("reconstruction.")}
    # What has no value of its own in the library: which method, and which text.
    assert set(ReconstructionSection.model_fields) - compared == {"method", "method_args", "tokens", "sources"}
    assert section(ReconstructionSection, "method") in FINISHING_METHODS


def test_racing_has_its_defaults_there() -> None:
    from nas_llm.settings import RacingDefaults

    assert (Racing().parts, Racing().confidence) == (RacingDefaults.parts, RacingDefaults.confidence)


def test_defaults_cost_nothing_to_import() -> None:
    words = "import nas_llm.settings, sys; print([n for n in ('torch', 'numpy', 'pydantic') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"
