"""What the state of a batch call forbids, at a server of the batch-call REST API. Pure.

Judged before a person is asked, and once more just before anything is sent: one place for both. What a server does with
a state in a word that nobody knows is its own affair, except where a launch might call somebody twice.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

from batchcall_mcp.backends.base import Operation
from batchcall_mcp.backends.rest_api import requests
from batchcall_mcp.errors import IllegalTransition
from batchcall_mcp.model import FINISHED, BatchCall, BatchCallRequest, BatchStatus

_BEFORE_THE_START: Final = frozenset({BatchStatus.DRAFT, BatchStatus.SCHEDULED})
_BEGUN: Final = frozenset({BatchStatus.RUNNING, BatchStatus.PAUSED})
_NOT_DIALLED_AGAIN: Final = _BEFORE_THE_START | {BatchStatus.PAUSED, BatchStatus.CANCELLED, BatchStatus.FAILED}


def check_state(
    operation: Operation,
    request: BatchCallRequest | None,
    current: BatchCall | None,
    *,
    extended: bool,
    patches_tasks: bool,
) -> None:
    """Refuse what the server would refuse, or what could call somebody twice.

    Raises:
        IllegalTransition: its state does not allow it; nothing was sent.
        InvalidInput: the request cannot be put into the dialect; nothing was sent.
    """
    if current is None:
        if operation is Operation.CREATE and request is not None:
            requests.create_body(_first_task_only(request), extended=extended)
        return
    if operation is Operation.START:
        _check_startable(current)
    elif operation is Operation.UPDATE and request is not None:
        _check_changeable(current, request, extended=extended)
        requests.update_call(current, _first_task_only(request), extended=extended, patches_tasks=patches_tasks)
    elif operation is Operation.RETRY and current.status in _NOT_DIALLED_AGAIN:
        raise IllegalTransition(
            f"Could not retry tasks of batch call {current.batch_call_id}: it is {current.status}, and tasks are "
            "dialled again only while it is running or after it is completed. Nothing was sent. "
            + _instead_of_retry(current)
        )
    elif operation is Operation.DELETE:
        _check_deletable(current, extended=extended)


def _first_task_only(request: BatchCallRequest) -> BatchCallRequest:
    """A list of 100,000 is not put into the dialect twice to learn whether it can be."""
    return replace(request, tasks=request.tasks[:1]) if request.tasks else request


def _check_startable(current: BatchCall) -> None:
    if current.status in _BEFORE_THE_START:
        return
    following = "Use resume_batch_call." if current.status is BatchStatus.PAUSED else "Look at it with get_batch_call."
    if current.status in FINISHED:
        following = "To call those who were not reached, use retry_batch_call."
    raise IllegalTransition(
        f"Could not start batch call {current.batch_call_id}: it is {current.backend_status or current.status}, and "
        f"only a draft or scheduled one can be started. Nothing was sent. {following}"
    )


def _check_changeable(current: BatchCall, request: BatchCallRequest, *, extended: bool) -> None:
    status = current.status
    if request.status is BatchStatus.DRAFT and status not in _BEFORE_THE_START:
        raise IllegalTransition(
            f"{current.batch_call_id} is {status}: only one that is scheduled can become a draft again. Nothing was "
            "sent. pause_batch_call or cancel_batch_call, where there are such tools, stop one that dials."
        )
    given = {field.name for field in fields(request) if getattr(request, field.name) not in (None, False)}
    launches = request.send_now or request.trigger_at is not None or request.status is BatchStatus.SCHEDULED
    if extended:
        forbidden = status in _BEGUN | FINISHED and bool(given - {"name"})
        what = "only the name can be changed from then on"
    else:  # update page: COMPLETED ones "cannot be modified"; a launch of a running one could call somebody twice
        forbidden = status in FINISHED or (status in _BEGUN and bool(launches))
        what = "nothing can be changed from then on" if status in FINISHED else "it cannot be launched again"
    if forbidden:
        raise IllegalTransition(
            f"Could not update batch call {current.batch_call_id}: it is {status}, and {what}. Nothing was sent. "
            "create_batch_call makes a new one."
        )


def _check_deletable(current: BatchCall, *, extended: bool) -> None:
    if current.status is BatchStatus.SCHEDULED or current.status in _BEGUN:
        first = "cancel_batch_call ends it first."
        if not extended:
            scheduled = current.status is BatchStatus.SCHEDULED
            first = "cancel_batch_call makes a draft of it." if scheduled else "It can be deleted when it is over."
        raise IllegalTransition(
            f"Could not delete batch call {current.batch_call_id}: it is {current.status}, and only drafts and "
            f"finished ones can be deleted. Nothing was sent. {first}"
        )
    if extended and current.counts.calling:
        raise IllegalTransition(
            f"Could not delete batch call {current.batch_call_id}: calls are in progress. Nothing was sent. Try again "
            "when they have ended."
        )


def _instead_of_retry(current: BatchCall) -> str:
    if current.status is BatchStatus.PAUSED:
        return "resume_batch_call dials on; retry afterwards."
    if current.status in _BEFORE_THE_START:
        return "start_batch_call calls its people."
    return "create_batch_call with their numbers makes a new one."
