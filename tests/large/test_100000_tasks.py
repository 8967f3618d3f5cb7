"""A list of 100,000 people is checked, made, read, exported and launched in memory that does not follow its size.

The server is a process of its own over stdio, as a client starts it, and its peak memory is the kernel's (VmHWM). How
fast it is, is for `benchmarks/large.py`: how busy the machine is decides no test.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client

from tests.server.transports import FROM_NOTHING, spawned

ROWS = 100_000
BAD_EVERY = 1000
CALLABLE = ROWS - ROWS // BAD_EVERY
FROM = "+14155550199"
PAGE = 200
LONGEST_S = 120
CHECK_MIB = 200
PEAK_MIB = 450
"""The list as tasks, as the request's JSON and as the dialer's rows, once each: 360 MiB where it was measured."""
EMBEDDED = {
    "BATCHCALL_CALLING_HOURS": "00:00-24:00",
    "BATCHCALL_CONFIRM": "code",
    "BATCHCALL_SIMULATED_SPEED": "1000",
    "BATCHCALL_REQUEST_TIMEOUT_S": str(LONGEST_S),
}

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc"),
]


@dataclass(frozen=True)
class Server:
    """A spawned server on the embedded dialer, and a client of it."""

    portal: BlockingPortal
    client: Client
    pid: int
    files: Path

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a tool call that works."""

        async def limited() -> dict[str, Any]:
            with anyio.fail_after(LONGEST_S):
                result = await self.client.call_tool(tool, arguments)
            assert not result.is_error, result.content
            return result.structured_content or {}

        return self.portal.call(limited)

    def peak_mib(self) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def number_at(row: int) -> str:
    return f"+1212{2_000_000 + row}"


def write_list(path: Path, rows: int) -> None:
    """Distinct valid numbers, every thousandth row without one."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["to_number", "name", "city", "due"])
        writer.writerows(
            [number_at(row) if (row + 1) % BAD_EVERY else "no number", f"Person {row}", "New York", f"{row}.00"]
            for row in range(rows)
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("large")
    files = home / "files"
    files.mkdir()
    environment = EMBEDDED | {"BATCHCALL_DATA_DIR": str(home / "data"), "BATCHCALL_FILES": str(files)}
    # Measured as a user runs it: a coverage tracer in it would take memory of its own, and minutes.
    untraced = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with start_blocking_portal() as portal:
        known = children()
        with (
            mock.patch.dict(os.environ, untraced, clear=True),
            portal.wrap_async_context_manager(spawned(FROM_NOTHING, environment)) as client,
        ):
            (pid,) = children() - known
            yield Server(portal, client, pid, files)


def children() -> set[int]:
    """Process ids of this process's children, whichever thread started them."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for one in lists for pid in one.read_text(encoding="ascii").split()}


@pytest.fixture(scope="module")
def checked(server: Server) -> tuple[dict[str, Any], float]:
    """The check of the large file, and the peak until then."""
    write_list(server.files / "large.csv", ROWS)
    return server.call("check_batch_call", tasks_file="large.csv", from_number=FROM), server.peak_mib()


@pytest.fixture(scope="module")
def draft(server: Server, checked: object) -> str:
    """The large draft's id."""
    return make(server, "large.csv")


@pytest.fixture(scope="module")
def exported(server: Server, draft: str) -> Path:
    return Path(server.call("export_batch_call", batch_call_id=draft, format="csv")["file"])


def make(server: Server, file: str) -> str:
    made = server.call("create_batch_call", tasks_file=file, from_number=FROM, name="Large")
    found: str = made["batch_call"]["batch_call_id"]
    return found


def test_a_file_of_100_000_rows_is_checked_within_200_mib(checked: tuple[dict[str, Any], float]) -> None:
    check, peak_mib = checked
    assert (check["preflight"]["calls"], check["preflight"]["rows_read"]) == (CALLABLE, ROWS)
    assert check["skipped_rows_total"] == len(range(0, ROWS, BAD_EVERY))
    assert [row["line"] for row in check["skipped_rows"]] == [BAD_EVERY * many + 1 for many in range(1, 21)]
    assert peak_mib <= CHECK_MIB


def test_it_is_made_on_the_dialer_whole_and_within_bounds(server: Server, draft: str) -> None:
    counts = server.call("get_batch_call", batch_call_id=draft, limit=0)["batch_call"]["counts"]
    assert (counts["total"], counts["pending"]) == (CALLABLE, CALLABLE)
    assert server.peak_mib() <= PEAK_MIB


def test_its_answer_is_as_small_as_that_of_100_tasks(server: Server, draft: str) -> None:
    write_list(server.files / "small.csv", 100)
    small = make(server, "small.csv")
    sizes = [len(json.dumps(server.call("get_batch_call", batch_call_id=one))) for one in (small, draft)]
    assert abs(sizes[1] - sizes[0]) <= 64
    assert sizes[1] < 8_000


def test_the_export_holds_every_task_once_and_in_order(exported: Path) -> None:
    with exported.open(newline="", encoding="utf-8") as file:
        rows = [(row["to_number"], row["due"]) for row in csv.DictReader(file)]
    assert rows == [(number_at(row), f"{row}.00") for row in range(ROWS) if (row + 1) % BAD_EVERY]


def test_its_pages_go_on_where_the_last_one_ended(server: Server, draft: str) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(10):
        page = server.call("get_batch_call", batch_call_id=draft, limit=PAGE, **cursor)
        seen += [task["to_number"] for task in page["tasks"]]
        cursor = {"cursor": page["next_cursor"]}
    valid = (number_at(row) for row in range(ROWS) if (row + 1) % BAD_EVERY)
    assert seen == list(islice(valid, 10 * PAGE))


def test_it_is_filtered_by_number_and_by_status(server: Server, draft: str) -> None:
    last = number_at(ROWS - 2)
    one = server.call("get_batch_call", batch_call_id=draft, to_number=last, include_variables=True)
    assert [(task["to_number"], task["dynamic_variables"]["due"]) for task in one["tasks"]] == [
        (last, f"{ROWS - 2}.00")
    ]
    assert "next_cursor" not in one
    none = server.call("get_batch_call", batch_call_id=draft, task_status=["failed"])
    assert (none.get("tasks", []), none.get("next_cursor")) == ([], None)


def test_it_is_launched_watched_and_stopped(server: Server, draft: str, exported: Path) -> None:
    """The last one: it reads the whole list for the question, and again for the answer."""
    asked = server.call("start_batch_call", batch_call_id=draft, trigger_timestamp="now")
    assert asked["result"] == "confirmation_required"
    assert f"Call {CALLABLE:,} people" in asked["summary"]
    code = asked["confirmation_code"]
    started = server.call("start_batch_call", batch_call_id=draft, trigger_timestamp="now", confirmation_code=code)
    assert started["result"] == "started"
    watched = server.call("watch_batch_call", batch_call_id=draft, until="changed", timeout_seconds=60)
    assert watched["batch_call"]["status"] == "running"
    server.call("pause_batch_call", batch_call_id=draft)
    cancelled = server.call("cancel_batch_call", batch_call_id=draft)["batch_call"]
    assert (cancelled["status"], cancelled["counts"]["total"]) == ("cancelled", CALLABLE)
    assert cancelled["counts"]["cancelled"] > CALLABLE - 10_000
    assert server.peak_mib() <= PEAK_MIB
