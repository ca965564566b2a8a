"""Places that cannot be written are refused before anything is measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_workflow import FakeWorkflow, Outcome

from nas_llm.errors import RunError
from nas_llm.files import check_place

Command = Callable[..., Outcome]


@pytest.mark.parametrize("option", ["--json", "--html"])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("folder", "error: cannot write folder: it is a folder; name a file in it"),
        ("file/scores", "is no folder; name another place"),
        ("file/deep/scores", "is no folder; name another place"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
    run: Command, fake: FakeWorkflow, workplace: Path, option: str, place: str, message: str
) -> None:
    (workplace / "folder").mkdir()
    (workplace / "file").write_text("", encoding="utf-8")
    outcome = run("evaluate", "a", option, place)
    assert outcome.code == 2
    assert message in outcome.err
    assert not fake.calls


def test_two_outputs_are_two_files(run: Command, fake: FakeWorkflow) -> None:
    outcome = run("evaluate", "a", "--json", "out", "--html", "./out")
    assert (outcome.code, fake.calls) == (2, [])
    assert outcome.err == "error: --json and --html both name out; give each a file of its own\n"


def test_new_folders_and_devices_are_places(tmp_path: Path) -> None:
    check_place(tmp_path / "new" / "folder" / "scores.json")
    check_place(Path(os.devnull))
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    check_place(tmp_path / "old.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is permitted to root")
def test_a_folder_without_permission_is_no_place(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(RunError, match="no permission to write in"):
        check_place(tmp_path / "scores.json")


def test_a_folder_of_texts_is_a_text(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    (workplace / "books").mkdir()
    assert run("evaluate", "a", "--text", "books").code == 0
    assert fake.calls[0]["text"] == [Path("books")]
