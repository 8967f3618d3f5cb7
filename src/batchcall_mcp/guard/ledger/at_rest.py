"""What a SQLite ledger shows without being opened for use: SQLAlchemy takes 20 MiB of a server that only waits."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Final

FILE: Final = "ledger.db"
VERSION: Final = "0007"
"""The newest migration of the ledger."""
VERSIONS: Final = "alembic_version"
"""The table that holds it."""
_WAITS_S: Final = 1.0


def is_usable(path: Path) -> bool:
    """Whether a ledger of today's version is at a path, or one can be made there. Blocks for at most a second or so.

    False says no more than that it has to be opened: that migrates it, or says what is wrong with it.
    """
    import sqlite3

    try:
        if path.exists():
            return _writable(path) and _writable(path.parent) and _version(path) == VERSION
        folder = next(one for one in path.parents if one.exists())
        return folder.is_dir() and _writable(folder)
    except (OSError, sqlite3.Error):
        return False


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK)


def _version(path: Path) -> str | None:
    import sqlite3

    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAITS_S)) as connection:
        found = connection.execute(f"SELECT version_num FROM {VERSIONS}").fetchone()  # noqa: S608 - our own name
    return None if found is None else str(found[0])
