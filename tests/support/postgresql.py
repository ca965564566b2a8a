"""A PostgreSQL server of one's own, on a free port, that ends with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import free_port

_USER = "postgres"


def _programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


def missing() -> str | None:
    """Why no server can be started here, or None."""
    if _programs() is None:
        return "PostgreSQL is not installed (apt install postgresql)"
    if os.getuid() == 0 and not any(entry.pw_name == _USER for entry in pwd.getpwall()):
        return f"PostgreSQL does not run as root, and there is no user {_USER}"
    return None


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database."""
    programs = _programs()
    assert programs is not None
    root = os.getuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="nas-llm-pg-"))
    prefix = ["runuser", "-u", _USER, "--"] if root else []
    if root:
        account = pwd.getpwnam(_USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port = folder / "data", free_port()

    def run(program: str, *arguments: str) -> None:
        command = [*prefix, str(programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", timeout=60)

    try:
        run("initdb", "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
        run("pg_ctl", "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
