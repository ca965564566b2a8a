"""A finishing method in a file of one's own, by name from a definition and from the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner
from whole_fronts import make_run

import nas_llm
from nas_llm.cli import app
from nas_llm.config import list_problems, load_problem, override_problem
from nas_llm.errors import ConfigError, ExportError, RunError
from nas_llm.events import Event, StageAdvanced, StageStarted, ignore
from nas_llm.finishing import (
    Finished,
    Finisher,
    FinishingMethod,
    FinishInputs,
    finish_plan,
    grams_of,
    plan_of_run,
    register_finishing_method,
)
from nas_llm.finishing.methods import FINISHING
from nas_llm.models import load_model
from nas_llm.reconstruction import BlockReconstructor
from nas_llm.session import Prepared, reopen
from nas_llm.settings import FINISHING_METHODS
from nas_llm.space import Genome
from nas_llm.subnet import BlockEdit, build_subnet
from nas_llm.workflow import FrontPoint, Run, export_points, open_run, reconstruct_points, run_search

DOCUMENT = Path(__file__).parents[2] / "docs" / "reconstruction.md"
HALVED = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)[0]
METHOD = "halved.py:Halved"


def problem_text() -> str:
    """The packaged definition with the method and an argument."""
    packaged = {entry.name: entry.path for entry in list_problems()}["tiny-llama"].read_text(encoding="utf-8")
    return f'{packaged}\n[reconstruction]\nmethod = "{METHOD}"\nmethod_args = {{ share = 0.25 }}\n'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose definition starts from a folder with the method's file; it names the method and an argument."""
    folder = tmp_path_factory.mktemp("problems")
    (folder / "halved.py").write_text(HALVED, encoding="utf-8")
    (folder / "own.toml").write_text(problem_text(), encoding="utf-8")
    return make_run(folder / "runs" / "made-up", problem=folder / "own.toml")


@pytest.fixture(scope="module")
def prepared(run: Run) -> Prepared:
    return reopen(run, on_event=ignore)


def scaled(point: FrontPoint, share: float) -> dict[str, Tensor]:
    """The weights that the method is to give, made by hand."""
    dense = load_model("tiny-llama")
    name = f"{dense.adapter.names.o}.weight"

    def edit(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: weight * share if key == name else weight for key, weight in sliced.items()}

    state: dict[str, Tensor] = build_subnet(dense, point.genome, edit=edit).state_dict()
    return state


def exported(directory: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = nas_llm.load(directory)[0].state_dict()
    return state


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], value) for name, value in wanted.items())


def test_the_definition_names_it_and_the_card_and_the_record_say_so(run: Run, tmp_path: Path) -> None:
    point = run.front.points[3]
    told: list[Event] = []
    [record] = export_points(run, [point], out=tmp_path, on_event=told.append)
    assert same(exported(record.path), scaled(point, 0.25))
    starts = [event.detail for event in told if isinstance(event, StageStarted) and event.stage == "reconstruction"]
    assert starts == ["p04: halved on 1,024 tokens"]
    card = (record.path / "README.md").read_text(encoding="utf-8")
    words = rf"inherited, attention outputs times 0.25 by {METHOD} (file "
    assert f"Weights: {words}" in card
    assert f"--method {METHOD}\n" in card
    document = json.loads((record.path / "export.json").read_text(encoding="utf-8"))
    finished = document["identity"]["reconstruction"]
    assert (finished["method"], finished["method_args"]) == (METHOD, {"share": 0.25})
    assert len(finished["code"]["sha256"]) == 32
    assert document["reconstruction"]["text"]["tokens"] == 1024
    assert not (tmp_path / "p04" / "reconstruction.csv").exists()
    assert export_points(run, [point], out=tmp_path)[0].already
    other = override_problem(run.problem, {"reconstruction.method_args.share": 0.5})
    with pytest.raises(ExportError, match=r"exported with reconstruction method args share 0.25, it is now 0.5; repl"):
        export_points(replace(run, problem=other), [point], out=tmp_path)


def test_other_methods_leave_its_arguments(run: Run, tmp_path: Path) -> None:
    point = run.front.points[2]
    record = reconstruct_points(run, [point], method="closed_form")[0]
    assert record.settings["method"] == "closed_form"
    assert "method_args" not in record.settings
    export_points(run, [point], out=tmp_path, method="none")
    with pytest.raises(ExportError, match=f"reconstruction method none, it is now {METHOD}; replace"):
        export_points(run, [point], out=tmp_path)


def test_the_command_line_takes_it_for_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is looked for where the command is said, then where relative paths of the run's definition start."""
    folder, away = tmp_path / "here", tmp_path / "there"
    folder.mkdir()
    away.mkdir()
    (folder / "halved.py").write_text(HALVED, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        run = make_run(folder / "run")
    monkeypatch.chdir(away)
    point = run.front.points[4]
    chosen = ["--point", "p05", "--method", METHOD]
    outcome = CliRunner().invoke(app, ["reconstruct", str(run.directory), *chosen])
    assert outcome.exit_code == 0, outcome.output
    assert METHOD in " ".join(outcome.stdout.split())
    assert (run.directory / "reconstruction" / "p05-halved.csv").is_file()

    outcome = CliRunner().invoke(app, ["export", str(run.directory), *chosen, "--out", str(tmp_path / "models")])
    assert outcome.exit_code == 0, outcome.output
    assert same(exported(tmp_path / "models" / "p05" / "hf"), scaled(point, 0.5))

    text = tmp_path / "text.txt"
    text.write_text("A small house stood near the river and the sea. " * 60, encoding="utf-8")
    on = ["--text", str(text), "--window", "64", "--json", "-"]
    perplexities = []
    for subject in ([str(run.directory), *chosen], [str(tmp_path / "models" / "p05" / "hf")]):
        outcome = CliRunner().invoke(app, ["evaluate", *subject, *on])
        assert outcome.exit_code == 0, outcome.output
        perplexities.append(json.loads(outcome.stdout)["models"][-1]["texts"][0]["perplexity"])
    assert perplexities[0] == perplexities[1]

    (folder / "halved.py").write_text(HALVED.replace("* self.share", "* (self.share * 0.5)"), encoding="utf-8")
    command = [sys.executable, "-c", "from nas_llm.cli import main; main()"]
    command += ["export", str(run.directory), *chosen, "--out", str(tmp_path / "models")]
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 2, again.stderr
    [line] = again.stderr.splitlines()
    assert f"p05/hf exists and was exported with another {METHOD} (file " in line
    assert "it is now file " in line
    assert line.endswith("); replace it with --force or export to another place with --out")


def test_a_run_whose_methods_file_changed_goes_on_and_its_exports_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was evaluated does not depend on it; what was exported does."""
    file = tmp_path / "halved.py"
    file.write_text(HALVED, encoding="utf-8")
    (tmp_path / "own.toml").write_text(problem_text(), encoding="utf-8")
    run = make_run(tmp_path / "run", problem=tmp_path / "own.toml")
    points = run.front.points[7:8]
    export_points(run, points)
    file.write_text(HALVED.replace("* self.share", "* (self.share * 0.5)"), encoding="utf-8")
    with pytest.raises(ExportError, match=rf"exported with another {METHOD} \(file \w{{8}}, it is now file \w{{8}}\)"):
        export_points(open_run(run.directory), points)
    [record] = export_points(open_run(run.directory), points, force=True)
    assert same(exported(record.path), scaled(points[0], 0.125))

    file.unlink()
    with pytest.raises(ConfigError, match=r"plugin '.*halved.py' cannot be used: there is no file"):
        export_points(open_run(run.directory), points)
    # It can be looked at, and finished by other means.
    export_points(open_run(run.directory), points, method="none", out=tmp_path / "models")
    # A file of the working directory comes first, and its folder is no part of what an export is known by.
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "other.py").write_text(HALVED, encoding="utf-8")
    (tmp_path / "other.py").write_text(HALVED.replace("0.5", "0.75"), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "here")
        [record] = export_points(run, points, method="other.py:Halved", out=tmp_path / "others")
    assert same(exported(record.path), scaled(points[0], 0.5))
    made = json.loads((record.path / "export.json").read_text(encoding="utf-8"))["identity"]["reconstruction"]
    assert made["method"] == "other.py:Halved"
    assert str(tmp_path) not in (record.path / "README.md").read_text(encoding="utf-8").partition("# ")[2]


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("halvd.py:Halved", {}, "plugin 'halvd.py' cannot be used: there is no file .*/halvd.py"),
        ("halved.py:Halvd", {}, "plugin 'halved.py:Halvd' cannot be used: halved.py has no 'Halvd'; it has .*Halved"),
        ("halved:", {}, "plugin 'halved:' is not of the right form; write"),
        ("pathlib:Path", {}, "finishing method 'pathlib:Path' is no subclass of nas_llm.finishing.FinishingMethod"),
        ("nas_llm.finishing:FinishingMethod", {}, "does not say how it works: it lacks in_words, refit"),
        (
            METHOD,
            {"shar": 0.1},
            'reconstruction.method_args.shar is unknown for halved.py:Halved; did you mean "share"',
        ),
        (METHOD, {"x": 0.1}, "reconstruction.method_args.x is unknown for halved.py:Halved; known are share"),
        ("none", {"x": 1}, "reconstruction.method_args.x is unknown for none; it has none"),
        ("admm", {"rho": 1}, "reconstruction.method_args.rho is reconstruction.rho; give it there"),
    ],
)
def test_a_method_that_cannot_be_used_is_named_before_anything_is_done(
    run: Run, tmp_path: Path, method: str, arguments: dict[str, Any], message: str
) -> None:
    definition = run.directory.parents[1] / "own.toml"
    overrides = ["reconstruction.method_args={}"] if arguments or method != METHOD else []
    overrides += [f"reconstruction.method='{method}'"]
    overrides += [f"reconstruction.method_args.{name}={value}" for name, value in arguments.items()]
    with pytest.raises(ConfigError, match=message):
        run_search(load_problem(definition, overrides=overrides), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    if not arguments:
        outcome = CliRunner().invoke(app, ["export", str(run.directory), "--method", method])
        assert outcome.exit_code == 2
        assert outcome.stderr.count("\n") == 1


class _Own(FinishingMethod):
    """Base of methods below."""

    name = "own"

    def in_words(self) -> str:
        return "as tests want it"


class _Blocks(_Own):
    """What the closed form does, by the helpers."""

    name = "own-blocks"
    keys = ("damping",)

    def __init__(self, *, damping: float, times: int) -> None:
        if times < 1:
            raise ValueError(f"times = {times} should be at least 1")
        self.damping = damping

    def refit(self, inputs: FinishInputs, genome: Genome, on_layer: Callable[[int], None]) -> Finished:
        blocks = BlockReconstructor(
            inputs.dense, grams_of(inputs), damping=self.damping, device=inputs.device, residuals=True
        )

        def edit(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
            return blocks.refit(layer, sliced, genome.attn_mask[layer], genome.mlp_mask[layer])

        for layer in range(genome.num_layers):
            on_layer(layer)
        return Finished(edit, ())


class _Spoils(_Own):
    """Does what it must not do."""

    def __init__(self, *, how: str) -> None:
        self.how = how

    def refit(self, inputs: FinishInputs, genome: Genome, on_layer: Callable[[int], None]) -> BlockEdit:
        if self.how == "no edit":
            return None  # type: ignore[return-value]

        def edit(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
            name = f"{inputs.dense.adapter.names.fc2}.weight"
            if self.how == "nothing":
                return None  # type: ignore[return-value]
            if self.how == "in place":
                sliced[name].zero_()
                return sliced
            if self.how == "double":
                return {**sliced, name: sliced[name].double()}
            new = {"shape": sliced[name].T, "number": 3.0}.get(self.how)
            return {**sliced, name: new} if new is not None else {name: sliced[name]}  # type: ignore[dict-item]

        return edit


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two methods above under names, for one test."""
    for attribute in ("_named", "_uses"):
        monkeypatch.setattr(FINISHING, attribute, dict(getattr(FINISHING, attribute)))
    register_finishing_method("own-blocks")(_Blocks)
    register_finishing_method("spoils")(_Spoils)


def changed(prepared: Prepared, **values: Any) -> Prepared:
    cleared = override_problem(prepared.problem, {"reconstruction.method": "none", "reconstruction.method_args": {}})
    settings = {f"reconstruction.{name}": value for name, value in values.items()}
    return replace(prepared, problem=override_problem(cleared, settings))


@pytest.mark.usefixtures("own")
def test_a_registered_name_takes_keys_of_the_section_and_arguments(prepared: Prepared, run: Run) -> None:
    point = run.front.points[5]
    inputs = changed(prepared, method="own-blocks", method_args={"times": 1}, damping=0.02)
    told: list[Event] = []
    finisher = Finisher(inputs)
    [found] = finisher.finish([point], on_event=told.append)
    assert [event.done for event in told if isinstance(event, StageAdvanced)] == [1, 2, 3, 4, 5, 6]
    [wanted] = Finisher(changed(prepared, method="closed_form", damping=0.02)).finish([point])
    one, other = (build_subnet(prepared.dense, point.genome, edit=edit) for edit in (found.edit, wanted.edit))
    assert same(one.state_dict(), other.state_dict())
    assert found.residuals == ()
    identity = finisher.plan.identity()
    assert {key: identity[key] for key in ("method", "damping", "method_args")} == {
        "method": "own-blocks",
        "damping": 0.02,
        "method_args": {"times": 1},
    }
    assert finisher.plan.in_words(inputs.splits.finish).startswith("as tests want it by own-blocks (file ")
    for arguments, message in (
        ({}, "reconstruction.method_args.times is missing: own-blocks cannot do without it"),
        ({"times": 0}, "reconstruction.method_args: own-blocks cannot be made: times = 0 should be at least 1"),
        ({"times": 1, "damping": 2}, "reconstruction.method_args.damping is reconstruction.damping; give it there"),
    ):
        with pytest.raises(ConfigError, match=message):
            Finisher(changed(prepared, method="own-blocks", method_args=arguments))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no edit", "spoils: refit returned None; it should return a function"),
        ("nothing", "spoils: layer 0 should come back as the weights .*; at fault: None"),
        ("shape", r"spoils: mlp.down_proj.weight of layer 0 should be a tensor of \(\d+, \d+\), it is \(\d+, \d+\)"),
        ("number", r"spoils: mlp.down_proj.weight of layer 0 should be a tensor of .*, it is 3.0"),
        ("few", "spoils: layer 0 should come back as the weights .*; at fault: input_layernorm.weight, "),
    ],
)
def test_what_a_method_gives_is_checked(prepared: Prepared, run: Run, how: str, message: str) -> None:
    point = run.front.points[0]
    finisher = Finisher(changed(prepared, method="spoils", method_args={"how": how}))
    with pytest.raises(ConfigError, match=message):
        build_subnet(prepared.dense, point.genome, edit=finisher.finish([point])[0].edit)


@pytest.mark.usefixtures("own")
def test_the_dense_model_is_out_of_reach_and_the_type_of_the_weights_stays(prepared: Prepared) -> None:
    genome = Genome.dense(prepared.dense.architecture)
    before = {name: weight.clone() for name, weight in prepared.dense.model.state_dict().items()}
    for how in ("in place", "double"):
        finisher = Finisher(changed(prepared, method="spoils", method_args={"how": how}))
        subnet = build_subnet(prepared.dense, genome, edit=finisher.finish([genome])[0].edit)
        assert {weight.dtype for weight in subnet.state_dict().values()} == {prepared.dense.model.dtype}
    assert same(dict(prepared.dense.model.state_dict()), before)


def test_a_name_that_nobody_knows_any_more_is_said_of_a_run(run: Run, tmp_path: Path) -> None:
    text = (run.directory / "problem.toml").read_text(encoding="utf-8")
    (tmp_path / "problem.toml").write_text(text.replace(METHOD, "halved"), encoding="utf-8")
    with pytest.raises(RunError, match=r'problem.toml cannot be used: reconstruction.method = "halved" is not known; '):
        open_run(tmp_path)


@pytest.mark.parametrize("name", ["sequential", "module:Class", ""])
def test_a_name_of_the_package_is_not_given_away(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be registered"):
        register_finishing_method(name)


def test_definitions_and_the_registry_know_the_same_methods() -> None:
    assert {method.name: method.needs_text for method in FINISHING.values() if method.name in FINISHING_METHODS} == {
        name: facts.needs_text for name, facts in FINISHING_METHODS.items()
    }


@pytest.mark.parametrize("method", ["sequential", "closed_form", "none"])
def test_bare_genomes_are_finished_as_points_are(prepared: Prepared, run: Run, method: str) -> None:
    points, inputs = run.front.points[5:7], changed(prepared, method=method)
    told: list[Event] = []
    finisher = Finisher(inputs, memory_gb=16.0)
    bare = finisher.finish([point.genome for point in points], on_event=told.append)
    for point, one, other in zip(points, bare, finisher.finish(points), strict=True):
        first, second = (build_subnet(prepared.dense, point.genome, edit=found.edit) for found in (one, other))
        assert same(first.state_dict(), second.state_dict())
        assert (one.residuals is None) == (method == "none")
    labels = ", ".join(point.digest[:8] for point in points)
    starts = [event.detail for event in told if isinstance(event, StageStarted) and event.stage == "reconstruction"]
    assert starts == ([] if method == "none" else [f"{labels}: {method} on 1,024 tokens"])
    small = Genome(points[0].genome.attn_mask[:2], points[0].genome.mlp_mask[:2])
    with pytest.raises(
        ConfigError, match=r"a genome of 2 layers, \d+ KV groups and \d+ channels cannot be finished: the"
    ):
        finisher.finish([small])


def test_two_runs_may_mean_different_files_by_the_same_name(run: Run, tmp_path: Path) -> None:
    text = (run.directory / "problem.toml").read_text(encoding="utf-8")
    folders = [run.directory.parents[1], tmp_path]
    (tmp_path / "halved.py").write_text(HALVED.replace("0.5", "0.75"), encoding="utf-8")
    (tmp_path / "problem.toml").write_text(text.replace(str(folders[0]), str(folders[1])), encoding="utf-8")
    plans = [plan_of_run(replace(run, directory=directory)) for directory in (run.directory, tmp_path)]
    assert plans[0].code != plans[1].code
    unset = [
        replace(plan, problem=override_problem(plan.problem, {"reconstruction.method_args": {}})) for plan in plans
    ]
    assert [plan.make().in_words().split()[-1] for plan in unset] == ["0.5", "0.75"]


def test_a_plan_needs_no_model(run: Run) -> None:
    plan = plan_of_run(run)
    assert plan.kind.name == "halved"
    assert plan.as_options() == f"--method {METHOD}"
    folder = run.directory.parents[1]
    assert finish_plan(run.problem, base_dir=folder).identity() == plan.identity()
