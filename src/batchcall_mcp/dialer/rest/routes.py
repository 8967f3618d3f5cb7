"""The batch-call REST API: its endpoints, and what they lack elsewhere (pause, resume, cancel, retry, idempotency)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated, TypeAlias

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.security import APIKeyHeader
from pydantic import WithJsonSchema

from batchcall_mcp import __version__
from batchcall_mcp.dialer.domain.records import SortBy, SortOrder, TaskFilter
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.rest import health, http_responses
from batchcall_mcp.dialer.rest.account.placing import AccountRead, read_account
from batchcall_mcp.dialer.rest.messages import request_models as bodies
from batchcall_mcp.dialer.rest.messages import response_models as shapes
from batchcall_mcp.dialer.rest.messages.preconditions import IfMatch
from batchcall_mcp.dialer.rest.messages.request_models import MOMENT_SCHEMA, MOST_ALTERNATIVES, Text
from batchcall_mcp.dialer.rest.openapi import (
    CALLED,
    CHANGED,
    CREATED,
    FILTERED,
    FOUND,
    LISTED,
    READ,
    WRITTEN,
    Endpoints,
    answers,
    exported,
    measured,
    openapi_of,
)
from batchcall_mcp.dialer.rest.service import Service, created_after
from batchcall_mcp.dialer.storage.queries import BatchCallQuery
from batchcall_mcp.dialer.storage.store import WriteRequest
from batchcall_mcp.errors import AuthenticationFailed
from batchcall_mcp.model import AnsweredBy, TaskStatus

if TYPE_CHECKING:
    from batchcall_mcp.dialer.rest.rate_limiter import Limiter

Verify: TypeAlias = Callable[[str, str], str | None]
Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class ApiDependencies:
    """What the endpoints stand in front of.

    `verify` gives the organisation of a key pair, or None. `engine_health` describes this process's engine. `limiter`
    is None where the only caller is the user of this process.
    """

    service: Service
    verify: Verify
    engine_health: Callable[[], health.EngineHealth]
    limiter: Limiter | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    write: WriteRequest
    received: http_responses.Received

    @property
    def file(self) -> IO[bytes]:
        return self.received.file

    @property
    def body(self) -> bytes:
        return self.received.read()


def _dependencies(request: Request) -> ApiDependencies:
    dependencies: ApiDependencies = request.app.state.dependencies
    return dependencies


def _service(request: Request) -> Service:
    return _dependencies(request).service


_KEY = APIKeyHeader(name="X-API-KEY", scheme_name="ApiKey", auto_error=False)
_SECRET = APIKeyHeader(name="X-API-SECRET", scheme_name="ApiSecret", auto_error=False)


def _caller(
    request: Request,
    api_key: Annotated[str | None, Depends(_KEY)],
    api_secret: Annotated[str | None, Depends(_SECRET)],
) -> str:
    dependencies = _dependencies(request)
    organization_id = dependencies.verify(api_key, api_secret) if api_key and api_secret else None
    if dependencies.limiter is not None:
        if api_key and organization_id is not None:
            dependencies.limiter.known(api_key)
        else:
            dependencies.limiter.unknown(request.client.host if request.client else "")
    if organization_id is None:
        raise AuthenticationFailed(
            "X-API-KEY and X-API-SECRET are missing or not known. Nothing was changed; "
            "make a pair with `batchcall-mcp dialer keys create`."
        )
    return organization_id


ServiceDep: TypeAlias = Annotated[Service, Depends(_service)]
Caller: TypeAlias = Annotated[str, Depends(_caller)]


async def _received(request: Request, _caller: Caller) -> AsyncIterator[http_responses.Received]:
    """Whose request it is comes first: nothing of a stranger's is kept."""
    async for received in http_responses.receive(request):
        yield received


Received: TypeAlias = Annotated[http_responses.Received, Depends(_received)]


def _asked(
    request: Request,
    received: Received,
    organization_id: Caller,
    idempotency_key: Annotated[
        str | None,
        Header(pattern=r"^[\x20-\x7e]{1,255}$", description="the same request with it takes effect once"),
    ] = None,
) -> _Asked:
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise http_responses.BadRequest("Idempotency-Key: is given twice. Nothing was changed; send one.")
    return _Asked(WriteRequest(organization_id, idempotency_key, received.fingerprint), received)


Write: TypeAlias = Annotated[_Asked, Depends(_asked)]


def _if_match(
    request: Request,
    _documented: Annotated[
        Annotated[str, WithJsonSchema({"type": "string", "format": "entity-tags"})] | None,
        Header(
            alias="If-Match",
            description="the write takes effect only while the batch call has one of these ETags, else 412",
        ),
    ] = None,
) -> IfMatch | None:
    """The condition, of which FastAPI would give one line only."""
    return IfMatch.of(request.headers.getlist("if-match"))


Condition: TypeAlias = Annotated[IfMatch | None, Depends(_if_match)]


async def _account(service: ServiceDep, _caller: Caller) -> AccountRead:
    """The carrier's account, on the loop on which the carrier lives; the operations run in worker threads."""
    return await read_account(service.carrier)


AccountDep: TypeAlias = Annotated[AccountRead, Depends(_account)]
_endpoints = Endpoints()


def build_app(dependencies: ApiDependencies, lifespan: Lifespan) -> FastAPI:
    """The ASGI app; `lifespan` starts and stops the dialer, for servers that run lifespans."""
    # The documentation pages load scripts from elsewhere; /openapi.json needs nothing.
    app = FastAPI(title="batchcall-mcp dialer", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.dependencies = dependencies
    http_responses.install(app)
    # The routes themselves: `include_router` would make each of them again for every app.
    app.router.routes.extend(_endpoints.routes)
    # What is asked first is there when a request comes, with what FastAPI itself does at its first endpoint: 25 ms.
    _endpoints.analyse(list_batch_calls, get_batch_call)
    health.install(app, dependencies.service.open_store, dependencies.engine_health)
    app.openapi = openapi_of(app)  # type: ignore[method-assign]  # how FastAPI documents it
    return app


@_endpoints.post("/batch-call", answers(shapes.BatchCall, *CREATED, takes=bodies.BatchCallBody))
def create_batch_call(asked: Write, service: ServiceDep, account: AccountDep) -> JSONResponse:
    """Create a batch call. Without a time and without `send_now` it is a draft, where Zudu would dial."""
    return http_responses.success(service.create(asked.write, asked.file, account))


@_endpoints.get("/batch-call/list", answers(shapes.BatchCalls, *FOUND))
def list_batch_calls(
    service: ServiceDep,
    organization_id: Caller,
    page: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    sort_by: SortBy = "updated_at",
    sort_order: SortOrder = "descending",
    status: Annotated[list[State] | None, Query(max_length=MOST_ALTERNATIVES)] = None,
    agent_id: Annotated[list[Text] | None, Query(max_length=MOST_ALTERNATIVES)] = None,
    name: Annotated[list[Text] | None, Query(max_length=MOST_ALTERNATIVES, description="part of the name")] = None,
    created_after_: Annotated[
        Annotated[str, WithJsonSchema(MOMENT_SCHEMA)] | None, Query(alias="created_after")
    ] = None,
) -> JSONResponse:
    """A page of batch calls, filtered by query."""
    query = BatchCallQuery(
        status=tuple(status or ()),
        agent_id=tuple(agent_id or ()),
        name=tuple(name or ()),
        created_after=created_after(_number_or_text(created_after_)),
        page=page,
        limit=limit,
        sort_by=sort_by,
        sort_order=sort_order,
    )
    return http_responses.success(service.find(organization_id, query))


@_endpoints.post("/batch-call/list", answers(shapes.FilteredBatchCalls, *FILTERED, takes=bodies.ListBody))
def list_batch_calls_filtered(service: ServiceDep, organization_id: Caller, received: Received) -> JSONResponse:
    """A page of batch calls, filtered by a body, in which each field may have several values."""
    return http_responses.success(service.find_filtered(organization_id, received.read()))


@_endpoints.get("/batch-call/{batch_call_id}", answers(shapes.BatchCallRead, *READ))
def get_batch_call(service: ServiceDep, organization_id: Caller, batch_call_id: str) -> JSONResponse:
    """Read a batch call: with `held_back`, and with `results` once it is over."""
    return http_responses.success(service.get(organization_id, batch_call_id))


@_endpoints.put("/batch-call/{batch_call_id}", answers(shapes.BatchCall, *CHANGED, takes=bodies.BatchCallBody))
def update_batch_call(
    asked: Write, service: ServiceDep, batch_call_id: str, if_match: Condition, account: AccountDep
) -> JSONResponse:
    """Replace a batch call: what is not given is reset."""
    return http_responses.success(service.replace(asked.write, batch_call_id, asked.file, if_match, account))


@_endpoints.patch("/batch-call/{batch_call_id}", answers(shapes.BatchCall, *CHANGED, takes=bodies.BatchCallPatch))
def patch_batch_call(
    asked: Write, service: ServiceDep, batch_call_id: str, if_match: Condition, account: AccountDep
) -> JSONResponse:
    """Change what is given. `skip_tasks` (`{reason: [task_id]}`) ends waiting tasks before the start."""
    return http_responses.success(service.patch(asked.write, batch_call_id, asked.file, if_match, account))


@_endpoints.delete("/batch-call/{batch_call_id}", answers(None, *CHANGED))
def delete_batch_call(asked: Write, service: ServiceDep, batch_call_id: str, if_match: Condition) -> JSONResponse:
    """Remove a batch call."""
    return http_responses.success(service.delete(asked.write, batch_call_id, if_match))


@_endpoints.get("/batch-call/{batch_call_id}/tasks", answers(shapes.Tasks, *LISTED))
def list_tasks(
    service: ServiceDep,
    organization_id: Caller,
    batch_call_id: str,
    page: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    status: Annotated[list[TaskStatus] | None, Query(max_length=MOST_ALTERNATIVES)] = None,
    to_number: Text | None = None,
    choice: Text | None = None,
    answered_by: AnsweredBy | None = None,
) -> JSONResponse:
    """A page of tasks, with the result of the last call of each and the cost of all its calls."""
    wanted = TaskFilter(statuses=status or [], to_number=to_number, choice=choice, answered_by=answered_by)
    return http_responses.success(service.find_tasks(organization_id, batch_call_id, wanted, page=page, limit=limit))


@_endpoints.post("/batch-call/{batch_call_id}/tasks", answers(shapes.Appended, *CHANGED, takes=bodies.AppendBody))
def append_tasks(
    asked: Write, service: ServiceDep, batch_call_id: str, if_match: Condition, account: AccountDep
) -> JSONResponse:
    """Add people after the last; where the batch call is running, they are due now.

    Whose number the batch call has, in any spelling and whatever became of their call, is not added again: they are
    counted in `already_there_count`, and `already_there` names the first 100.
    """
    return http_responses.success(service.append(asked.write, batch_call_id, asked.file, if_match, account))


@_endpoints.get("/batch-call/{batch_call_id}/tasks/{task_id}/attempts", answers(shapes.Attempts, *READ))
def list_attempts(service: ServiceDep, organization_id: Caller, batch_call_id: str, task_id: str) -> JSONResponse:
    """Every dial of a task, oldest first, with `carrier_call_id`, by which the carrier knows it."""
    return http_responses.success(service.find_attempts(organization_id, batch_call_id, task_id))


@_endpoints.get("/batch-call/{batch_call_id}/tasks/{task_id}/call", answers(shapes.Call, *CALLED))
async def get_call(
    service: ServiceDep,
    organization_id: Caller,
    batch_call_id: str,
    task_id: str,
    n: Annotated[int | None, Query(ge=1, le=1_000_000, description="which attempt; the last one if not given")] = None,
) -> JSONResponse:
    """The last call of a task, or attempt `n`: what was said, where its carrier has that; else null."""
    return http_responses.success(await service.call(organization_id, batch_call_id, task_id, n))


@_endpoints.get("/batch-call/{batch_call_id}/export.csv", exported)
def export_batch_call(service: ServiceDep, organization_id: Caller, batch_call_id: str) -> StreamingResponse:
    """Every task as CSV, streamed; no cell is a formula."""
    pieces = service.export(organization_id, batch_call_id)
    # It exists, so its id is one that the dialer made: harmless as a file name.
    named = {"Content-Disposition": f'attachment; filename="{batch_call_id}.csv"'}
    return StreamingResponse(pieces, media_type="text/csv", headers=named)


@_endpoints.post("/batch-call/{batch_call_id}/retry", answers(shapes.Retried, *CHANGED, takes=bodies.RetryBody))
def retry_batch_call(
    asked: Write, service: ServiceDep, batch_call_id: str, if_match: Condition, account: AccountDep
) -> JSONResponse:
    """Dial again exactly the tasks of `task_ids` or `task_status`."""
    return http_responses.success(service.retry(asked.write, batch_call_id, asked.body, if_match, account))


@_endpoints.post(
    "/batch-call/{batch_call_id}/execute",
    answers(shapes.Executed, *CHANGED, takes=bodies.ExecuteBody, needs_body=False),
)
def execute_batch_call(
    asked: Write, service: ServiceDep, batch_call_id: str, if_match: Condition, account: AccountDep
) -> JSONResponse:
    """Start now. `{"first": 20}` calls so many people and pauses."""
    started = service.move(asked.write, batch_call_id, Action.EXECUTE, if_match, asked.body, account)
    return http_responses.success(started)


@_endpoints.post("/batch-call/{batch_call_id}/pause", answers(shapes.BatchCall, *WRITTEN))
def pause_batch_call(asked: Write, service: ServiceDep, batch_call_id: str) -> JSONResponse:
    """Place no new calls; those in progress go on. Not in Zudu's API."""
    return http_responses.success(service.move(asked.write, batch_call_id, Action.PAUSE))


@_endpoints.post("/batch-call/{batch_call_id}/resume", answers(shapes.BatchCall, *CHANGED))
def resume_batch_call(
    asked: Write, service: ServiceDep, batch_call_id: str, if_match: Condition, account: AccountDep
) -> JSONResponse:
    """Dial on after a pause. Not in Zudu's API."""
    return http_responses.success(service.move(asked.write, batch_call_id, Action.RESUME, if_match, account=account))


@_endpoints.post("/batch-call/{batch_call_id}/cancel", answers(shapes.BatchCall, *WRITTEN))
def cancel_batch_call(asked: Write, service: ServiceDep, batch_call_id: str) -> JSONResponse:
    """Dial nothing more of it. Not in Zudu's API."""
    return http_responses.success(service.move(asked.write, batch_call_id, Action.CANCEL))


@_endpoints.get("/account", answers(shapes.Account, 401))
def get_account(service: ServiceDep, organization_id: Caller, account: AccountDep) -> JSONResponse:
    """The organisation and the carrier: numbers and agents of its account, who pays, what it may do.

    `notes` say what cannot be read now.
    """
    return http_responses.success(service.account(organization_id, account))


@_endpoints.get("/metrics", measured)
def get_metrics(service: ServiceDep, organization_id: Caller) -> Response:
    """The organisation's figures, for Prometheus."""
    from batchcall_mcp.dialer.rest.metrics import CONTENT_TYPE

    return Response(service.metrics(organization_id), media_type=CONTENT_TYPE)


def _number_or_text(value: str | None) -> float | str | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return value
