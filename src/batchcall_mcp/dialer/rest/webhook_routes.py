"""The webhooks of the REST API: same keys, envelope, errors and Idempotency-Key as everything else there."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import anyio
import anyio.to_thread
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse

from batchcall_mcp.dialer.rest import http_responses
from batchcall_mcp.dialer.rest.messages.response_models import Deliveries, Delivery, NewWebhook, Webhooks
from batchcall_mcp.dialer.rest.openapi import CREATED, LISTED, WRITTEN, Endpoints, answers
from batchcall_mcp.dialer.rest.routes import Caller, Write
from batchcall_mcp.dialer.rest.service import Answer
from batchcall_mcp.dialer.rest.webhook_service import WebhookBody, WebhookService

_REGISTERED_AT_ONCE: Final = 10
_endpoints = Endpoints()


def install(app: FastAPI, service: WebhookService) -> None:
    """Add the endpoints to the app that `api.build_app` made."""
    app.state.webhooks = service
    # Threads of their own kind: resolvers that hang hold up registrations, and no pause.
    app.state.registering = anyio.CapacityLimiter(_REGISTERED_AT_ONCE)
    app.router.routes.extend(_endpoints.routes)  # see routes.build_app


def _service(request: Request) -> WebhookService:
    service: WebhookService = request.app.state.webhooks
    return service


ServiceDep: TypeAlias = Annotated[WebhookService, Depends(_service)]


@_endpoints.post("/webhooks", answers(NewWebhook, *CREATED, takes=WebhookBody))
async def create_webhook(request: Request, asked: Write, service: ServiceDep) -> JSONResponse:
    """Send events to a URL. The answer has the secret that signs them, shown only now."""

    def create() -> Answer:
        return service.create(asked.write, asked.body)

    return http_responses.success(await anyio.to_thread.run_sync(create, limiter=request.app.state.registering))


@_endpoints.get("/webhooks", answers(Webhooks, 401))
def list_webhooks(service: ServiceDep, organization_id: Caller) -> JSONResponse:
    """The receivers of events."""
    return http_responses.success(service.find(organization_id))


@_endpoints.delete("/webhooks/{webhook_id}", answers(None, *WRITTEN))
def delete_webhook(asked: Write, service: ServiceDep, webhook_id: str) -> JSONResponse:
    """Send no more events there."""
    return http_responses.success(service.delete(asked.write, webhook_id))


@_endpoints.get("/webhooks/{webhook_id}/deliveries", answers(Deliveries, *LISTED))
def list_deliveries(
    service: ServiceDep,
    organization_id: Caller,
    webhook_id: str,
    page: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JSONResponse:
    """The state of the messages to one receiver, newest first."""
    return http_responses.success(service.find_deliveries(organization_id, webhook_id, page=page, limit=limit))


@_endpoints.post("/webhooks/{webhook_id}/deliveries/{message_id}/resend", answers(Delivery, *WRITTEN))
def resend_delivery(asked: Write, service: ServiceDep, webhook_id: str, message_id: str) -> JSONResponse:
    """Send one message again."""
    return http_responses.success(service.resend(asked.write, webhook_id, message_id))
