"""The shapes of bodies are built when a body comes, and bodies come in several threads at once."""

from __future__ import annotations

import subprocess
import sys

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


FIRST_WRITTEN_OUT = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from batchcall_mcp.dialer.rest.messages import mapping, request_models

sys.setswitchinterval(1e-6)
ready = threading.Barrier(8)

def written(body):
    ready.wait()
    return body.part.model_dump()

for _ in range(20):
    class Part(request_models.RetryConfigIn):
        pass
    class Whole(request_models.RetryConfigIn):
        part: Part
    whole = mapping.parse(Whole, b'{"max_attempts":1,"part":{"max_attempts":3}}')
    assert Whole.__pydantic_complete__ and not Part.__pydantic_complete__
    with ThreadPoolExecutor(8) as pool:
        for one in pool.map(written, [whole] * 8):
            assert one == {"enabled": True, "max_attempts": 3}, one
"""


def test_a_part_of_a_body_that_threads_write_out_at_once_is_written_by_each() -> None:
    """Rules of redials and filters: on pydantic 2.13, which this package took, one in a hundred failed."""
    subprocess.run([sys.executable, "-c", FIRST_WRITTEN_OUT], timeout=60, check=True)
