"""100,000 rows from the file to the export: seconds and peak memory of each step, beside a plain loop over the file.

Run: python benchmarks/large.py [rows]. Promises: 100,000 rows are checked in 1.5 s and 190 MB, whatever their
countries; making the batch call takes 3.5 s, the export 4 s, the question and the launch 3 s each. Linux only (peak
memory is read from /proc).
"""

from __future__ import annotations

import csv
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from phonenumbers import (
    SUPPORTED_REGIONS,
    PhoneNumberFormat,
    PhoneNumberType,
    example_number_for_type,
    format_number,
)
from relay import status

from batchcall_mcp import number_plans

ROWS = 100_000
FROM = "+14155550199"
REFERENCE = """
import csv, sys, time
import phonenumbers
began = time.perf_counter()
valid = 0
with open(sys.argv[1], newline="", encoding="utf-8") as file:
    for row in csv.DictReader(file):
        try:
            valid += phonenumbers.is_valid_number(phonenumbers.parse(row["to_number"], None))
        except phonenumbers.NumberParseException:
            pass
took = time.perf_counter() - began
status = open("/proc/self/status", encoding="ascii").read()
print(valid, took, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def main() -> None:
    """Measure and print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "large.csv")
        write_list(file, (f"+1212{2_000_000 + row}" for row in range(rows)))
        write_list(Path(folder, "everywhere.csv"), numbers_of_all_countries(rows))
        reference(file)
        reference(Path(folder, "everywhere.csv"))
        anyio.run(_measure, Path(folder), rows)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {rows:,} rows")


def write_list(path: Path, numbers: Iterable[str]) -> None:
    """Distinct numbers with three variables; every thousandth row has none."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["to_number", "name", "city", "due"])
        for row, number in enumerate(numbers):
            written = number if (row + 1) % 1000 else "no number"
            writer.writerow([written, f"Person {row}", "New York", f"{row}.00"])


def numbers_of_all_countries(count: int) -> Iterator[str]:
    """Distinct valid ones in no order: mobiles and fixed lines of every country, the same in each run."""
    chance = random.Random(7)
    kinds = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE)
    examples = [
        format_number(number, PhoneNumberFormat.E164)
        for region in sorted(SUPPORTED_REGIONS)
        for kind in kinds
        if (number := example_number_for_type(region, kind)) is not None
    ]
    seen: set[str] = set()
    while len(seen) < count:
        number = chance.choice(examples)[:-5] + f"{chance.randrange(100_000):05}"
        if number not in seen and number_plans.is_valid(number):
            seen.add(number)
            yield number


def reference(file: Path) -> None:
    """What reading and parsing alone takes, in a process of its own."""
    said = subprocess.run([sys.executable, "-c", REFERENCE, str(file)], capture_output=True, text=True, check=True)
    valid, took, peak = said.stdout.split()
    told = f"{int(valid):,} valid numbers"
    print(f"{'reference: DictReader and parse':34}{float(took):7.2f} s   peak {float(peak):4.0f} MiB   {told}")


async def _measure(folder: Path, rows: int) -> None:
    environment = {
        **os.environ,
        "BATCHCALL_FILES": str(folder),
        "BATCHCALL_DATA_DIR": str(folder / "data"),
        "BATCHCALL_CONFIRM": "code",
        "BATCHCALL_CALLING_HOURS": "00:00-24:00",
        "BATCHCALL_LOG_LEVEL": "WARNING",
        "BATCHCALL_REQUEST_TIMEOUT_S": "300",
    }
    known = children()
    server = StdioServerParameters(command=sys.executable, args=["-m", "batchcall_mcp"], env=environment)
    with Path(os.devnull).open("w") as silence:
        async with Client(stdio_client(server, errlog=silence)) as client:
            await _steps(Steps(client, (children() - known).pop()), rows)


def children() -> set[int]:
    """Process ids of our direct children."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return {int(pid) for pid in text.split()}


class Steps:
    """Tool calls, each printed with its time and the server's peak so far."""

    def __init__(self, client: Client, pid: int) -> None:
        self.client = client
        self.pid = pid

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer."""
        result = await self.client.call_tool(tool, arguments)
        if result.is_error:
            raise RuntimeError(str(result.content))
        return result.structured_content or {}

    async def step(self, what: str, tool: str, **arguments: Any) -> dict[str, Any]:
        """The same, measured."""
        began = time.perf_counter()
        answer = await self.call(tool, **arguments)
        self.told(what, began, str(answer["summary"])[:70])
        return answer

    def told(self, what: str, began: float, summary: str) -> None:
        """Print one step."""
        print(f"{what:34}{time.perf_counter() - began:7.2f} s   peak {status(self.pid, 'VmHWM'):4.0f} MiB   {summary}")


async def _steps(steps: Steps, rows: int) -> None:
    listed = {"tasks_file": "large.csv", "from_number": FROM}
    await steps.step("check (promise 1.5 s, 190 MB)", "check_batch_call", **listed)
    everywhere = {"tasks_file": "everywhere.csv", "from_number": FROM}
    await steps.step("check, all countries (the same)", "check_batch_call", **everywhere)
    made = await steps.step("create (promise 3.5 s)", "create_batch_call", **listed)
    one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
    await steps.step("read", "get_batch_call", **one)
    await steps.step("filter by number", "get_batch_call", **one, to_number=f"+1212{2_000_000 + rows - 2}")
    began = time.perf_counter()
    seen: set[str] = set()
    pages = 0
    cursor: dict[str, str] = {}
    while pages == 0 or cursor:
        page = await steps.call("get_batch_call", **one, limit=200, **cursor)
        seen.update(task["task_id"] for task in page["tasks"])
        pages += 1
        cursor = {"cursor": page["next_cursor"]} if "next_cursor" in page else {}
    steps.told("page to the end, 200 at a time", began, f"{pages} pages, {len(seen):,} different tasks")
    await steps.step("export (promise 4 s)", "export_batch_call", **one)
    asked = await steps.step("start: the question (promise 3 s)", "start_batch_call", **one, trigger_timestamp="now")
    code = asked["confirmation_code"]
    await steps.step(
        "start: the launch (promise 3 s)", "start_batch_call", **one, trigger_timestamp="now", confirmation_code=code
    )
    await steps.step("watch until something changes", "watch_batch_call", **one, until="changed")
    await steps.step("cancel", "cancel_batch_call", **one)


if __name__ == "__main__":
    main()
