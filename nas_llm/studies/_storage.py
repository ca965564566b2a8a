"""Opening the storage of a study: a journal file, a database, or a gRPC proxy of one."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.errors import StudyError, first_line
from nas_llm.studies._optuna import require_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL_FILE, ARTIFACTS = "study.journal", "artifacts"
_FORMS = "a file, sqlite:///FILE, postgresql://USER@HOST/NAME or grpc://HOST:PORT"
_URL = re.compile(r"^([a-z][a-z0-9+]*)://(.*)$", flags=re.IGNORECASE | re.DOTALL)
_PROXY_SECONDS = 10
# sqlite makes writers queue; a study writes little, so whoever waits this long waits for a dead disk.
_SQLITE_SECONDS = 60
_SQLITE_MAGIC = b"SQLite format 3\x00"


def open_storage(url: str | Path) -> BaseStorage:
    """Open a storage; files are created if missing.

    Args:
        url: A path (a journal file), ``journal:///path``, ``sqlite:///path``, ``postgresql://...`` or another
            SQLAlchemy URL, ``grpc://host:port``.

    Raises:
        StudyError: If it cannot be opened; passwords are not shown.
    """
    require_optuna("a study")
    text = str(url)
    found = _URL.match(text)
    scheme, rest = (found.group(1).lower(), found.group(2)) if found else ("journal", text)
    try:
        # Parts of Optuna that are used here are marked experimental.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if scheme == "journal":
                return _open_journal(Path(rest).expanduser())
            if scheme == "grpc":
                return _open_proxy(rest)
            return _open_database(scheme, rest)
    except StudyError:
        raise
    except Exception as error:
        # SQLAlchemy, drivers and gRPC have no common root.
        reason = _short(error)
        raise StudyError(f"storage {shown(text)} cannot be opened: {reason}; give {_FORMS}") from error


def shown(url: str | Path) -> str:
    """A storage's name without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", str(url))


@contextmanager
def batched(storage: BaseStorage) -> Iterator[None]:
    """Write all records of a ``with`` block at once, where the storage can; none of them may be read within it."""
    begin = getattr(getattr(storage, "_backend", None), "batch", nullcontext)
    with begin():
        yield


def _open_journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage

    from nas_llm.studies._journal import MendingJournal

    if path.is_dir():
        raise StudyError(f"storage {path} is a directory; give {_FORMS}")
    if path.is_file() and path.open("rb").read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC:
        raise StudyError(f"storage {path} is an sqlite database; write sqlite:///{path}")
    try:
        storage = JournalStorage(MendingJournal(path))
        # Optuna sets this when it reads a trial of its own back, and asks for it in the middle of a batch.
        storage._replay_result._last_created_trial_id_by_this_process = -1
        return storage
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"storage {path} is no journal of studies; name another file") from error


def _open_proxy(address: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    host, _, port = address.rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise StudyError(f"storage grpc://{address} has no port; write grpc://HOST:PORT")
    if importlib.util.find_spec("grpc") is None:
        raise StudyError(f"storage grpc://{address} needs a package: pip install 'nas-llm[grpc]'")
    proxy = GrpcStorageProxy(host=host, port=int(port))
    try:
        proxy.wait_server_ready(timeout=_PROXY_SECONDS)
    except Exception as error:
        raise StudyError(
            f"storage grpc://{address} does not answer; start optuna.storages.run_grpc_proxy_server"
        ) from error
    return proxy


def _open_database(scheme: str, rest: str) -> BaseStorage:
    from optuna.storages import RDBStorage, get_storage

    engine: dict[str, Any] = {"pool_pre_ping": True}
    if scheme.startswith("sqlite"):
        engine = {"connect_args": {"timeout": _SQLITE_SECONDS}}
        Path(rest.removeprefix("/").partition("?")[0]).parent.mkdir(parents=True, exist_ok=True)
    if scheme in ("postgres", "postgresql"):
        scheme = "postgresql" if importlib.util.find_spec("psycopg2") else "postgresql+psycopg"
        if scheme == "postgresql+psycopg" and importlib.util.find_spec("psycopg") is None:
            raise StudyError("PostgreSQL needs a driver: pip install 'nas-llm[postgresql]'")
    # Several processes may create the tables of a new database at once; all but one fail the first time.
    for attempt in (1, 2, 3):
        try:
            database = RDBStorage(f"{scheme}://{rest}", engine_kwargs=engine)
            if scheme.startswith("sqlite"):
                _lock_before_reading(database.engine)
            return get_storage(database)
        except Exception as error:
            if attempt == 3 or ("exists" not in str(error) and "UNIQUE" not in str(error)):
                raise
    raise AssertionError


def _lock_before_reading(engine: Any) -> None:
    """Make sqlite's transactions exclusive from their beginning.

    Optuna takes a waiting trial by SELECT ... FOR UPDATE, which sqlite ignores: two processes can read it as waiting
    and both take it.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        # Python's driver would begin transactions by itself, and later.
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    # Connections from before know nothing of this.
    engine.dispose()


def _short(error: BaseException) -> str:
    """The heart of a driver's message: SQLAlchemy puts the class in front and a link behind."""
    cause = getattr(error, "orig", None) or error
    return first_line(cause)[:200].rstrip(".")
