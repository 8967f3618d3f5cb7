"""The shapes of bodies are built when a body comes, and bodies come in several threads at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

from batchcall_mcp.dialer.rest.messages import mapping, request_models

FIRST_BODIES = """
import threading
from concurrent.futures import ThreadPoolExecutor
from batchcall_mcp.dialer.rest.messages import mapping
from batchcall_mcp.dialer.rest.messages.request_models import ExecuteBody, ListBody, RetryBody

ready = threading.Barrier(12)

def read(shape, body):
    ready.wait()
    return mapping.parse(shape, body).model_dump_json(exclude_unset=True)

bodies = {ListBody: b'{}', RetryBody: b'{"task_ids":["a"]}', ExecuteBody: b'{"first":2}'}
assert not any(shape.__pydantic_complete__ for shape in bodies)
with ThreadPoolExecutor(12) as pool:
    asked = [pool.submit(read, shape, body) for shape, body in bodies.items() for _ in range(4)]
    print(*(one.result() for one in asked), sep="\\n")
assert all(shape.__pydantic_complete__ for shape in bodies)
"""


def test_first_bodies_that_come_at_once_are_all_read() -> None:
    run = subprocess.run([sys.executable, "-c", FIRST_BODIES], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["{}"] * 4 + ['{"task_ids":["a"]}'] * 4 + ['{"first":2}'] * 4


class Part(request_models.QuietHoursIn):
    """Of a body: nothing has built it."""


class Whole(request_models.RetryConfigIn):
    """A body with a part that is written out later, as rules of redials and filters are."""

    part: Part


def _is_being_built() -> bool:
    free = request_models._BUILDING.acquire(blocking=False)
    if free:
        request_models._BUILDING.release()
    return not free


def test_a_part_of_a_body_is_built_by_one_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A create whose rules of redials two threads built at once, on pydantic 2.13, failed with an AttributeError."""
    build, found = BaseModel.model_rebuild.__func__, []  # type: ignore[attr-defined]

    def building(shape: type[BaseModel], /, **how: Any) -> bool | None:
        with ThreadPoolExecutor(1) as another:
            found.append((shape, another.submit(_is_being_built).result()))
        result: bool | None = build(shape, **how)
        return result

    monkeypatch.setattr(BaseModel, "model_rebuild", classmethod(building))
    body = b'{"max_attempts": 1, "part": {"start_time": "22:00", "end_time": "07:00"}}'
    part = mapping.parse(Whole, body).part
    assert part.model_dump(exclude_unset=True) == {"start_time": "22:00", "end_time": "07:00"}
    assert found == [(Whole, True), (Part, True)]
