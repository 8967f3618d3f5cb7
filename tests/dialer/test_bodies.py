"""Bodies with task lists of any length: what is taken, what is refused, and how much is held at once."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from batchcall_mcp.dialer.rest.messages import streaming_json
from batchcall_mcp.dialer.rest.messages.request_models import BatchCallPatch
from batchcall_mcp.dialer.rest.messages.streaming_json import BodyReader
from batchcall_mcp.errors import InvalidInput
from tests.dialer.conftest import CALLER, Caller, body, numbers, on_sqlite

LONG = streaming_json.CHUNK * 2 + 3


def many(count: int, **changes: dict[str, Any]) -> dict[str, Any]:
    """A batch call of so many; `row_7={...}` changes row 7."""
    asked = body(numbers(count))
    for row, change in changes.items():
        asked["tasks"][int(row.removeprefix("row_"))] |= change
    return asked


def read(content: bytes) -> list[str]:
    """The numbers of the tasks of a body."""
    with BodyReader() as reader:
        found = reader.read(BatchCallPatch, io.BytesIO(content))
        return [task.to_number for task in found.tasks("+10000000")]


@pytest.mark.parametrize("count", [1, streaming_json.CHUNK - 1, streaming_json.CHUNK, streaming_json.CHUNK + 1, LONG])
async def test_every_task_is_kept_whole_and_in_order(desk: Caller, count: int) -> None:
    """Wherever the chunks end, and whatever is in a task."""
    last = {
        "name": "Zoë 😀",
        "dynamic_variables": {"a": [1, 2.5, None, {"b": True}], "ü": 2**62},
        "max_retries": 2,
        "timezone": "UTC",
    }
    asked = many(count, **{f"row_{count - 1}": last})
    # The list first, and what it is checked against after it.
    data = await desk.ask("POST", "/batch-call", {"tasks": asked.pop("tasks"), **asked})
    assert data["counts"]["pending"] == data["total"] == count
    page = await desk.ask("GET", f"/batch-call/{data['batch_call_id']}/tasks?limit=1&page={count - 1}")
    [task] = page["tasks"]
    assert {name: task[name] for name in last} == last
    assert task["to_number"] == numbers(count)[-1]


@on_sqlite("desk")
async def test_what_is_wrong_is_named_by_its_row_in_any_chunk(desk: Caller) -> None:
    """And nothing is stored."""
    asked = many(
        LONG,
        row_1={"nam": "x"},
        row_1500={"to_number": "1"},
        row_2001={"timezone": "PST"},
        row_2002={"max_retries": 11},
    )
    refused = await desk.ask("POST", "/batch-call", {**asked, "bogus": 1}, status=422)
    assert refused["error"].splitlines() == [
        "The request is not valid. Nothing was changed.",
        "- tasks.1.nam: this field is not known",
        "- bogus: this field is not known",
        "- tasks.1500.to_number: is not a number in E.164, like +14155550123",
        "- tasks.2002.max_retries: Input should be less than or equal to 10",
    ]
    assert (await desk.ask("GET", "/batch-call/list"))["batch_calls"] == []


@on_sqlite("desk")
async def test_a_long_list_of_problems_is_counted(desk: Caller) -> None:
    """Twenty in words, the rest as a number."""
    asked = body(["1"] * LONG)
    refused = await desk.ask("POST", "/batch-call", asked, status=422)
    lines = refused["error"].splitlines()
    assert lines[1].startswith("- tasks.0.to_number: ")
    assert lines[-1] == f"- … and {LONG - 20} more"
    assert len(lines) == 22


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "append"])
@on_sqlite("desk")
async def test_nobody_calls_the_caller_and_then_nothing_is_changed(desk: Caller, method: str) -> None:
    """Found in the last row of a long list, after the others were inserted."""
    batch_call_id = await desk.create(numbers(2))
    before = await desk.get(batch_call_id), await desk.tasks(batch_call_id)
    asked = many(LONG, **{f"row_{LONG - 1}": {"to_number": CALLER}})
    if method in {"PATCH", "append"}:
        asked = {"tasks": asked["tasks"]}
    path = {"POST": "", "append": f"/{batch_call_id}/tasks"}.get(method, f"/{batch_call_id}")
    refused = await desk.ask(method.replace("append", "POST"), f"/batch-call{path}", asked, status=422)
    assert refused["error"].endswith(f"- tasks.{LONG - 1}.to_number: is the from_number")
    assert (await desk.get(batch_call_id), await desk.tasks(batch_call_id)) == before
    assert (await desk.ask("GET", "/batch-call/list"))["pagination"]["total_count"] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON: parse error: premature EOF"),
        (b"{", "is not JSON: parse error: premature EOF"),
        (b"[]", "body: is not a JSON object"),
        (b"null", "body: is not a JSON object"),
        (b'{"name": "a"} x', "is not JSON: parse error: trailing garbage"),
        (b'{"name": NaN}', "is not JSON: lexical error"),
        (b'{"name": 1e999}', "a number that does not fit in 64 bits"),
        (b'{"name": 123456789012345678901234567890}', "a number that does not fit in 64 bits"),
        (b'{"name": "\xff"}', "is not JSON: lexical error: invalid bytes in UTF8 string"),
        (b'{"name": "\xed\xa0\x80"}', "is not JSON: it is not UTF-8"),
        (b'{"name": "\\u0000"}', "name: holds a NUL character"),
        (b'{"name": "a", "name": "b"}', "name: is given twice"),
        (b'{"tasks": [], "tasks": []}', "tasks: is given twice"),
        (b'{"tasks": []}', "tasks: "),
        (b'{"tasks": {}}', "tasks: "),
        (b'{"tasks": [1]}', "tasks.0: "),
        (b'{"name": ' + b"[" * 100_000, "name: is nested more than 100 deep"),
        (b'{"tasks": [{"dynamic_variables": ' + b'{"a":' * 101 + b"1" + b"}" * 103, "tasks.0: is nested more than"),
        (b'{"name": [' + b"1," * 20_000 + b"1]}", "name: is more than 10000 values"),
        (json.dumps(dict.fromkeys(map(str, range(101)))).encode(), "100: more than 100 fields are given"),
    ],
)
@on_sqlite("desk")
async def test_what_cannot_be_read_is_refused(desk: Caller, content: bytes, reason: str) -> None:
    """With words that say what, and never the body's own."""
    batch_call_id = await desk.create(numbers(1))
    answer = await desk.http.patch(f"/batch-call/{batch_call_id}", content=content)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert reason in answer.json()["error"]
    assert "Nothing was changed." in answer.json()["error"]


@on_sqlite("desk")
async def test_the_same_long_upload_in_other_pieces_is_the_same_request(desk: Caller) -> None:
    """Its key gives the first answer, however the network cut it."""
    content = json.dumps(many(LONG)).encode()

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    headers = {"Idempotency-Key": "one"}
    first, again = [
        (await desk.http.post("/batch-call", content=pieces(size), headers=headers)).json() for size in (999, 70_001)
    ]
    assert again == first | {"replayed": True}
    assert first["data"]["total"] == LONG


def test_memory_does_not_grow_with_the_list() -> None:
    """Twice as many tasks, the same peak; the body itself is on disk."""

    def peak(count: int) -> int:
        content = b",".join(b'{"to_number": "+1213200%04d", "name": "Person"}' % (row % 10_000) for row in range(count))
        file = io.BytesIO(b'{"tasks": [' + content + b"]}")
        tracemalloc.start()
        with BodyReader() as reader:
            found = reader.read(BatchCallPatch, file)
            assert sum(1 for _ in found.tasks(CALLER)) == len(found.tasks(CALLER)) == count
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(3000)  # what is made once
    assert peak(50_000) < 1.3 * peak(25_000)


def test_few_tasks_with_much_in_them_are_not_held_together() -> None:
    """A chunk is bounded by what is in it too."""
    task = {"to_number": "+12132000000", "dynamic_variables": {str(n): n for n in range(300)}}
    content = json.dumps({"tasks": [task] * 900}).encode()
    sizes = [size for _, _, size in streaming_json._pieces(io.BytesIO(content))]
    assert sum(sizes) == 900
    assert len(sizes) > 4


def test_a_reader_that_is_closed_keeps_nothing() -> None:
    """Not even its file."""
    with BodyReader() as reader:
        found = reader.read(
            BatchCallPatch, io.BytesIO(json.dumps({"tasks": [{"to_number": n} for n in numbers(LONG)]}).encode())
        )
    with pytest.raises(ValueError, match="closed"):
        list(found.tasks(CALLER))


def test_a_refusal_does_not_quote_the_body() -> None:
    """Names and numbers stay out of logs."""
    with pytest.raises(InvalidInput) as refused:
        read(b'{"name": "Jane Doe" +14155550123}')
    assert "Jane" not in refused.value.message
    assert "+1415" not in refused.value.message
