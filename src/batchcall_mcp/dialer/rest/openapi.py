"""The OpenAPI document: as FastAPI makes it, and the bodies that it does not read."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property, partial
from http import HTTPStatus
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeVar

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from batchcall_mcp.dialer.rest.messages import request_models as asked
from batchcall_mcp.dialer.rest.messages.response_models import BatchCall, ErrorEnvelope, Success
from batchcall_mcp.dialer.rest.webhook_service import WebhookBody

_BODIES: Final = (
    *(
        asked.BatchCallBody,
        asked.BatchCallPatch,
        asked.AppendBody,
        asked.ListBody,
        asked.RetryBody,
        asked.ExecuteBody,
        asked.DoNotCallBody,
    ),
    WebhookBody,
)
_SCHEMAS: Final = "#/components/schemas/"
_FASTAPI_S_OWN: Final = ("HTTPValidationError", "ValidationError")
_METHODS: Final = ("get", "put", "post", "patch", "delete")
_KEYS: Final[list[dict[str, list[str]]]] = [{"ApiKey": [], "ApiSecret": []}]
"""Both at once: FastAPI lists them as alternatives."""

READ: Final = (401, 404)
CALLED: Final = (401, 404, 422, 503)
LISTED: Final = (401, 404, 422)
WRITTEN: Final = (400, 401, 404, 409, 413, 422)
CHANGED: Final = (400, 401, 404, 409, 412, 413, 422)
"""A write that takes If-Match."""
CREATED: Final = (400, 401, 409, 413, 422)
FILTERED: Final = (401, 413, 422)
FOUND: Final = (401, 422)

Described: TypeAlias = Callable[[], dict[str, Any]]
"""What FastAPI is given with an endpoint, made when it is needed."""
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class LateRoute(Route):
    """An endpoint that FastAPI analyses at its first request, and again for the document: a start needs one or two."""

    def __init__(self, method: str, path: str, endpoint: Callable[..., Any], described: Described) -> None:
        super().__init__(path, endpoint)
        self.methods = {method}  # without HEAD, as FastAPI has it
        self.app = self._serve
        self._described = described

    @cached_property
    def analysed(self) -> BaseRoute:
        """FastAPI's own, without the models of answers: an endpoint makes its answer itself."""
        return self._made({})

    def documented(self) -> BaseRoute:
        """The same with all that the document says of it."""
        return self._made(self._described())

    def _made(self, described: dict[str, Any]) -> BaseRoute:
        router = APIRouter()
        router.add_api_route(self.path, self.endpoint, methods=sorted(self.methods or ()), **described)
        return router.routes[0]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.analysed.handle(scope, receive, send)


class Endpoints:
    """Collects late routes; the same for every app."""

    def __init__(self) -> None:
        self.routes: Final[list[LateRoute]] = []

    def get(self, path: str, described: Described) -> Callable[[Endpoint], Endpoint]:
        return partial(self._add, "GET", path, described)

    def post(self, path: str, described: Described) -> Callable[[Endpoint], Endpoint]:
        return partial(self._add, "POST", path, described)

    def put(self, path: str, described: Described) -> Callable[[Endpoint], Endpoint]:
        return partial(self._add, "PUT", path, described)

    def patch(self, path: str, described: Described) -> Callable[[Endpoint], Endpoint]:
        return partial(self._add, "PATCH", path, described)

    def delete(self, path: str, described: Described) -> Callable[[Endpoint], Endpoint]:
        return partial(self._add, "DELETE", path, described)

    def analyse(self, *endpoints: Callable[..., Any]) -> None:
        """Have these analysed now."""
        for route in self.routes:
            if route.endpoint in endpoints:
                _ = route.analysed

    def _add(self, method: str, path: str, described: Described, endpoint: Endpoint) -> Endpoint:
        self.routes.append(LateRoute(method, path, endpoint, described))
        return endpoint


def answers(data: Any, *errors: int, takes: type[BaseModel] | None = None, needs_body: bool = True) -> Described:
    """What an endpoint answers: the shape of `data` in the envelope, and the statuses of its errors; and its body.

    Bodies are read in worker threads, not by FastAPI on the event loop, which therefore has to be given their shape.
    """
    return partial(_answers, data, errors, takes, needs_body=needs_body)


def _answers(data: Any, errors: tuple[int, ...], takes: type[BaseModel] | None, *, needs_body: bool) -> dict[str, Any]:
    success: Any = Success[data]
    body = {"application/json": {"schema": {"$ref": _SCHEMAS + takes.__name__}}} if takes else None
    headers: dict[str, Any] = {}
    if isinstance(data, type) and issubclass(data, BatchCall):
        tag = "another one after each change of status, list or settings; the same after a dial"
        headers["ETag"] = {"description": tag, "schema": {"type": "string"}}
    if 409 in errors:  # noqa: PLR2004 - HTTP; a write
        headers["Idempotency-Replayed"] = {"description": "true: a recorded answer", "schema": {"type": "string"}}
    return {
        "response_model": success,
        "responses": {200: {"headers": headers} if headers else {}, **problems(*errors)},
        "openapi_extra": {"requestBody": {"required": needs_body, "content": body}} if body else None,
    }


def exported() -> dict[str, Any]:
    """What a CSV file is answered as."""
    named = {"Content-Disposition": {"description": "a file name", "schema": {"type": "string"}}}
    csv = {"description": "Every task", "content": {"text/csv": {"schema": {"type": "string"}}}, "headers": named}
    return {"response_class": StreamingResponse, "responses": {200: csv, **problems(*READ)}}


def measured() -> dict[str, Any]:
    """What Prometheus is answered with."""
    from batchcall_mcp.dialer.rest.metrics import CONTENT_TYPE

    text = {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}
    return {"response_class": Response, "responses": {200: text, **problems(401)}}


def problems(*errors: int) -> dict[int | str, dict[str, Any]]:
    """Error answers with these statuses, and 429: a key may be used too often."""
    content = {"application/json": {"schema": {"$ref": _SCHEMAS + ErrorEnvelope.__name__}}}
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": content} for status in errors
    }
    after = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    found[429] = {"description": HTTPStatus.TOO_MANY_REQUESTS.phrase, "content": content, "headers": after}
    return found


def openapi_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Makes the document once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    return openapi


def allowed(document: dict[str, Any], path: str) -> str:
    """The Allow header of a path: all its methods, where FastAPI names those of the first route that fits."""
    fitting = [
        (template.count("{"), item)
        for template, item in document["paths"].items()
        if re.fullmatch("[^/]+".join(map(re.escape, re.split(r"\{[^}]*\}", template))), path)
    ]
    # `/batch-call/list` is a path of its own, although it looks like the one of an id.
    _, item = min(fitting, key=itemgetter(0), default=(0, {"get": None}))
    return ", ".join(method.upper() for method in _METHODS if method in item)


def _document(app: FastAPI) -> dict[str, Any]:
    routes = [route.documented() if isinstance(route, LateRoute) else route for route in app.routes]
    document = get_openapi(title=app.title, version=app.version, routes=routes)
    # Those of FastAPI come later: it splits what is read and answered differently by name.
    _, bodies = models_json_schema(
        [(model, "validation") for model in (*_BODIES, ErrorEnvelope)], ref_template=_SCHEMAS + "{model}"
    )
    schemas = document["components"]["schemas"]
    schemas.update(bodies["$defs"])
    for name in _FASTAPI_S_OWN:
        schemas.pop(name, None)
    for item in document["paths"].values():
        for operation in item.values():
            if "security" in operation:
                operation["security"] = _KEYS
            # FastAPI adds one to whatever has a parameter, even if that takes any text.
            if _FASTAPI_S_OWN[0] in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return document
