"""BATCHCALL_RETENTION_DAYS at a server: files of ours go so many days after their batch call."""

from __future__ import annotations

import logging
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer import erasure
from batchcall_mcp.dialer.storage.store import Store, database_location
from batchcall_mcp.erasure import own_files
from batchcall_mcp.settings import Settings

_LOG = logging.getLogger(__name__)


def remove_old_files(settings: Settings, kept_for: timedelta, now: datetime) -> list[Path]:
    """Remove exports, reports and lists of a stop that are old enough; gives those that went. Blocks.

    An export is as old as the end of its batch call, where the dialer of this installation knows that; else as old as
    the file, and so is what a stop wrote.

    Raises:
        ConfigurationError: the dialer's database cannot be opened or read.
    """
    before = now - kept_for
    exports = {path: own_files.batch_call_of(path) or "" for path in own_files.exports(settings)}
    ended = _ended_at(settings, set(exports.values())) if exports else {}
    old = [path for path in own_files.stop_reports(settings) if _is_old(path, before)]
    for path, batch_call_id in exports.items():
        if batch_call_id not in ended:
            old += [path] if _is_old(path, before) else []
            continue
        at = ended[batch_call_id]
        old += [path] if at is not None and at <= to_ms(before) else []
    gone = []
    for path in old:
        try:
            path.unlink(missing_ok=True)
            gone.append(path)
        except OSError as error:
            _LOG.warning("%s is older than BATCHCALL_RETENTION_DAYS and cannot be removed: %s", path, error.strerror)
    return gone


def _ended_at(settings: Settings, batch_call_ids: set[str]) -> dict[str, int | None]:
    store = Store.open_existing(database_location(settings))
    if store is None:
        return {}
    with closing(store), store.usable():
        return erasure.ended_at(store, batch_call_ids)


def _is_old(path: Path, before: datetime) -> bool:
    try:
        return path.stat().st_mtime <= before.timestamp()
    except OSError:
        return False
