"""Did a write take effect whose answer was lost? Judged by what the backend shows now. Pure.

Showing is proof, absence is not: a request may still be under way, or a list may lag behind.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from batchcall_mcp.backends.base import name_without_reference, retry_of_in_name, test_of_in_name
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.clock import from_ms
from batchcall_mcp.guard.write_record import Entry, Evidence
from batchcall_mcp.model import BatchCall, BatchStatus
from batchcall_mcp.text import printable

CLOCKS_APART = timedelta(minutes=10)
"""How far a backend's clock may be from ours."""
_SAME_TIME = timedelta(minutes=1)
"""Backends that keep minutes cut the seconds off."""
_NOT_LAUNCHED = frozenset(
    {
        BatchStatus.DRAFT,
        BatchStatus.SCHEDULED,
        BatchStatus.RECURRING,
        BatchStatus.CANCELLED,  # which may be all that ever happened to it
        BatchStatus.UNKNOWN,
    }
)
_NOT_RESUMED = frozenset({BatchStatus.PAUSED, BatchStatus.CANCELLED, BatchStatus.UNKNOWN})


def is_made_by(entry: Entry, found: BatchCall, hashed: Callable[[str], str]) -> bool:
    """Whether a batch call that the backend lists can be the one that this create made.

    What the backend does not report speaks neither for nor against it.
    """
    evidence = entry.evidence
    return (
        _has_its_name(evidence, plain_name(found.name) or "", hashed)
        and is_like_it(entry, found, hashed)
        and (found.retry_of or retry_of_in_name(found.name)) == evidence.retry_of
        and (found.test_of or test_of_in_name(found.name)) == evidence.test_of
    )


def is_like_it(entry: Entry, found: BatchCall, hashed: Callable[[str], str]) -> bool:
    """Whether the caller number, the size and the age of a batch call are those of what this create makes."""
    evidence = entry.evidence
    return (
        (found.from_number is None or hashed(f"number {found.from_number}") == evidence.from_number)
        and (found.counts.total is None or found.counts.total == evidence.total)
        and not is_older(entry, found)
    )


def _has_its_name(evidence: Evidence, name: str, hashed: Callable[[str], str]) -> bool:
    if evidence.named_there:
        return evidence.retry_of is not None
    return name == evidence.name if evidence.given_name is None else hashed(f"name {name}") == evidence.given_name


def plain_name(name: str | None) -> str | None:
    """As names are compared: backends trim them, and lose what does not print."""
    return None if name is None else " ".join(printable(name_without_reference(name) or "").split())


def is_older(entry: Entry, found: BatchCall) -> bool:
    """Whether a batch call is too old to have been made by this create, so that a list need not be read beyond it."""
    return found.created_at is not None and found.created_at < from_ms(entry.at) - CLOCKS_APART


def took_effect(entry: Entry, current: BatchCall) -> bool:
    """Whether a batch call shows that a write to it arrived; False means that it does not show it, and no more."""
    check = {
        Operation.START: _is_launched,
        Operation.UPDATE: _is_updated,
        Operation.APPEND: has_room_for_added,
        Operation.RESUME: lambda _, now: now.status not in _NOT_RESUMED,
        Operation.RETRY: _is_dialled_again,
        Operation.PAUSE: lambda _, now: now.status is BatchStatus.PAUSED,
        Operation.CANCEL: _is_cancelled,
    }.get(entry.operation)
    return check is not None and check(entry, current)


def is_as_left(entry: Entry, current: BatchCall) -> bool:
    """Whether a batch call is as this launch left it: of one that was scheduled, whose time has come, too."""
    if entry.operation is Operation.APPEND and not has_room_for_added(entry, current):
        return False  # its list is another one now
    if entry.status is None:
        return True  # a person's word, which the backend's own may lag behind
    if entry.status == BatchStatus.SCHEDULED == current.status:
        return _has_its_terms(entry, current) and (not _has_time(entry) or _is_scheduled(entry, current))
    begun = entry.status == BatchStatus.SCHEDULED and current.status is BatchStatus.RUNNING
    return entry.status == current.status or begun


def _is_launched(entry: Entry, current: BatchCall) -> bool:
    if not _has_its_terms(entry, current):
        return False
    return current.status not in _NOT_LAUNCHED or _is_scheduled(entry, current)


def _has_its_terms(entry: Entry, current: BatchCall) -> bool:
    """Whether the end that was given is there, and for how many people it is.

    One that was scheduled before may begin by itself, without what this launch would have given it.
    """
    evidence = entry.evidence
    if evidence.ends_on is not None and evidence.ends_on != str(current.expires_on):
        return False
    if evidence.ends_at is not None and (
        current.expires_on is not None
        or current.expires_at is None
        or abs(current.expires_at - from_ms(evidence.ends_at)) >= _SAME_TIME
    ):
        return False
    return evidence.first is None or evidence.first == current.first


def _has_time(entry: Entry) -> bool:
    return entry.evidence.trigger_at is not None or entry.evidence.trigger_on is not None


def _is_scheduled(entry: Entry, current: BatchCall) -> bool:
    if entry.evidence.trigger_on is not None:
        on = None if current.scheduled_on is None else current.scheduled_on.isoformat()
        return current.status is BatchStatus.SCHEDULED and on == entry.evidence.trigger_on
    if entry.evidence.trigger_at is None or current.scheduled_at is None:
        return False
    asked = from_ms(entry.evidence.trigger_at)
    return current.status is BatchStatus.SCHEDULED and abs(current.scheduled_at - asked) < _SAME_TIME


def _is_updated(entry: Entry, current: BatchCall) -> bool:
    evidence = entry.evidence
    if evidence.status_before not in _NOT_LAUNCHED:
        return False  # it had been launched before
    if evidence.launches:
        return current.status not in _NOT_LAUNCHED and _has_its_terms(entry, current)
    if _has_time(entry):
        return _is_launched(entry, current)
    replaced = evidence.total is not None and evidence.total != evidence.total_before
    return replaced and current.counts.total == evidence.total


def has_room_for_added(entry: Entry, current: BatchCall) -> bool:
    """Whether a list is as long as it was, and as many as were added; who is on it, only its tasks show."""
    before, added, now = entry.evidence.total_before, entry.evidence.total, current.counts.total
    return None not in (before, added, now) and (now or 0) >= (before or 0) + (added or 0)


def _is_dialled_again(entry: Entry, current: BatchCall) -> bool:
    if entry.evidence.status_before == BatchStatus.RUNNING:
        return False  # it would look the same without it
    sent_at = from_ms(entry.sent_at)
    dialled_since = current.last_sent_at is not None and current.last_sent_at >= sent_at
    return current.status is BatchStatus.RUNNING or dialled_since


def _is_cancelled(entry: Entry, current: BatchCall) -> bool:
    back_to_draft = current.status is BatchStatus.DRAFT and entry.evidence.status_before != BatchStatus.DRAFT
    return current.status is BatchStatus.CANCELLED or back_to_draft
