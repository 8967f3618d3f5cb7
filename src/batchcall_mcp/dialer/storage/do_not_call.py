"""The operator's do-not-call file, kept in the database, where every attempt is checked against it."""

from __future__ import annotations

import logging
from pathlib import Path

from batchcall_mcp.dialer.storage import store
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.recipients.do_not_call import read_do_not_call

LOG = logging.getLogger(__name__)


class DoNotCallFile:
    """Notices when the file changes.

    Without a path the stored list stays: several processes share a database, and one that was started without the
    setting must not take the list from the others. An empty file empties it.
    """

    def __init__(self, path: Path | None, default_region: str | None = None) -> None:
        self._default_region = default_region
        self._path = path
        self._seen: tuple[int, int] | None = None

    def load(self, to: Store) -> None:
        """Make the file's numbers the stored ones.

        Raises:
            BatchCallError: the file cannot be read; the stored list stays as it was.
        """
        if self._path is None:
            return
        seen = self._state()
        found = read_do_not_call(self._path, self._default_region)
        for note in found.notes():
            LOG.warning(note)
        with to.writing() as tx:
            store.replace_do_not_call(tx, sorted(found.numbers), to.now())
        self._seen = seen

    def refresh(self, to: Store) -> None:
        """Load it again if it changed; while it cannot be read, the last list goes on to hold."""
        seen = self._state()
        if seen == self._seen:
            return
        try:
            self.load(to)
        except BatchCallError as error:
            LOG.warning("The do-not-call file cannot be read, the last list holds: %s", error)
            self._seen = seen

    def _state(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
