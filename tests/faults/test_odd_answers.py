"""Answers that are large or odd: bounded memory, the right error or the right result, never a defect."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults import server
from tests.faults.matrix import ANSWER, FOUND, LOST, MIB, ODD, READS, UNREADABLE, Expected, Fault, bomb, words
from tests.faults.observing import LARGEST_ANSWER, impatient, observe, staged
from tests.faults.server import Answerer, Good, answer

DEPTHS = (100, 500, 800, 900, 1_000, 10_000)
ONE_OF_EACH = ("get_batch_call", "create_batch_call")
ODD_VALUES: tuple[Any, ...] = ([], {}, -1, 1e308, True, None, float("nan"), 10**400, "", "\ud800\x00\u202e", "x" * MIB)


@pytest.mark.sweep
@pytest.mark.parametrize("depth", DEPTHS)
async def test_an_error_however_deep_in_a_body_is_told_or_left_out_and_is_no_defect(depth: int) -> None:
    body = '{"detail": ' + "[" * depth + '"x"' + "]" * depth + "}"
    cells = await observe(Fault("deep", lambda _good: answer(500, body), *LOST, done=False), ONE_OF_EACH)
    assert {cell.expected for cell in cells if cell.tool in READS} == {LOST[0]}
    assert {cell.expected for cell in cells if cell.tool not in READS} == {LOST[1]}


@pytest.mark.sweep
@pytest.mark.parametrize("depth", DEPTHS)
async def test_a_value_however_deep_is_left_out_or_the_answer_unreadable(depth: int) -> None:
    def make(good: Good) -> Answerer:
        deep = ("[" * depth + "]" * depth).encode()
        return answer(200, b'{"deep": ' + deep + b", " + good.body.lstrip()[1:])

    cells = await observe(Fault("deep", make, *UNREADABLE), ONE_OF_EACH)
    readable = {Expected(ANSWER, 1), UNREADABLE[0]}
    assert {cell.expected for cell in cells if cell.tool in READS} <= readable
    assert {cell.expected for cell in cells if cell.tool not in READS} <= {Expected(ANSWER, 1), Expected(FOUND, 1)}


@pytest.mark.sweep
@pytest.mark.parametrize("depth", DEPTHS)
async def test_a_variable_however_deep_is_shown_or_the_answer_unreadable(depth: int) -> None:
    """The one place where a backend's JSON is written out again."""
    deep = "[" * depth + '"x"' + "]" * depth
    tasks = f'{{"data": {{"tasks": [{{"task_id": "t1", "dynamic_variables": {{"a": {deep}}}}}]}}}}'
    with impatient():
        async with staged("batchcall") as stage:
            stage.front.aim = lambda asked: asked.path.endswith("/tasks")
            stage.front.fault = lambda _good: answer(200, tasks)
            arguments = {"batch_call_id": stage.vendor.ids["get_batch_call"], "include_variables": True}
            result = await stage.model.client.call_tool("get_batch_call", arguments)
    assert not result.is_error, result.content
    told: dict[str, Any] = result.structured_content or {}
    assert "tasks" in told or "could not be read" in str(told["batch_call"]["notes"])


@pytest.mark.sweep
@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:12])
async def test_a_value_of_another_type_in_every_place_is_never_a_defect(value: Any) -> None:
    """The id alone stays, so that the answer is about the batch call that was asked for."""

    def odd(said: Any, name: str = "") -> Any:
        if isinstance(said, dict):
            return {name: odd(inner, name) for name, inner in said.items()}
        if isinstance(said, list) and said and isinstance(said[0], dict):
            return [odd(inner) for inner in said]
        return said if name in {"id", "batch_call_id"} else value

    def make(good: Good) -> Answerer:
        said = json.loads(good.body)
        wrong = {name: odd(inner) if isinstance(inner, dict | list) else inner for name, inner in said.items()}
        return answer(200, json.dumps(wrong))

    cells = await observe(Fault("odd", make, *UNREADABLE))
    assert {cell.expected.requests for cell in cells} == {1}
    assert {cell.expected.code for cell in cells if cell.tool in READS} <= {ANSWER, ODD}
    assert {cell.expected.code for cell in cells if cell.tool not in READS} <= {ANSWER, FOUND}
    assert all(len(cell.text.encode()) < LARGEST_ANSWER for cell in cells)


async def test_what_a_backend_says_is_told_without_secrets_tags_and_stack_traces() -> None:
    fault = Fault("words", lambda good: answer(500, words(good)), *LOST, done=False)
    told = [cell.text for cell in await observe(fault)]
    assert all('The backend said: "no' in text for text in told)
    assert all("[redacted]" in text for text in told)
    assert not [text for text in told if "ValueError" in text]


LARGE: dict[str, Callable[[Good], Answerer]] = {
    "endless": lambda _good: server.endless,
    "bomb": lambda _good: answer(200, bomb(1), content_encoding="gzip"),
    "bomb in a bomb": lambda _good: answer(200, bomb(2), content_encoding="gzip, gzip"),
}


@pytest.mark.parametrize("name", LARGE)
async def test_an_answer_without_an_end_fills_no_memory(name: str) -> None:
    bomb(1)
    bomb(2)
    fault = Fault(name, LARGE[name], *UNREADABLE)
    with impatient():
        async with staged("zudu") as stage:
            tracemalloc.start()
            try:
                await stage.observe(fault, "get_batch_call")
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert 32 * MIB <= peak < 100 * MIB
