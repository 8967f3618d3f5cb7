"""An organisation's own do-not-call list over REST: what it adds holds for its callers alone, from the answer on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

import sqlalchemy as sa
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse

from batchcall_mcp.dialer.rest import http_responses
from batchcall_mcp.dialer.rest.messages import mapping
from batchcall_mcp.dialer.rest.messages.request_models import DoNotCallBody
from batchcall_mcp.dialer.rest.messages.response_models import DoNotCallAdded, DoNotCallList
from batchcall_mcp.dialer.rest.openapi import CREATED, FOUND, WRITTEN, Endpoints, answers
from batchcall_mcp.dialer.rest.routes import Caller, Write
from batchcall_mcp.dialer.rest.service import Answer, pagination
from batchcall_mcp.dialer.storage import do_not_call
from batchcall_mcp.dialer.storage.store import Store

LOG = logging.getLogger(__name__)
_endpoints = Endpoints()


def install(app: FastAPI, open_store: Callable[[], Store]) -> None:
    """Add the endpoints to the app that `routes.build_app` made."""
    app.state.do_not_call_store = open_store
    app.router.routes.extend(_endpoints.routes)  # see routes.build_app


def _store(request: Request) -> Store:
    store: Store = request.app.state.do_not_call_store()
    return store


StoreDep: TypeAlias = Annotated[Store, Depends(_store)]


@_endpoints.post("/do-not-call", answers(DoNotCallAdded, *CREATED, takes=DoNotCallBody))
def add_to_do_not_call(asked: Write, store: StoreDep) -> JSONResponse:
    """Add up to 10,000 numbers that the organisation does not call. What was there keeps its reason."""
    body = mapping.parse(DoNotCallBody, asked.body)
    organization_id = asked.write.organization_id

    def effect(tx: sa.Connection) -> Mapping[str, Any]:
        do_not_call.hold(tx)
        reasons = dict.fromkeys(body.to_numbers, body.reason)
        added, known = do_not_call.add(tx, organization_id, "api", reasons, store.now())
        LOG.info("Do-not-call: organization %s added %d numbers, %d were there", organization_id, added, known)
        data = {"added_count": added, "already_listed_count": known}
        return {"message": "These numbers are not called any more", "data": data}

    answer, replayed = store.once(asked.write, effect)
    return http_responses.success(Answer.recorded(answer, replayed=replayed))


@_endpoints.get("/do-not-call", answers(DoNotCallList, *FOUND))
def list_do_not_call(
    store: StoreDep,
    organization_id: Caller,
    page: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> JSONResponse:
    """The organisation's own numbers, never the operator's."""
    with store.reading() as tx:
        rows, total = do_not_call.page(tx, organization_id, page, limit)
    data = {
        "do_not_call": [{**row, "added_at": mapping.iso(row["added_at"])} for row in rows],
        "pagination": pagination(page, limit, total),
    }
    return http_responses.success(Answer("Do-not-call list retrieved successfully", data))


@_endpoints.delete("/do-not-call/{to_number}", answers(None, *WRITTEN))
def remove_from_do_not_call(asked: Write, store: StoreDep, to_number: str) -> JSONResponse:
    """Remove a number that the organisation added.

    One whose person opted out in a call stays: 409 with `code: opted_out`.
    """
    organization_id = asked.write.organization_id

    def effect(tx: sa.Connection) -> Mapping[str, Any]:
        do_not_call.hold(tx)
        do_not_call.remove(tx, organization_id, to_number.replace("\0", ""))  # PostgreSQL takes none to look for
        LOG.info("Do-not-call: organization %s removed a number", organization_id)
        return {"message": "The number was removed", "data": None}

    answer, replayed = store.once(asked.write, effect)
    return http_responses.success(Answer.recorded(answer, replayed=replayed))
