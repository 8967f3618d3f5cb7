"""What can be read in two ways is refused: a time long past, a key given twice, a length given in two ways."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import uvicorn

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.server import _config
from batchcall_mcp.dialer.storage.tables import batch_calls
from tests.dialer.conftest import CALLER, Caller, body, numbers, on_sqlite

DATE_AS_A_NUMBER = 20_261_201
"""1970-08-23 in Unix seconds."""


@pytest.mark.parametrize("field", ["trigger_timestamp", "expires_timestamp"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@on_sqlite("desk")
async def test_a_date_that_is_read_as_1970_is_refused(desk: Caller, field: str, method: str) -> None:
    asked = {field: DATE_AS_A_NUMBER}
    draft = await desk.create(numbers(1))
    path = "/batch-call" if method == "POST" else f"/batch-call/{draft}"
    content = asked if method == "PATCH" else body(numbers(1), **asked)
    answer = await desk.ask(method, path, content, status=422)
    assert answer["error"].startswith(
        f"{field}: 1970-08-23T12:06:41+00:00 is more than a day in the past. Nothing was changed."
    )
    assert (await desk.get(draft))["status"] == "draft"
    assert len((await desk.ask("GET", "/batch-call/list"))["batch_calls"]) == 1


@on_sqlite("desk")
async def test_a_day_is_the_limit(desk: Caller) -> None:
    """A time that has just passed means now."""
    day_ago = desk.clock() - timedelta(days=1)
    await desk.create(numbers(1), trigger_timestamp=day_ago.isoformat())
    before = (day_ago - timedelta(milliseconds=1)).isoformat()
    await desk.ask("POST", "/batch-call", body(numbers(1), trigger_timestamp=before), status=422)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_time_that_is_stored_may_be_given_again(desk: Caller, method: str) -> None:
    """A client that writes back what it has read changes nothing with it."""
    times = {name: desk.clock() + timedelta(hours=hours) for name, hours in (("trigger", 1), ("expires", 2))}
    at = {f"{name}_timestamp": round(moment.timestamp() * 1000) for name, moment in times.items()}
    batch_call_id = await desk.create(numbers(1), **at)
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"status": "draft"})
    desk.clock.forward(days=3)
    asked = {"name": "Later", "status": "draft", **at}
    content = asked if method == "PATCH" else body(numbers(1), **asked)
    data = await desk.ask(method, f"/batch-call/{batch_call_id}", content)
    assert (data["name"], data["scheduled_timestamp"]) == ("Later", at["trigger_timestamp"])
    asked["trigger_timestamp"] = at["trigger_timestamp"] + 1
    content = asked if method == "PATCH" else body(numbers(1), **asked)
    await desk.ask(method, f"/batch-call/{batch_call_id}", content, status=422)


async def test_a_repeated_request_is_answered_as_it_was_however_late(desk: Caller) -> None:
    asked = body(numbers(1), trigger_timestamp=desk.clock().isoformat())
    headers = {"Idempotency-Key": "once"}
    first = await desk.http.post("/batch-call", json=asked, headers=headers)
    desk.clock.forward(days=3)
    again = await desk.http.post("/batch-call", json=asked, headers=headers)
    assert (again.status_code, again.json()["replayed"]) == (200, True)
    assert again.json()["data"] == first.json()["data"]


async def test_a_filter_may_name_any_time(desk: Caller) -> None:
    assert (await desk.ask("GET", "/batch-call/list?created_after=2001-01-01T00:00:00Z"))["batch_calls"] == []


def text(*parts: str) -> bytes:
    tasks = [json.dumps({"to_number": number}) for number in numbers(1200)]
    for part in parts:
        row, _, task = part.partition(" ")
        tasks[int(row)] = task
    return f'{{"from_number": "{CALLER}", "tasks": [{", ".join(tasks)}]}}'.encode()


TWICE = '{"to_number": "+12132000001", "to_number": "+12132000002"}'


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (text(f"3 {TWICE}"), "tasks.3.to_number: is given twice"),
        (text(f"1100 {TWICE}"), "tasks.1100.to_number: is given twice"),
        (
            text('0 {"to_number": "+12132000001", "dynamic_variables": {"name": "Ann", "age": 1, "name": "Bo"}}'),
            "tasks.0.dynamic_variables.name: is given twice",
        ),
        (
            text('0 {"to_number": "+12132000001", "dynamic_variables": {"who": [{}, {"a": 1, "\\u0061": 2}]}}'),
            "tasks.0.dynamic_variables.who.a: is given twice",
        ),
        (b'{"window": {"start": "09:00", "start": "10:00", "end": "17:00"}}', "window.start: is given twice"),
        (b'{"retry_rules": [{"enabled": true, "enabled": false}]}', "retry_rules.enabled: is given twice"),
    ],
)
@on_sqlite("desk")
async def test_a_key_that_is_given_twice_is_refused_with_its_row(desk: Caller, content: bytes, problem: str) -> None:
    """One parser takes the first value, another one the last: whoever checked the request may have seen the other."""
    answer = await desk.http.post("/batch-call", content=content)
    assert answer.status_code == 422
    assert answer.json()["error"] == f"The request is not valid. Nothing was changed.\n- {problem}"


@on_sqlite("desk")
async def test_equal_keys_of_different_objects_are_fine(desk: Caller) -> None:
    variables = {"name": "Ann", "more": {"name": "Bo", "list": [{"name": 1}, {"name": 2}]}}
    asked = body(numbers(2), name="Visits")
    for task in asked["tasks"]:
        task |= {"name": "Ann", "dynamic_variables": variables}
    await desk.ask("POST", "/batch-call", asked)


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("/batch-call/{id}/retry", b'{"task_status": ["failed"], "task_status": ["busy"]}', "task_status"),
        ("/batch-call/list", b'{"pagination": {"limit": 1, "limit": 2}}', "pagination.limit"),
        ("/webhooks", b'{"url": "https://a.example", "url": "https://b.example"}', "url"),
    ],
)
@on_sqlite("desk")
async def test_a_key_that_is_given_twice_is_refused_in_small_bodies_too(
    desk: Caller, path: str, content: bytes, problem: str
) -> None:
    answer = await desk.http.post(path.format(id=await desk.create(numbers(1))), content=content)
    assert answer.status_code == 422
    assert answer.json()["error"].endswith(f"- {problem}: is given twice")


@pytest.mark.parametrize("path", ["/batch-call", "/webhooks", "/batch-call/{id}/pause"])
@on_sqlite("desk")
async def test_two_idempotency_keys_are_refused(desk: Caller, path: str) -> None:
    """Equal ones too: which of two a proxy has looked at is not known."""
    draft = await desk.create(numbers(1))
    for keys in (("one", "two"), ("one", "one")):
        headers = [("Idempotency-Key", key) for key in keys]
        answer = await desk.http.post(path.format(id=draft), json=body(numbers(1)), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert answer.json()["error"] == "Idempotency-Key: is given twice. Nothing was changed; send one."
    assert len((await desk.ask("GET", "/batch-call/list"))["batch_calls"]) == 1


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[EmbeddedDialer, int]]:
    """A dialer behind the server that `batchcall-mcp dialer` runs, on a socket."""
    dialer = EmbeddedDialer(tmp_path)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(_config(dialer.app))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield dialer, listening.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def exchange(port: int, sent: bytes) -> bytes:
    """All that the server says before it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def request_of(dialer: EmbeddedDialer, *headers: str, method: str = "POST", path: str = "/batch-call") -> bytes:
    key, secret = dialer.credentials
    lines = (f"{method} {path} HTTP/1.1", "Host: dialer", f"X-API-KEY: {key}", f"X-API-SECRET: {secret}", *headers)
    return "\r\n".join([*lines, "", ""]).encode()


BOTH = ("Content-Length: 4", "Transfer-Encoding: chunked")


@pytest.mark.parametrize("headers", [BOTH, BOTH[::-1], ("content-length: 4", "TRANSFER-ENCODING: Chunked")])
def test_a_length_given_in_two_ways_is_refused_and_the_connection_closed(
    served: tuple[EmbeddedDialer, int], headers: tuple[str, str]
) -> None:
    """A proxy that goes by the other one would see a second request where this one has a body."""
    dialer, port = served
    asked = json.dumps(body(numbers(1))).encode()
    chunked = f"{len(asked):x}\r\n".encode() + asked + b"\r\n0\r\n\r\n"
    smuggled = request_of(dialer, "Content-Length: 0", method="GET", path="/batch-call/list")
    received = exchange(port, request_of(dialer, *headers) + chunked + smuggled)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1") == 1, "what follows is not a request"
    told: dict[str, Any] = json.loads(received.partition(b"\r\n\r\n")[2])
    assert (told["status"], told["code"]) == ("error", "bad_request")
    assert "Nothing was changed" in told["error"]
    store = dialer.store()
    with store.reading() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(batch_calls)) == 0


def test_either_of_them_alone_is_taken(served: tuple[EmbeddedDialer, int]) -> None:
    dialer, port = served
    asked = json.dumps(body(numbers(1))).encode()
    chunked = f"{len(asked):x}\r\n".encode() + asked + b"\r\n0\r\n\r\n"
    for headers, sent in ((BOTH[1:], chunked), ((f"Content-Length: {len(asked)}",), asked)):
        received = exchange(port, request_of(dialer, *headers, "Connection: close") + sent)
        assert received.startswith(b"HTTP/1.1 200 "), received
