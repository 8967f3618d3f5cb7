"""The REST face against its own OpenAPI document: what schemathesis makes up, with every check that it has.

In this process, with real keys and no engine; the seed is fixed, so that it comes out the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema
from starlette.types import ASGIApp, Receive, Scope, Send

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.signed_http.url_policy import WebhookAddresses
from tests.dialer.conftest import emptied_postgresql
from tests.sampling import EVERYTHING

SEED = 20_261_124
EXAMPLES = 20 if EVERYTHING else 1
"""For each operation and phase. A hundred of them found what is fixed here."""
MODE = {"sqlite": "all", "postgresql": "positive"}
"""What is refused is refused before a database is asked: on PostgreSQL only what is taken is tried again."""
BETWEEN_FIELDS = (
    r"tasks\.\d+\.to_number: is the from_number",
    r"tasks\.\d+\.not_before: \S+ is too long ago for a call-back",
    r"from_number: is also the to_number of a task\.",
    r"window: start and end are both ",
    r"quiet_hours: start_time and end_time must differ",
    r"body: (window and quiet_hours|expires_date and expires_timestamp) say the same thing twice",
    r"status: scheduled needs a trigger_timestamp",
    r"send_now: true contradicts status: draft",
    r"first: says whom a launch calls, and this launches nothing",
    r"test_of: a test call has one task",
    r"\w+_timestamp: the time has no offset",
    r"\w+_timestamp: \S+ is more than a day in the past",
    r"expires_timestamp: (must be after the scheduled time|has passed)",
    r"body: trigger_date contradicts send_now",
    r"(trigger_date|expires_date): (must not be before|is over|has passed)",
    r"trigger_date: nobody can be called on \S+ any more: the date, or its calling window, is over",
    r"skip_tasks\.[\s\S]*: holds a NUL character",
    r"body: name task_ids or task_status",
    r"task_ids: not all are tasks of this batch call",
    r"tasks\.\d+\.dynamic_variables: more than 5120 bytes",
    r"(\w+\.)*timezone: .* is not the IANA name of a time zone",
    r"tasks\.\d+\.timezone: is not the IANA name of a time zone",
    r"url: (must begin with|its host|its port|is not a URL|holds a user name)",
    r"body: holds a number that does not fit in 64 bits",
    r"The batch call is not as If-Match has it",
)
"""What makes a request wrong that a schema takes: fields against each other, or against what is stored."""
REFUSED = re.compile(rf"(The request is not valid\. Nothing was changed\.\n- )?({'|'.join(BETWEEN_FIELDS)})")

schemathesis.openapi.format("entity-tags", st.sampled_from(["*", "*", "*", '"another"']))
schemathesis.openapi.format("timezone", st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))
schemathesis.openapi.format("date", st.dates(date(2040, 1, 1), date(2199, 1, 1)).map(date.isoformat))
schemathesis.openapi.format(
    "date-time",
    st.datetimes(datetime(2040, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC)).map(datetime.isoformat),
)


def without_lifespan(app: ASGIApp) -> ASGIApp:
    """Whoever runs the lifespan starts the engine, and what it does in the meantime comes out differently each time."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await app(scope, receive, send)
        for _ in range(2):
            await send({"type": f"{(await receive())['type']}.complete"})
        return None

    return wrapped


@pytest.fixture(params=MODE)
def on(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dialer(tmp_path: Path, on: str) -> Iterator[EmbeddedDialer]:
    made = EmbeddedDialer(
        tmp_path,
        database=emptied_postgresql() if on == "postgresql" else None,
        webhook_addresses=WebhookAddresses(resolve=lambda _host, _port: ["93.184.216.34"]),  # nobody is asked
    )
    yield made
    made.store().close()


def test_the_face_is_as_its_openapi_document_says(dialer: EmbeddedDialer, on: str) -> None:
    """Statuses, media types, shapes, methods, keys; valid is taken, invalid is refused, nothing is a 500."""
    key, secret = dialer.credentials
    config = SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "workers": 1,
            "continue-on-failure": True,
            "headers": {"X-API-KEY": key, "X-API-SECRET": secret},
            "generation": {"deterministic": True, "max-examples": EXAMPLES, "mode": MODE[on], "database": "none"},
            "phases": {"stateful": {"max-steps": 5}},
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", without_lifespan(dialer.app), config=config)
    phases: dict[str, str] = {}
    problems: list[str] = []
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            problems.extend(failures(event))
        elif isinstance(event, events.PhaseFinished):
            phases[event.phase.name.name] = event.status.value
        elif isinstance(event, events.NonFatalError):
            problems.append(str(event.info))
        elif isinstance(event, events.FatalError):
            raise event.exception
    assert not problems, "\n\n".join(problems)
    assert {"COVERAGE", "FUZZING", "STATEFUL_TESTING"} <= phases.keys() - {
        name for name, status in phases.items() if status in {"skip", "error"}
    }


def failures(event: events.ScenarioFinished) -> Iterator[str]:
    """What a scenario found, with the request that shows it."""
    for case_id, checks in event.recorder.checks.items():
        response = event.recorder.interactions[case_id].response
        for check in checks:
            if check.failure_info and not (check.name == "positive_data_acceptance" and between_fields(response)):
                answer = response.text[:500] if isinstance(response, Response) else ""
                failure = check.failure_info.failure
                title = f"{failure.operation}: {failure.title}"
                yield f"{title}\n{failure.message}\n{check.failure_info.code_sample}\n{answer}"


def between_fields(response: Response | None) -> bool:
    """Whether a valid request was refused for what no schema says."""
    return isinstance(response, Response) and REFUSED.match(response.json().get("error") or "") is not None
