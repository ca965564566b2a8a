"""optuna-dashboard on the studies of a run, a folder or a storage."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from nas_llm.errors import StudyError
from nas_llm.runs import PROBLEM_FILE, is_run
from nas_llm.settings import DashboardDefaults
from nas_llm.studies._optuna import require_dashboard
from nas_llm.studies._storage import ARTIFACTS, JOURNAL_FILE, open_storage, shown

logger = logging.getLogger(__name__)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def find_studies(source: str, artifacts: Path | None = None) -> tuple[str, Path | None]:
    """The storage that a person means, and the folder of its artifacts.

    Args:
        source: A run directory, its name inside ``runs/`` or ``runs/studies/``, a journal file, or a storage URL.
        artifacts: A folder that was named; default: ``artifacts`` beside the journal, if it is there.

    Raises:
        StudyError: If there is no study.
    """
    if artifacts is not None and not artifacts.is_dir():
        raise StudyError(f"--artifacts {artifacts} is not a directory")
    if "://" in source:
        return source, artifacts
    for path in (Path(source), Path("runs") / source, Path("runs") / "studies" / source):
        if path.is_dir():
            if not (path / JOURNAL_FILE).is_file():
                raise StudyError(f"{path} has no {JOURNAL_FILE}: {_mend(path)}")
            path = path / JOURNAL_FILE
        if path.is_file():
            beside = path.parent / ARTIFACTS
            return str(path), artifacts or (beside if beside.is_dir() else None)
    raise StudyError(f"{source} is no run, study or storage; give a run directory, a journal file or a storage URL")


def _mend(folder: Path) -> str:
    """What to do about a folder without a journal."""
    if not is_run(folder):
        return "name a run directory, a journal file or a storage URL"
    words = ["nas-llm", "search", str(folder / PROBLEM_FILE), "--run", str(folder), "--resume"]
    return (
        f"its search was run without the extra for studies or with --no-study; {shlex.join(words)} makes it from what "
        f"was evaluated; a search with --study URL is looked at by that URL"
    )


def serve_dashboard(
    source: str,
    *,
    artifacts: Path | None = None,
    host: str = DashboardDefaults.host,
    port: int = DashboardDefaults.port,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve optuna-dashboard until interrupted.

    Args:
        source: See :func:`find_studies`.
        artifacts: Folder of artifacts.
        host: Address to listen on.
        port: Port to listen on; 0 = any free one.
        on_ready: Called with the address once requests are answered.

    Raises:
        StudyError: If there is no such study, the port is taken, or optuna-dashboard is not installed.
    """
    require_dashboard("the dashboard")
    from optuna.artifacts import FileSystemArtifactStore
    from optuna_dashboard import wsgi

    url, folder = find_studies(source, artifacts)
    store = None if folder is None else FileSystemArtifactStore(folder)
    app = wsgi(open_storage(url, create=False), artifact_store=store)
    try:
        server = make_server(host, port, app, server_class=_Server, handler_class=_QuietHandler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"cannot listen on {host}:{port} ({reason}); name another --port") from error
    with server:
        name = f"[{host}]" if ":" in host else host
        on_ready(f"http://{name}:{server.server_port}/")
        logger.info("serving %s", shown(url))
        server.serve_forever()
