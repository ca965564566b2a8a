"""Files and folders that appear whole or not at all: on a full disk, after a kill, beside another writer."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas_llm.cache import keep_file, keep_folder
from nas_llm.errors import ExportError, RunError, StudyError
from nas_llm.files import packaged_folder, staged_folder, write_atomic

KILLED = """
import os, signal, sys
from pathlib import Path
from nas_llm.files import staged_folder, write_atomic

target = Path(sys.argv[1])
if sys.argv[2] == "file":
    def write(file):
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    write_atomic(target, write)
else:
    with staged_folder(target, existing="replace") as folder:
        (folder / "a").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def small_files() -> Iterator[None]:
    """The system takes no file of more than a megabyte, as a disk that is full in the middle of one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["text", b"text", lambda file: file.write(b"text")])
@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_replaced_and_everybody_may_read_it(tmp_path: Path, content: str, sync: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    write_atomic(path, content, sync=sync)
    assert path.read_text() == "text"
    assert path.stat().st_mode & 0o777 == 0o644
    assert visible(tmp_path) == ["a.json"]


def test_what_fails_in_the_middle_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_atomic(path, write)
    assert path.read_text() == "old"
    assert visible(tmp_path) == ["a.json"]


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with small_files(), pytest.raises(StudyError, match=r"^cannot write .*/a\.json: File too large; take less$"):
        write_atomic(path, b"0" * 2_000_000, error=StudyError, mend="take less")
    assert path.read_text() == "old"
    assert visible(tmp_path) == ["a.json"]


def test_folders_are_made_only_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "a.json"
    with pytest.raises(RunError, match=r"cannot write .*/a\.json: No such file or directory"):
        write_atomic(path, "text")
    write_atomic(path, "text", parents=True)
    assert path.read_text() == "text"
    with pytest.raises(RunError, match="cannot write .*: Is a directory"):
        write_atomic(tmp_path / "deep", "text")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_atomic(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_atomic(pipe, "text")
    reader.join(timeout=10)
    assert found == ["text"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_leaves_the_old_and_nothing_under_the_name(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("old")
    else:
        target.mkdir()
        (target / "a").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target), kind], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (target if kind == "file" else target / "a").read_text() == "old"
    assert [name for name in visible(tmp_path) if not name.startswith(".target-")] == ["target"]


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "models"
    with staged_folder(target) as folder:
        save_file({"a": torch.zeros(2)}, folder / "a.safetensors")
        (folder / "inner").mkdir(0o700)
        assert not target.exists()
    assert visible(target) == ["a.safetensors", "inner"]
    assert [path.stat().st_mode & 0o777 for path in (target, *sorted(target.iterdir()))] == [0o755, 0o644, 0o755]
    assert visible(target.parent) == ["models"]


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with staged_folder(tmp_path / "models") as folder:
            (folder / "a").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fill()
    assert visible(tmp_path) == []


def test_a_folder_in_the_way_is_kept_refused_or_replaced(tmp_path: Path) -> None:
    target = tmp_path / "models"

    def fill(text: str, existing: str) -> None:
        with staged_folder(target, existing=existing, error=ExportError) as folder:  # type: ignore[arg-type]
            (folder / "a").write_text(text)
            # Another process is as fast.
            target.mkdir(exist_ok=True)
            (target / "b").write_text("other")

    fill("one", "keep")
    assert visible(target) == ["b"]
    with pytest.raises(ExportError, match=r"cannot write .*/models: it exists"):
        fill("two", "refuse")
    assert visible(target) == ["b"]
    fill("three", "replace")
    assert (target / "a").read_text() == "three"
    assert visible(target) == ["a"]
    assert visible(tmp_path) == ["models"]


def test_a_folder_that_cannot_take_its_place_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "models"
    target.mkdir()
    (target / "a").write_text("old")
    replace = Path.replace

    def fail(self: Path, other: Path) -> Path:
        if self.name == "models" and other == target:
            raise OSError(errno.EIO, "broken")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", fail)
    with (
        pytest.raises(RunError, match=r"cannot write .*/models: broken"),
        staged_folder(target, existing="replace") as folder,
    ):
        (folder / "a").write_text("new")
    assert (target / "a").read_text() == "old"
    assert visible(tmp_path) == ["models"]


def test_weights_on_a_full_disk_are_one_clear_line(tmp_path: Path) -> None:
    """safetensors raises an error of its own, which is no OSError."""

    def make(folder: Path) -> None:
        save_file({"a": torch.zeros(500_000)}, folder / "a.safetensors")

    mend = "free some space or set NAS_LLM_CACHE to another folder"
    with small_files(), pytest.raises(RunError, match=rf"^cannot write .*/grams: File too large.*; {mend}$"):
        keep_folder(tmp_path / "grams", make, witness="a.safetensors")
    assert visible(tmp_path) == []
    with pytest.raises(RunError, match=rf"^cannot write .*: Not a directory; {mend}$"):
        keep_file(Path("/dev/null/a"), "text")


def test_the_cache_fills_a_folder_once_and_again_when_it_is_damaged(tmp_path: Path) -> None:
    target, made = tmp_path / "cache" / "grams", []

    def make(folder: Path) -> None:
        made.append(folder)
        save_file({"a": torch.full((2,), float(len(made)))}, folder / "a.safetensors")
        (folder / "b").write_text(str(len(made)))

    for _ in range(2):
        keep_folder(target, make, witness="a.safetensors")
    assert len(made) == 1
    (target / "a.safetensors").unlink()
    keep_folder(target, make, witness="a.safetensors")
    assert load_file(target / "a.safetensors")["a"].tolist() == [2.0, 2.0]
    assert (target / "b").read_text() == "2"


def test_packaged_definitions_are_found() -> None:
    assert (packaged_folder("problems") / "tiny-llama.toml").is_file()
    assert (packaged_folder("studies") / "tiny-llama.toml").is_file()
