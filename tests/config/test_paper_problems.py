"""The files of problems/paper/ and the tables of docs/reproducing-the-paper.md are what their script makes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from script_modules import load_script

from nas_llm.config import list_problems, load_problem
from nas_llm.models import known_architecture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("paper_problems")


def test_committed_problems_are_what_the_script_makes(script: ModuleType) -> None:
    made = script.problem_files()
    assert {path: path.read_text(encoding="utf-8") for path in sorted(script.PROBLEMS.iterdir())} == made, (
        "run python scripts/paper_problems.py"
    )
    assert len(made) == 9 * 5


def test_the_committed_page_is_what_the_script_makes(script: ModuleType) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.page_text(), "run python scripts/paper_problems.py"
    assert script.PAGE.read_text(encoding="utf-8").count("<!-- end -->") == len(script.PARTS)


def test_every_problem_of_the_paper_is_packaged_and_loads(script: ModuleType) -> None:
    names = {entry.name for entry in list_problems()}
    for path in script.problem_files():
        name = f"paper/{path.stem}"
        assert name in names
        problem = load_problem(name).problem
        assert problem.name == f"paper-{path.stem}"
        assert problem.search.algorithm == script.ALGORITHM
        assert problem.space.attention == script.ATTENTION


def test_depths_of_the_table_end_at_the_models_layers(script: ModuleType) -> None:
    for model in script.TABLE["models"]:
        layers = known_architecture(model["source"]).num_layers
        assert [int(depth.rpartition("-")[2]) for depth in model["depth"]] == [layers] * 5


@pytest.mark.parametrize(
    ("name", "attn", "mlp", "least"),
    [
        ("llama-7b-r90", 0.9, 0.6, 32),
        ("llama-7b-r80", 0.8, 0.4, 32),
        ("llama-7b-r70", 0.7, 0.2, 30),
        ("llama-7b-r60", 0.6, 0.1, 28),
        ("llama-7b-r50", 0.6, 0.1, 28),
        ("llama-13b-r50", 0.6, 0.1, 32),
        ("opt-125m-r50", 0.6, 0.1, 8),
        ("opt-2.7b-r80", 0.8, 0.4, 30),
    ],
)
def test_spaces_are_those_of_the_papers_first_table(name: str, attn: float, mlp: float, least: int) -> None:
    problem = load_problem(f"paper/{name}").problem
    assert problem.space.attn_ratio == (attn, 1.0)
    assert problem.space.mlp_ratio == (mlp, 1.0)
    assert (problem.space.min_attn_layers, problem.space.min_mlp_layers) == (least, least)
    assert problem.constraints.max_ratio == int(name[-2:]) / 100
    assert problem.constraints.min_ratio == pytest.approx(int(name[-2:]) / 100 - 0.01)


def test_the_schedule_and_the_text_are_the_papers() -> None:
    problem = load_problem("paper/llama-7b-r80").problem
    assert (problem.search.population, problem.search.evaluations) == (100, 5000)
    assert problem.data.fitness.tokens == 5 * problem.data.window == 5 * 2048
    assert problem.data.calibration.tokens == 128 * 2048
    assert {source.source for source in problem.data.fitness.sources} == {"Salesforce/wikitext"}
    rehearsal = load_problem("paper/smollm2-135m-r80").problem
    assert {source.source for source in rehearsal.data.fitness.sources} == {"auto"}
    assert rehearsal.space.attn_ratio == problem.space.attn_ratio
    assert rehearsal.space.mlp_ratio == problem.space.mlp_ratio
    assert rehearsal.search.evaluations < problem.search.evaluations


def rows(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_printed_number_has_a_command(script: ModuleType) -> None:
    numbers = {"perplexity": 24 + 12, "ptb": 6, "tasks": 6}
    parts = {"perplexity": script.wikitext_part, "ptb": script.ptb_part, "tasks": script.tasks_part}
    names = {entry.name for entry in list_problems()}
    for measure, part in parts.items():
        found = rows(list(part()))[2:]
        assert len(found) == numbers[measure]
        for row in found:
            command = next(cell for cell in row if cell.startswith("`nas-llm"))
            searched = re.findall(r"search (\S+) &&", command)
            assert (row[1] == "100 %") == (not searched)
            assert set(searched) <= names
    text = script.PAGE.read_text(encoding="utf-8")
    for number in ("6.10", "15.48", "117.06", "59.71", "about 5 h on one A100-40G", "6,738,415,616"):
        assert number in text


def test_results_of_the_rehearsal_are_taken_where_they_are(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    assert {cell for row in rows(list(script.rehearsal_part()))[2:] for cell in row[3:]} == {"not measured"}
    found: list[dict[str, Any]] = [
        {"arm": "paper", "ratio": 0.8, "perplexity": 31.234},
        {"arm": "NSGA-II", "ratio": 0.8, "perplexity": 29.0},
        {"arm": "paper", "ratio": 0.5, "perplexity": 60.0},
        {"arm": "paper", "ratio": 0.5, "perplexity": 61.0},
        {"other": 1},
    ]
    (tmp_path / "schedule.json").write_text(json.dumps({"rows": found}), encoding="utf-8")
    cells = {row[0]: row[3:] for row in rows(list(script.rehearsal_part()))[2:]}
    assert cells["80 %"] == ["31.23", "not measured"]
    assert cells["50 %"] == ["60.00, 61.00", "not measured"]
    assert cells["90 %"] == ["not measured", "not measured"]


def test_what_is_not_up_to_date_is_written_and_only_that(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "PROBLEMS", tmp_path / "paper")
    monkeypatch.setattr(script, "PAGE", tmp_path / "page.md")
    empty = "".join(f"<!-- {part} -->\n<!-- end -->\n" for part in script.PARTS)
    (tmp_path / "page.md").write_text(empty, encoding="utf-8")
    for arguments, code, lines in ((["--check"], 1, None), ([], 0, 46), ([], 0, 0), (["--check"], 0, 0)):
        if arguments and code:
            # Nothing is written, so there are no problems that a page could be made from.
            monkeypatch.setattr(script, "page_text", lambda: "")
        with pytest.raises(SystemExit) as done:
            script.main(arguments)
        assert done.value.code == code
        if lines is not None:
            assert len(capsys.readouterr().out.splitlines()) == lines
        else:
            assert not list((tmp_path / "paper").iterdir())
            monkeypatch.undo()
            monkeypatch.setattr(script, "ROOT", tmp_path)
            monkeypatch.setattr(script, "PROBLEMS", tmp_path / "paper")
            monkeypatch.setattr(script, "PAGE", tmp_path / "page.md")
            capsys.readouterr()
    (tmp_path / "paper" / "old.toml").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit):
        script.main([])
    assert not (tmp_path / "paper" / "old.toml").exists()
