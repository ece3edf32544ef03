"""Who works on a study, and is still alive? Locks that die with their holder answer it without any clock.

A worker holds a lock for as long as it lives. The operating system, or the database, frees it at the very moment at which
the process ends, however it ends; nobody waits for a heartbeat to fail to come, and no clock that is set can kill a trial.
"""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError

PATIENCE = 120  # seconds to wait for a worker that takes its next trial; it needs a moment
CONNECT = {"connect_timeout": 15}  # seconds for a server to answer
STUCK = (
    f"Another worker has been taking its next trial for {PATIENCE} seconds. If it is suspended, let it go on or end it; "
    "then start again."
)


class StudyError(Exception):
    """A study that cannot be worked on; the message says why and what to do."""


@contextmanager
def speaking_plainly(url: sa.URL) -> Iterator[None]:
    """Say what is wrong with a database in words, without its password."""
    shown = url.render_as_string(hide_password=True)
    try:
        yield
    except ImportError as error:
        raise StudyError(
            f"{shown}: the driver for this database is not installed ({error}). For PostgreSQL write "
            "postgresql+psycopg://..., whose driver comes with pip install 'digits[postgres]'."
        ) from error
    except (sa.exc.SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        why = str(getattr(cause, "orig", None) or cause or error).strip().splitlines()[0]
        raise StudyError(
            f"{shown}: the database cannot be used ({why}). Check its address, and whether it is up."
        ) from error


class FileLeases:
    """For processes that share a file system with working file locks: those of one computer."""

    def __init__(self, shared: Path):
        """``shared``: the file that the workers share. The locks lie beside it, hidden."""
        self.shared = shared
        self._claims = FileLock(self._path("claims"))

    def _path(self, name: str) -> Path:
        return self.shared.with_name(f".{self.shared.name}.{name}.lock")

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Be the only one who looks at the study and takes a trial; StudyError when another one will not end."""
        if not self.shared.parent.is_dir():  # the lock would make it
            raise StudyError(f"{self.shared.parent}: there is no such folder, or no longer.")
        try:
            self._claims.acquire(timeout=PATIENCE, poll_interval=0.01)
        except Timeout:
            raise StudyError(STUCK) from None
        try:
            yield
        finally:
            self._claims.release()

    @contextmanager
    def worker(self) -> Iterator[str]:
        """Be a living worker; its name."""
        name = uuid.uuid4().hex
        lock = FileLock(self._path(name))
        lock.acquire()
        try:
            yield name
        finally:
            lock.release()
            self._path(name).unlink(missing_ok=True)

    def alive(self, worker: str) -> bool:
        """Whether the worker of that name still lives. What a dead one left is removed."""
        if not self._path(worker).exists():
            return False
        lock = FileLock(self._path(worker))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        with suppress(OSError):  # Windows: somebody else is looking at it
            self._path(worker).unlink(missing_ok=True)
        return False


class PostgresLeases:
    """For workers anywhere that share a PostgreSQL: its advisory locks, which end with the connection that holds them.

    One connection for a worker's life. The server notices within a second that a process has ended, and within a minute
    that a computer or its network has gone. A proxy that hands one connection to several clients (PgBouncer's transaction
    pooling) breaks this. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """

    _SETTINGS = {
        "tcp_keepalives_idle": 30,
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 3,
        "idle_session_timeout": 0,
        "lock_timeout": PATIENCE * 1000,
    }

    def __init__(self, url: sa.URL):
        """StudyError when the server does not answer or refuses."""
        self.url = url
        self._own: str | None = None  # the name of the worker that this process is
        with speaking_plainly(url):
            engine = sa.create_engine(
                url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool, connect_args=CONNECT
            )
            self._connection = engine.connect()
            for name, value in self._SETTINGS.items():  # an older server does not know them all
                self._connection.execute(
                    sa.text(
                        "SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name"
                    ),
                    {"name": name, "value": str(value)},
                )

    def _call(self, function: str, name: str) -> bool:
        """Call an advisory lock's function with the key that belongs to ``name``."""
        key = int.from_bytes(
            hashlib.sha256(f"digits.training.search:{name}".encode()).digest()[:8], signed=True
        )
        with speaking_plainly(self.url):
            return self._connection.execute(
                sa.text(f"SELECT {function}(:key)"), {"key": key}
            ).scalar()

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """As ``FileLeases.claiming``."""
        try:
            self._call("pg_advisory_lock", "claims")
        except StudyError as error:
            raise StudyError(STUCK) if "lock timeout" in str(error) else error from None
        try:
            yield
        finally:
            with suppress(StudyError):  # the connection is lost, and the lock with it
                self._call("pg_advisory_unlock", "claims")

    @contextmanager
    def worker(self) -> Iterator[str]:
        """As ``FileLeases.worker``."""
        self._own = uuid.uuid4().hex
        self._call("pg_advisory_lock", self._own)
        try:
            yield self._own
        finally:
            with suppress(StudyError):
                self._call("pg_advisory_unlock", self._own)
            self._own = None

    def alive(self, worker: str) -> bool:
        """As ``FileLeases.alive``."""
        if worker == self._own:  # a session may take its own locks again
            return True
        if not self._call("pg_try_advisory_lock", worker):
            return True
        self._call("pg_advisory_unlock", worker)
        return False
