"""The lock of a journal, whose holder is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileSymlinkLock

from nas_llm.studies import open_storage
from nas_llm.studies._journal import JournalLock, MendingJournal

# Begins to write a record and stops in the middle of it, with the lock in its hands.
HOLDER = """
import os, sys, time
from nas_llm.studies import open_storage
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = open_storage(sys.argv[1])
optuna.create_study(study_name="before", storage=storage)
def stuck(_):
    print("held", flush=True)
    time.sleep(600)
os.fsync = stuck
optuna.create_study(study_name="in the middle", storage=storage)
"""
# What any next command does first; a short patience, so that the test is one.
NEXT = """
import sys
from nas_llm.studies import _journal, open_storage
_journal._LOCK_SECONDS = 1
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
optuna.create_study(study_name=sys.argv[2], storage=open_storage(sys.argv[1]))
print(*sorted(study.study_name for study in open_storage(sys.argv[1]).get_all_studies()), sep=",")
"""


def killed_holder(path: str, folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True, cwd=folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def next_command(path: str, folder: Path, name: str = "after") -> list[str]:
    command = [sys.executable, "-c", NEXT, path, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=folder)
    return done.stdout.strip().split(",")


@pytest.mark.parametrize("kind", ["relative", "absolute", "moved"])
def test_a_killed_holder_delays_the_next_command_and_no_more(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    path = "runs/demo/study.journal"
    killed_holder(path if kind == "relative" else str(tmp_path / path), tmp_path)
    assert os.path.lexists(folder / "study.journal.lock")
    if kind == "moved":
        folder.rename(tmp_path / "runs" / "elsewhere")
        path = "runs/elsewhere/study.journal"
    found = next_command(path, tmp_path)
    assert {"before", "after"} <= set(found) <= {"before", "in the middle", "after"}
    assert not os.path.lexists(tmp_path / f"{path}.lock")


def test_a_link_that_optunas_own_lock_left_dangling_is_no_obstacle(tmp_path: Path) -> None:
    next_command(str(tmp_path / "study.journal"), tmp_path, "first")
    os.symlink("runs/demo/study.journal", tmp_path / "study.journal.lock")
    assert next_command(str(tmp_path / "study.journal"), tmp_path) == ["after", "first"]


def test_optunas_own_lock_does_not_stumble_over_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without nas-llm waits for the same link, and sees what it points to even when the folder has moved."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    MendingJournal(Path("a/j"))._guard.acquire()
    (tmp_path / "a").rename(tmp_path / "b")
    assert (tmp_path / "b" / "j.lock").exists()
    began = time.monotonic()
    assert JournalFileSymlinkLock(str(tmp_path / "b" / "j"), grace_period=3).acquire()
    assert time.monotonic() - began > 2


def test_of_many_who_wait_for_a_dead_holder_one_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_llm.studies._journal._LOCK_SECONDS", 0.5)
    path = tmp_path / "j"
    path.touch()
    os.symlink("nowhere", tmp_path / "j.lock")
    inside, most, order = 0, 0, []

    def work(number: int) -> None:
        nonlocal inside, most
        lock = JournalLock(path)
        for _ in range(5):
            lock.acquire()
            inside += 1
            most = max(most, inside)
            time.sleep(0.005)
            order.append(number)
            inside -= 1
            lock.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert len(order) == 30
    assert not os.path.lexists(tmp_path / "j.lock")


def test_who_gives_up_waiting_leaves_the_lock_to_its_holder(tmp_path: Path) -> None:
    """Optuna's own lock is taken from whoever holds it when somebody who waits is interrupted."""
    path = tmp_path / "j"
    path.touch()
    holder = JournalLock(path)
    holder.acquire()
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        JournalLock(path).acquire()
    assert os.path.lexists(tmp_path / "j.lock")
    holder.release()
    assert not os.path.lexists(tmp_path / "j.lock")


def test_a_lock_that_was_taken_away_is_not_given_back_twice(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.touch()
    slow, next_one = JournalLock(path), JournalLock(path)
    slow.acquire()
    (tmp_path / "j.lock").unlink()
    next_one.acquire()
    slow.release()
    assert os.path.lexists(tmp_path / "j.lock")
    next_one.release()


def test_every_record_of_many_processes_is_kept(tmp_path: Path) -> None:
    optuna.create_study(study_name="shared", storage=open_storage(tmp_path / "j"))
    add = (
        "import sys, optuna; from nas_llm.studies import open_storage\n"
        "study = optuna.load_study(study_name='shared', storage=open_storage('j'))\n"
        "for value in range(20): study.add_trial(optuna.create_trial(value=value))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", add], cwd=tmp_path) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(optuna.load_study(study_name="shared", storage=open_storage(tmp_path / "j")).trials) == 60
    assert all(json.loads(line) for line in (tmp_path / "j").read_text().splitlines())
