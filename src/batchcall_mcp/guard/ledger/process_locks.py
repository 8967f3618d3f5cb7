"""Which processes are alive, so that a write is given up for `unknown` when its process has died, and not before.

A lock says so, never a process id: the operating system, or PostgreSQL, lets go of it when the process is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from pathlib import Path
from typing import Final, TypeAlias

import sqlalchemy as sa
from filelock import FileLock, Timeout

_LONG_AGO_S: Final = 24 * 60 * 60
_A_LOOK_S: Final = 0.02
"""Longer than another process that looks holds the lock of one that is gone."""


class FileOwners:
    """For a ledger in a SQLite file, all of whose processes are on this machine: one locked file each."""

    def __init__(self, folder: Path) -> None:
        self.mine: Final = secrets.token_hex(12)
        self._folder = folder
        self._lock: FileLock | None = None
        self._holding = threading.Lock()
        self._looking = threading.Lock()

    def hold(self) -> None:
        """Lock a file of our own; another one if somebody has removed it."""
        with self._holding:
            if self._lock is not None and not self._path(self.mine).exists():
                self._lock.release()
                self._lock = None
            if self._lock is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self._path(self.mine), thread_local=False)
                lock.acquire(timeout=0)
                self._lock = lock
                self._clear_away()

    def is_alive(self, owner: str, _tx: sa.Connection | None = None) -> bool:
        """Try its lock; if it is free, clear the file away."""
        path = self._path(owner)
        with self._looking:  # one look at a time: each would take the other for the owner
            if not path.exists():
                return False
            lock = FileLock(path, thread_local=False)
            try:
                lock.acquire(timeout=_A_LOOK_S, poll_interval=_A_LOOK_S / 10)
            except Timeout:
                return True
            lock.release()
            path.unlink(missing_ok=True)
            return False

    def close(self) -> None:
        """Let go, and clear our own file away."""
        with self._holding:
            if self._lock is not None:
                self._lock.release()
                self._path(self.mine).unlink(missing_ok=True)
                self._lock = None

    def _clear_away(self) -> None:
        """The files of processes that died long ago; a young one may be about to be locked."""
        for path in self._folder.glob("*.lock"):
            with contextlib.suppress(Timeout, OSError):
                if time.time() - path.stat().st_mtime > _LONG_AGO_S:
                    with FileLock(path, thread_local=False).acquire(timeout=0):
                        path.unlink(missing_ok=True)

    def _path(self, owner: str) -> Path:
        # The name comes back from a database: it must not lead out of the folder.
        return self._folder / f"{hashlib.sha256(owner.encode()).hexdigest()[:24]}.lock"


class PostgresOwners:
    """For a ledger in PostgreSQL: one connection each, which holds an advisory lock as long as it lives."""

    def __init__(self, engine: sa.Engine) -> None:
        self.mine: Final = secrets.token_hex(12)
        self._engine = engine
        self._connection: sa.Connection | None = None
        self._holding = threading.Lock()

    def hold(self) -> None:
        """Take the lock, again if the connection was lost: then others may have given up what was being sent."""
        with self._holding:
            if self._connection is not None:
                try:
                    self._connection.execute(sa.select(1))
                    return
                except sa.exc.DBAPIError:
                    self._drop()
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(sa.select(sa.func.pg_advisory_lock(_number(self.mine))))
            self._connection = connection

    def is_alive(self, owner: str, tx: sa.Connection | None = None) -> bool:
        """Try its lock, and share it with others who try it, until the transaction ends.

        Who is in one gives that: to wait for another connection while all who have one wait for it would take for ever.
        """
        if tx is None:
            with self._engine.begin() as own:
                return self.is_alive(owner, own)
        return not tx.scalar(sa.select(sa.func.pg_try_advisory_xact_lock_shared(_number(owner))))

    def close(self) -> None:
        """Let go of the lock, and end the connection."""
        with self._holding:
            if self._connection is not None:
                with contextlib.suppress(sa.exc.DBAPIError):  # a connection that is lost has no lock
                    self._connection.execute(sa.select(sa.func.pg_advisory_unlock(_number(self.mine))))
                self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


Owners: TypeAlias = FileOwners | PostgresOwners
"""Locks, one for each process on a ledger. Every method may be called from any thread and blocks."""


def _number(owner: str) -> int:
    return int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8], "big", signed=True)
