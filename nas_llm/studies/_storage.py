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
from nas_llm.studies._optuna import STUDIES_TABLE, journal_of, journal_storage, remembering, require_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL_FILE, ARTIFACTS = "study.journal", "artifacts"
_FORMS = "a file, sqlite:///FILE, postgresql://USER@HOST/NAME or grpc://HOST:PORT"
_URL = re.compile(r"^([a-z][a-z0-9+]*)://(.*)$", flags=re.IGNORECASE | re.DOTALL)
_PROXY_SECONDS = 10
# sqlite makes writers queue; a study writes little, so whoever waits this long waits for a dead disk.
_SQLITE_SECONDS = 60
_SQLITE_MAGIC = b"SQLite format 3\x00"
# Packages that do not bear the name of the module that is missing without them.
_PACKAGES = {
    "MySQLdb": "mysqlclient",
    "psycopg": "'nas-llm[postgresql]'",
    "grpc": "'nas-llm[grpc]'",
    "google": "'nas-llm[grpc]'",
}


def open_storage(url: str | Path, *, create: bool = True) -> BaseStorage:
    """Open a storage.

    Args:
        url: A path (a journal file), ``journal:///path``, ``sqlite:///path``, ``postgresql://...`` or another
            SQLAlchemy URL, ``grpc://host:port``.
        create: Whether files and tables are created where there are none; else nothing is written.

    Raises:
        StudyError: If it cannot be opened, or a package is missing for it; passwords are not shown.
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
                return _open_journal(Path(rest).expanduser(), create)
            if scheme == "grpc":
                return _open_proxy(rest)
            return _open_database(scheme, rest, create)
    except StudyError:
        raise
    except Exception as error:
        # SQLAlchemy, drivers and gRPC have no common root.
        missing = _missing_module(error)
        if missing is not None:
            package = _PACKAGES.get(missing, missing)
            raise StudyError(f"storage {shown(text)} needs a package: pip install {package}") from error
        reason = _short(error)
        raise StudyError(f"storage {shown(text)} cannot be opened: {reason}; give {_FORMS}") from error


def shown(url: str | Path) -> str:
    """A storage's name without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", str(url))


@contextmanager
def batched(storage: BaseStorage) -> Iterator[None]:
    """Write all records of a ``with`` block at once, where the storage can; none of them may be read within it."""
    begin = getattr(journal_of(storage), "batch", nullcontext)
    with begin():
        yield


def _open_journal(path: Path, create: bool) -> BaseStorage:
    from nas_llm.studies._journal import MendingJournal

    if path.is_dir():
        raise StudyError(f"storage {path} is a directory; give {_FORMS}")
    if not path.exists() and not create:
        raise _nothing_there(path)
    if path.is_file() and path.open("rb").read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC:
        raise StudyError(f"storage {path} is an sqlite database; write sqlite:///{path}")
    try:
        return journal_storage(MendingJournal(path))
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"storage {path} is no journal of studies; name another file") from error


def _open_proxy(address: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    host, _, port = address.rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise StudyError(f"storage grpc://{address} has no port; write grpc://HOST:PORT")
    for module in ("grpc", "google.protobuf"):
        importlib.import_module(module)
    proxy = GrpcStorageProxy(host=host, port=int(port))
    try:
        proxy.wait_server_ready(timeout=_PROXY_SECONDS)
    except Exception as error:
        raise StudyError(
            f"storage grpc://{address} does not answer; start optuna.storages.run_grpc_proxy_server"
        ) from error
    return proxy


def _open_database(scheme: str, rest: str, create: bool) -> BaseStorage:
    from optuna.storages import RDBStorage

    engine: dict[str, Any] = {"pool_pre_ping": True}
    if scheme.startswith("sqlite"):
        engine = {"connect_args": {"timeout": _SQLITE_SECONDS}}
        path = Path(rest.removeprefix("/").partition("?")[0])
        if not create and not path.is_file():
            raise _nothing_there(f"{scheme}://{rest}")
        path.parent.mkdir(parents=True, exist_ok=True)
    if scheme in ("postgres", "postgresql"):
        scheme = "postgresql" if importlib.util.find_spec("psycopg2") else "postgresql+psycopg"
    url = f"{scheme}://{rest}"
    if not create and not _has_studies(url):
        raise _nothing_there(url)
    # Several processes may create the tables of a new database at once; all but one fail the first time.
    for attempt in (1, 2, 3):
        try:
            database = RDBStorage(url, engine_kwargs=engine)
            if scheme.startswith("sqlite"):
                _lock_before_reading(database.engine)
            return remembering(database)
        except Exception as error:
            if attempt == 3 or ("exists" not in str(error) and "UNIQUE" not in str(error)):
                raise
    raise AssertionError


def _has_studies(url: str) -> bool:
    """Whether somebody has kept studies in a database; Optuna itself would make its tables in an empty one."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    try:
        return bool(sqlalchemy.inspect(engine).has_table(STUDIES_TABLE))
    finally:
        engine.dispose()


def _nothing_there(url: str | Path) -> StudyError:
    return StudyError(f"storage {shown(url)} holds no study: there is nothing yet; check the name")


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


def _missing_module(error: BaseException | None) -> str | None:
    """The module that could not be imported, where that is the reason."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__
    return None


def _short(error: BaseException) -> str:
    """The heart of a driver's message: SQLAlchemy puts the class in front and a link behind."""
    cause = getattr(error, "orig", None) or error
    return first_line(cause)[:200].rstrip(".")
