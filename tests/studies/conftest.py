from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import postgresql as server
import pytest
from browser import free_port

from nas_llm.studies import open_storage

optuna = pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'nas-llm[studies]')")


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    reason = server.missing()
    if reason:
        pytest.skip(reason)
    with server.postgresql() as url:
        yield url


@pytest.fixture(params=["journal", "sqlite", "postgresql", "grpc"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each kind of storage."""
    if request.param == "journal":
        yield str(tmp_path / "study.journal")
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    elif request.param == "postgresql":
        yield request.getfixturevalue("postgresql_url")
    else:
        pytest.importorskip("grpc", reason="grpcio is not installed (pip install 'nas-llm[grpc]')")
        from optuna.storages._grpc.server import make_server

        port = free_port()
        proxy = make_server(open_storage(f"sqlite:///{tmp_path}/behind.db"), "localhost", port)
        proxy.start()
        try:
            yield f"grpc://localhost:{port}"
        finally:
            proxy.stop(None)


@pytest.fixture
def definition_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a definition: a valid one with some text exchanged or appended."""

    def write(parameters: str, head: str = "") -> Path:
        path = tmp_path / "mine.toml"
        text = f'name = "mine"\nproblem = "tiny-llama"\nevaluations = 16\n{head}\n[parameters]\n{parameters}\n'
        path.write_text(text, encoding="utf-8")
        return path

    return write
