"""An error that belongs to one batch call pauses that one; the engine and everybody else's calls go on.

What a database raises when it is away, full or another one than it was is nobody's error, and passes through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import sqlalchemy as sa

from batchcall_mcp.dialer.storage import commands
from batchcall_mcp.dialer.storage.store import Store

LOG = logging.getLogger(__name__)
TEXT: Final = (
    "The dialer stopped this batch call because of an error in it ({error}); calls in progress end by themselves. "
    "Resume it to try again. If it is paused again, cancel it and create a new batch call for the people who were not "
    "called. The dialer's log has the details."
)
_ITS_OWN: Final = (sa.exc.DataError, sa.exc.IntegrityError)
"""What the database raises for a value that it does not take."""

T = TypeVar("T")


class Broken(Exception):
    """What was computed for one batch call failed; the cause says how."""

    def __init__(self, batch_call_id: str) -> None:
        super().__init__(batch_call_id)
        self.batch_call_id = batch_call_id


@contextmanager
def concerning(batch_call_id: str) -> Iterator[None]:
    """What fails in here is an error of this batch call, unless it is the database's or the machine's.

    Raises:
        Broken: it is; the transaction has to be rolled back.
    """
    try:
        yield
    except Exception as error:
        away = isinstance(error, sa.exc.DBAPIError | sa.exc.TimeoutError) and not isinstance(error, _ITS_OWN)
        if away or isinstance(error, Broken | MemoryError):
            raise
        raise Broken(batch_call_id) from error


def without_broken(store: Store, work: Callable[[frozenset[str]], T]) -> T:
    """Do a transaction's work; each batch call that is broken is paused, and the work done again without it.

    `work` is one whole transaction, which knows the batch calls to keep away from.

    Raises:
        Broken: the work did not keep away from one.
    """
    broken: frozenset[str] = frozenset()
    while True:
        try:
            return work(broken)
        except Broken as error:
            if error.batch_call_id in broken:
                raise
            pause(store, error.batch_call_id, error.__cause__ or error)
            broken |= {error.batch_call_id}


def pause(store: Store, batch_call_id: str, error: BaseException) -> None:
    """Pause a batch call for an error of its own, and say so. Blocks."""
    # By its kind alone: the text may hold somebody's number.
    LOG.error("Batch call %s has an error; it is paused, and the others go on", batch_call_id, exc_info=error)
    with store.writing() as tx:
        commands.pause(tx, [batch_call_id], "error", TEXT.format(error=type(error).__name__), store.now())
