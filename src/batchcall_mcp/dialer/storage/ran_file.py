"""A file next to a SQLite database that says when an engine last ran on it: an older database that is put in its place,
with `cp backup.db dialer.db` for example, keeps path and inode, and is recognised by this file.

It is written after the database says the same. So it is never newer than the database that it belongs to, and older
only after a crash between the two.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from batchcall_mcp.held_files import HeldFile

LOG = logging.getLogger(__name__)


def of(file: HeldFile) -> Path:
    """The file next to a database; a link to the database is the same database."""
    return Path(f"{os.path.realpath(file.path)}.ran")


def read(file: HeldFile) -> int | None:
    """When an engine last ran, in milliseconds; None: that is not known."""
    try:
        return int(of(file).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def write(file: HeldFile, at: int) -> None:
    """Replace it, whole or not at all. One that cannot be replaced is removed: it must not fall behind the database.

    Args:
        file: the database.
        at: milliseconds.
    """
    place = of(file)
    new = place.with_name(f"{place.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as lines:
            lines.write(str(at))
            lines.flush()
            os.fsync(lines.fileno())
        new.replace(place)
    except OSError as error:
        LOG.warning("%s cannot be written (%s): a restored back-up may not be noticed", place, error.strerror)
        for left in (new, place):
            _remove(left)


def _remove(place: Path) -> None:
    try:
        place.unlink(missing_ok=True)
    except OSError:  # the folder cannot be written at all; nor can the database
        LOG.debug("%s cannot be removed", place)
