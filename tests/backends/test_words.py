"""No JSON that a backend can send breaks a parser with anything but UnexpectedResponse; what was read can go on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.backends.base import name_with_retry_of, retry_of_in_name
from batchcall_mcp.backends.capabilities import Limits, unsupported
from batchcall_mcp.backends.rest_api import mapping
from batchcall_mcp.backends.rest_api.account import listed
from batchcall_mcp.backends.rest_api.dialer import DialerBackend
from batchcall_mcp.backends.rest_api.requests import quiet_hours
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.backends.vendors.magpipe import MagpipeBackend
from batchcall_mcp.clock import to_ms
from batchcall_mcp.errors import BatchCallError, UnexpectedResponse
from batchcall_mcp.model import BatchCallRequest, CallingWindow, CallTask, HeldBack, RetryPolicy
from batchcall_mcp.vendor_http import json_values
from batchcall_mcp.vendor_http.http_errors import Answer, Exchange, backend_said, backend_words, read_answer
from batchcall_mcp.vendor_http.json_values import members

MEMBERS = st.sampled_from(
    [
        *("batch_call_id", "id", "status", "name", "from_number", "caller_id", "agent_id", "timezone", "counts"),
        *("scheduled_timestamp", "created_timestamp", "created_at", "started_at", "last_sent_timestamp", "window"),
        *("quiet_hours", "retry_config", "retry_rules", "total", "sent", "completed", "not_reached", "days", "start"),
        *("end", "start_time", "end_time", "enabled", "max_attempts", "condition", "retry_timing", "time", "type"),
        *("duration_minutes", "window_start_time", "window_end_time", "window_days", "recipients", "batch", "tasks"),
        *("to_number", "phone_number", "dynamic_variables", "max_retries", "error", "error_message", "attempted_at"),
        *("pagination", "limit", "total_count", "has_next_page", "total_pages", "data", "batch_calls", "agents"),
        *("conversation_id", "call_id", "batch_id", "queue_status", "answered_by", "call_objects", "base_prompt"),
        *("metadata", "analysis", "transcript", "transcripts", "payload", "state_change", "event_type", "has_audio"),
        *("role", "text", "user", "phone_call", "batch_call", "call_result", "price", "call_length", "completed"),
        *("llm_config", "begin_message_variables", "message", "detail", "code", "carrier", "max_concurrency"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**9, max_value=10**19)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(
        ["09:00", "24:00", "22:00:00", "DRAFT", "sent", "busy", "2025-01-01", "9999-12-31T23:59:59-12:00"]
    )
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(MEMBERS, inner, max_size=8), max_leaves=15
)
MAGPIPE = object.__new__(MagpipeBackend)
"""Its readers need no connection."""
OBJECTS = st.dictionaries(MEMBERS, JSON, max_size=10)

PARSERS: list[Callable[[dict[str, Any]], Any]] = [
    mapping.batch_call,
    mapping.call_task,
    mapping.agent,
    mapping.caller_number,
    mapping.payload,
    lambda data: mapping.raw_page(data, "tasks", 0, 20),
    lambda data: listed(data, mapping.agent, "agents", "agents"),
    MAGPIPE.read_batch,
    MAGPIPE.read_task,
    lambda data: members(data, MAGPIPE.numbers_at.members),
]


@given(data=OBJECTS)
def test_any_object_is_read_or_is_an_unexpected_response(data: dict[str, Any]) -> None:
    for parse in PARSERS:
        with contextlib.suppress(UnexpectedResponse):
            parse(data)


@given(data=OBJECTS)
def test_a_batch_call_that_was_read_can_be_sent_on(data: dict[str, Any]) -> None:
    for found in (
        mapping.batch_call(data, "b1"),
        mapping.call_task(data),
        MAGPIPE.read_batch({"batch": {**data, "id": "b1"}}),
    ):
        repr(found).encode()
        json.dumps(found, default=str, ensure_ascii=False).encode()


@given(value=JSON)
def test_single_values_are_read_or_are_none(value: Any) -> None:
    text = json_values.text(value)
    assert text is None or text.isprintable() or text.encode()
    count = json_values.whole(value)
    assert count is None or count >= 0
    moment = json_values.moment(value)
    assert moment is None or moment.utcoffset() is not None
    assert all(isinstance(name, str) for name in json_values.names(value))
    assert isinstance(backend_words(value), str)


@given(moment=st.datetimes(min_value=datetime(1973, 3, 4), max_value=datetime(5000, 1, 1), timezones=st.just(UTC)))
def test_a_time_survives_as_milliseconds_as_seconds_and_as_iso(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    milliseconds = to_ms(whole)
    assert json_values.moment(milliseconds) == whole
    assert json_values.moment(milliseconds // 1000) == whole
    assert json_values.moment(str(milliseconds)) == whole
    assert json_values.moment(whole.isoformat()) == whole
    assert json_values.moment(whole.isoformat().replace("+00:00", "Z")) == whole


@pytest.mark.parametrize("value", [0, -1, True, float("nan"), float("inf"), 10**15, 10**400, "", "soon", "-5", [], {}])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert json_values.moment(value) is None


TIMES = st.integers(0, 24 * 4 - 1).map(lambda quarter: f"{quarter // 4:02}:{quarter % 4 * 15:02}")


@given(start=TIMES, end=TIMES | st.just("24:00"))
def test_quiet_hours_are_exactly_the_rest_of_the_day(start: str, end: str) -> None:
    window = CallingWindow(start=start, end=end, timezone="UTC")
    quiet = quiet_hours(window)
    read = mapping.batch_call({"quiet_hours": quiet}, "b1").window
    if not quiet["enabled"]:
        assert read is None
        assert start == end or (start, end) == ("00:00", "24:00")
    else:
        assert read is not None
        assert (read.start, read.end.replace("24:00", "00:00")) == (start, end.replace("24:00", "00:00"))


@given(
    name=st.none() | st.text(max_size=300),
    retry_of=st.from_regex(r"[A-Za-z0-9_-]{1,60}", fullmatch=True),
    limit=st.none() | st.integers(80, 300),
)
def test_the_reference_in_a_name_survives_any_name_and_limit(
    name: str | None, retry_of: str, limit: int | None
) -> None:
    named = name_with_retry_of(name, retry_of, limit)
    assert retry_of_in_name(named) == retry_of
    assert limit is None or len(named) <= limit
    assert retry_of_in_name(name_with_retry_of(named, "other", limit)) == "other"


@pytest.mark.parametrize("name", [None, "", "N", "N (retry of )", "N (retry of a b)", "(retry of x) N"])
def test_other_names_refer_to_nothing(name: str | None) -> None:
    assert retry_of_in_name(name) is None


BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda data: json.dumps(data).encode())
    | st.sampled_from([b'{"error": "sk_1234 is bad"}', b"sk_1234", b'{"status": "error", "message": ["sk_1234"]}'])
)


@given(body=BODIES, status=st.integers(200, 599))
def test_any_answer_is_an_object_or_an_error_of_ours_without_the_secret(body: bytes, status: int) -> None:
    exchange = Exchange(doing="do it", writes=status % 2 == 0, secrets=("sk_1234",))
    said = ""
    try:
        assert isinstance(read_answer(exchange, Answer(status, {}, body), datetime(2026, 1, 1, tzinfo=UTC)), dict)
    except BatchCallError as error:
        said = error.message
    assert said.encode() == b"" or "do it" in said
    assert "sk_1234" not in said


SPLITS = st.sampled_from(["", "\x00", "\u200b", "<b>", "</b><i>", "\x1b", "\u202e"])


@given(parts=st.lists(SPLITS, min_size=11, max_size=11), around=st.text(max_size=50))
def test_a_secret_broken_up_by_what_is_taken_out_is_still_not_shown(parts: list[str], around: str) -> None:
    secret = "s3cr3t_9876"
    broken = "".join(letter + part for letter, part in zip(secret, parts, strict=True))
    shown = backend_said(around + broken + around, (secret,))
    assert secret not in shown
    assert len(shown) < 350


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "Validation error", "error": "Too late"}, "Too late"),
        ({"data": None, "error": {"code": "no_credit", "message": "Pay"}}, "no_credit: Pay"),
        ({"detail": [{"loc": ["a"], "msg": "missing"}, {"msg": "bad"}]}, "missing; bad"),
        ({"detail": {"status": "x", "message": "y"}}, "y"),
        ({"message": ["a", "b"]}, "a; b"),
        ({"message": ["name must be a string"], "error": "Bad Request", "statusCode": 400}, "name must be a string"),
        ({"message": "Contact not found", "error": "Not Found", "statusCode": 404}, "Contact not found"),
        ({"error": "Unauthorized"}, "Unauthorized"),
        ({"status": "error"}, ""),
        ("plain", "plain"),
        (5, ""),
    ],
)
def test_error_bodies_of_every_vendor_are_understood(body: Any, words: str) -> None:
    assert backend_words(body) == words


FULL = BatchCallRequest(
    from_number="+1",
    tasks=(CallTask(to_number="+2", name="A", dynamic_variables={"a": "b"}, max_retries=1, timezone="UTC"),),
    name="n",
    agent_id="a",
    window=CallingWindow(start="22:00", end="06:00", days=("mon",)),
    max_concurrency=50,
    retry=RetryPolicy(max_retries=1, on=("failed",)),
)


def test_what_a_backend_has_no_field_for_is_named_argument_by_argument() -> None:
    def named(backend: Any) -> list[str]:
        return [problem.partition(":")[0] for problem in unsupported(FULL, backend.capabilities)]

    assert named(DialerBackend) == []
    assert named(ZuduBackend) == [
        "window.timezone",
        "window.days",
        "max_concurrency",
        "retry.on",
        "name of a task",
        "timezone of a task",
    ]
    assert named(MagpipeBackend) == [
        "window.timezone",
        "window",
        "max_concurrency",
        "retry",
        "dynamic_variables",
        "timezone of a task",
        "max_retries of a task",
    ]
    assert unsupported(BatchCallRequest(), MagpipeBackend.capabilities) == []


def test_a_retry_policy_that_a_backend_cannot_keep_is_named_by_what_it_cannot() -> None:
    def named(**policy: Any) -> list[str]:
        request = BatchCallRequest(retry=RetryPolicy(**{"max_retries": 1} | policy))
        return [problem.partition(":")[0] for problem in unsupported(request, few)]

    few = replace(ZuduBackend.capabilities, limits=Limits(retries=3, retry_minutes=60), retry_at=False)
    assert named(max_retries=3, after_minutes=60) == []
    assert named(max_retries=4) == ["retry.max_retries"]
    assert named(after_minutes=61) == ["retry.after_minutes"]
    assert named(at="09:00") == ["retry.at"]


def test_who_is_held_back_is_read_and_what_says_nothing_is_not() -> None:
    until = datetime(2026, 11, 27, 14, tzinfo=UTC)
    told = [
        {"reason": "daily_cap", "calls": 2, "until": round(until.timestamp() * 1000)},
        {"reason": None, "calls": 1},
        {"reason": "retry", "calls": 0},
        {"reason": "retry"},
        "x",
    ]

    found = mapping.batch_call({"batch_call_id": "bc", "status": "draft", "held_back": told})

    assert found.held_back == (
        HeldBack(reason="daily_cap", calls=2, until=until),
        HeldBack(reason="", calls=1),
    )
    assert mapping.batch_call({"batch_call_id": "bc", "held_back": {"x": 1}}).held_back == ()


def test_when_it_expires_is_read_from_our_dialer_alone() -> None:
    """A vendor's field of this name may mean anything."""
    told = {"batch_call_id": "bc", "status": "draft", "expires_timestamp": 1_764_252_000_000}

    assert mapping.batch_call(told).expires_at == datetime(2025, 11, 27, 14, tzinfo=UTC)
    assert mapping.batch_call(told, extended=False).expires_at is None


def test_what_an_agent_says_first_is_read_where_it_is_told() -> None:
    found = mapping.agent({"agent_id": "a", "agent_name": "Reminder", "begin_message": "Hi\n{{name}}"})

    assert found is not None
    assert (found.name, found.begins) == ("Reminder", "Hi {{name}}")
