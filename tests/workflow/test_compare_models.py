"""Models, points and fronts compared by the call that the command makes, on the packaged test model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from local_tasks import write_tasks
from typer.testing import CliRunner
from whole_fronts import make_run

from nas_llm.cli import app
from nas_llm.errors import ConfigError, DataError, ModelError, SelectionError
from nas_llm.runs import Run
from nas_llm.statistics import paired_ratio
from nas_llm.workflow import compare_models, evaluate_models, export_points
from nas_llm.workflow.compare._fronts import shared_targets

SETTINGS = ("reconstruction.method='closed_form'", "model.dtype='float32'")
SAMPLE = "A kite is tethered, and it flies because the wind lifts it. Number {} flew {} metres high. "


def graded(run: Run) -> Run:
    """The run with a front whose smaller points are worse."""
    points = tuple(
        replace(point, held_out_perplexity=200.0 / point.cost.inheriting_ratio) for point in run.front.points
    )
    front = replace(run.front, points=points)
    (run.directory / "front.json").write_text(front.to_json(), encoding="utf-8")
    return replace(run, front=front)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return graded(make_run(tmp_path_factory.mktemp("runs") / "made-up", *SETTINGS))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return graded(make_run(tmp_path_factory.mktemp("runs") / "other", *SETTINGS, "seed=5"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "kites.txt"
    path.write_text("".join(SAMPLE.format(n, n * n % 97) for n in range(80)), encoding="utf-8")
    return path


def with_front(run: Run, **changes: object) -> Run:
    return replace(run, front=replace(run.front, **changes))


def test_models_stand_beside_the_first_on_the_same_windows(run: Run, text: Path, tmp_path: Path) -> None:
    record = export_points(run, run.front.select(["smallest"]), out=tmp_path)[0]
    names = ["tiny-llama", "tiny-llama", str(record.path)]
    found = compare_models(names, text=text, window=64, windows=12)
    (group,) = found.groups
    first, same, export = group.models
    assert (found.text, found.window, found.windows) == (str(text), 64, 12)
    assert found.available > 12
    assert [model.name for model in group.models] == names
    assert (first.against, first.paired, first.inheriting_ratio) == (None, None, None)
    assert same.paired is not None
    assert same.paired.interval is not None
    assert (same.paired.ratio, same.paired.verdict) == (1.0, "no difference")
    assert (same.paired.interval.low, same.paired.interval.high) == (1.0, 1.0)
    assert export.paired is not None
    assert export.paired.verdict == "worse"
    assert export.paired == paired_ratio(export.score.losses, first.score.losses)
    assert export.paired.ratio == pytest.approx(export.score.perplexity / first.score.perplexity)
    assert export.inheriting_ratio == pytest.approx(record.cost.inheriting_ratio)
    assert found.fronts == ()


def test_all_windows_are_taken_on_request(text: Path) -> None:
    found = compare_models(["tiny-llama", "tiny-llama"], text=text, window=256, windows="all")
    assert found.windows == found.available
    assert found.windows > 8
    (row,) = evaluate_models(["tiny-llama"], text=text, window=256, windows="all")
    assert [model.score for model in found.groups[0].models] == [row.texts[0]] * 2


def test_some_windows_are_spread_over_all_of_the_text(text: Path) -> None:
    names = ["tiny-llama", "tiny-llama"]
    whole = compare_models(names, text=text, window=64).groups[0].models[0].score
    some = compare_models(names, text=text, window=64, windows=9).groups[0].models[0].score
    places = [round(place * (whole.windows - 1) / 8) for place in range(9)]
    assert some.windows == 9
    assert some.losses.nll == pytest.approx([whole.losses.nll[place] for place in places])
    more = compare_models(names, text=text, window=64, windows=9999)
    assert more.windows == whole.windows


def test_fronts_meet_at_the_ratios_that_both_cover(run: Run, other: Run, text: Path) -> None:
    runs = [str(run.directory), str(other.directory)]
    found = compare_models(runs, text=text, window=64, windows=8, method="none")
    ratios = [point.cost.inheriting_ratio for point in run.front.points]
    assert found.groups[0].target == pytest.approx(max(ratios), abs=1e-4)
    assert found.groups[-1].target == pytest.approx(min(ratios), abs=1e-4)
    for group in found.groups:
        # Both fronts have the same genomes, and weights that are not refitted are the dense model's.
        first, second = group.models
        assert first.inheriting_ratio is not None
        assert group.target is not None
        assert first.inheriting_ratio <= group.target + 1e-9
        assert second.paired is not None
        assert (second.paired.ratio, second.paired.verdict) == (1.0, "no difference")
        assert [model.name.rpartition(":")[0] for model in group.models] == runs
    assert [front.name for front in found.fronts] == runs
    logs = [math.log(group.models[0].score.perplexity) for group in found.groups]
    assert found.fronts[0].perplexity == pytest.approx(math.exp(sum(logs) / len(logs)))
    assert found.fronts[1].paired is not None
    assert found.fronts[1].paired.verdict == "no difference"


def test_points_of_one_run_are_compared_on_its_held_out_windows(tmp_path: Path) -> None:
    held = make_run(tmp_path / "run", *SETTINGS, "data.held_out.tokens=1024")
    found = compare_models([str(held.directory)], points=["p01", "p02"], method="none")
    first, second = found.groups[0].models
    assert (found.text, found.windows) == ("held-out windows", found.available)
    assert found.digest == held.front.data["held_out"]["digest"]
    assert second.paired is not None
    (_, row) = evaluate_models([str(held.directory)], points=["p01"], method="none", window=64, windows=1)
    assert row.gap is not None
    assert row.gap.held_out_interval == first.score.interval
    assert first.score.perplexity == pytest.approx(row.gap.held_out)


def test_tasks_are_compared_document_by_document(run: Run, text: Path, tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks")
    names, options = ["tiny-llama", "tiny-llama"], {"text": text, "window": 64, "windows": 8}
    found = compare_models(names, tasks=["made_up_pair"], include_path=tasks, **options)
    first, second = found.groups[0].models
    assert first.on_tasks == ()
    assert [(pair.task, pair.metric) for pair in second.on_tasks] == [("made_up", "acc"), ("made_up_twin", "acc")]
    for pair in second.on_tasks:
        # Six documents each: too few for a verdict.
        assert pair.first == pair.value
        assert (pair.paired.difference, pair.paired.differing) == (0.0, 0)
        assert pair.paired.verdict == "not comparable"
    scores = [score for score in first.tasks if score.documents is not None]
    assert scores
    for score in scores:
        assert score.documents is not None
        assert sum(score.documents) / len(score.documents) == pytest.approx(score.value)
    arguments = ["compare", *names, "--text", str(text), "--window", "64", "--windows", "8", "--tasks", "made_up"]
    result = CliRunner().invoke(app, [*arguments, "--include-path", str(tasks)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert "too few documents" in result.stdout
    assert "+0.00" in result.stdout


def test_common_target_ratios_come_first(run: Run) -> None:
    low = min(point.cost.inheriting_ratio for point in run.front.points)
    high = max(point.cost.inheriting_ratio for point in run.front.points)
    search = run.problem.search.model_copy(update={"target_ratios": (0.1, low + 0.01, high)})
    aimed = replace(run, problem=run.problem.model_copy(update={"search": search}))
    assert [target.ratio for target in shared_targets([aimed, aimed])] == [high, low + 0.01]
    assert [target.ratio for target in shared_targets([aimed, aimed], [high])] == [high]
    grid = [target.ratio for target in shared_targets([aimed, run])]
    assert grid == sorted(grid, reverse=True)
    assert grid[-1] == pytest.approx(low, abs=1e-4)


def test_fronts_without_a_ratio_in_common_say_what_they_cover(run: Run) -> None:
    points = sorted(run.front.points, key=lambda point: point.cost.inheriting_ratio)
    small, large = with_front(run, points=tuple(points[:2])), with_front(run, points=tuple(points[-2:]))
    with pytest.raises(SelectionError, match=r"no inheriting ratio in common \(.* to .*, .* to .*\)"):
        shared_targets([small, large])
    with pytest.raises(SelectionError, match="no point of the front lies within max_ratio.*compare at others"):
        shared_targets([small, large], [0.01])


def test_bad_input_is_named(run: Run, text: Path, tmp_path: Path) -> None:
    pair = ["tiny-llama", "tiny-llama"]
    with pytest.raises(ConfigError, match="nothing to compare tiny-llama with; name two or more"):
        compare_models(["tiny-llama"], text=text)
    with pytest.raises(ConfigError, match="nothing to compare .*p02 with"):
        compare_models([str(run.directory)], points=["p02"], text=text)
    with pytest.raises(ConfigError, match="--ratio is for the fronts"):
        compare_models(pair, text=text, ratios=[0.8])
    with pytest.raises(DataError, match="kites.txt is shorter than one window of 9999 tokens"):
        compare_models(pair, text=text, window=9999)
    with pytest.raises(DataError, match="kites.txt gives 7 windows of 64 tokens, and error bars take 8"):
        compare_models(pair, text=text, window=64, windows=7)
    with pytest.raises(DataError, match="no text to compare on"):
        compare_models(pair)
    with pytest.raises(ModelError, match="no such model directory"):
        compare_models(["tiny-llama", str(tmp_path / "model")], text=text)


def test_perplexities_of_different_tokens_are_not_compared(run: Run, text: Path, tmp_path: Path) -> None:
    record = export_points(run, run.front.select(["p01"]), out=tmp_path)[0]
    path = record.path / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:9]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(DataError, match=r"tiny-llama and .*hf read .*kites\.txt by different tokenizers"):
        compare_models(["tiny-llama", str(record.path)], text=text, window=64)


def test_the_command_shows_a_table_and_writes_json(run: Run, other: Run, text: Path, tmp_path: Path) -> None:
    scores = tmp_path / "new" / "fronts.json"
    arguments = ["compare", str(run.directory), str(other.directory), "--text", str(text), "--window", "64"]
    options = ["--windows", "8", "--method", "none", "--ratio", "0.7,0.5", "--json", str(scores)]
    result = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    for words in ("ratio at most", "over the first", "1.0000 [1.0000, 1.0000]", "95 % intervals", "evenly spread"):
        assert words in result.stdout
    document = json.loads(scores.read_text(encoding="utf-8"))
    assert document["versions"]["torch"]
    assert [group["target"] for group in document["groups"]] == [0.7, 0.5]
    model = document["groups"][0]["models"][1]
    assert model["paired"]["verdict"] == "no difference"
    assert len(model["score"]["losses"]["nll"]) == document["windows"] == 8


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tiny-llama",), "error: there is nothing to compare tiny-llama with"),
        (("tiny-llama", "nix", "--text", "short.txt"), "error: cannot find model 'nix'"),
        (("tiny-llama", "tiny-llama", "--text", "nix.txt"), "error: nix.txt does not exist; check the path"),
        (("tiny-llama", "tiny-llama", "--text", "nix"), "error: text 'nix' is none of wikitext2, ptb, c4"),
        (("tiny-llama", "tiny-llama", "--text", "short.txt"), "error: short.txt is shorter than one window of 1024"),
        (("tiny-llama", "tiny-llama"), "error: no text to compare on"),
        (("a", "b", "--ratio", "0.8,1.5"), "error: --ratio '1.5' is no number in (0, 1]"),
        (("a", "b", "--ratio", "big"), "error: --ratio 'big' is no number in (0, 1]"),
        (("a", "b", "--windows", "few"), "error: --windows 'few' is neither a positive number nor all"),
        (("a", "b", "--json", "."), "error: cannot write .: it is a folder"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("Two words", encoding="utf-8")
    result = CliRunner().invoke(app, ["compare", *arguments], catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert expected in errors[0]
    assert "Traceback" not in result.stderr
