"""100,000 rows from the file to the export: seconds and peak memory of each step, beside a plain loop over the file.

Run: python benchmarks/large.py [--rows N] [--runs N] [--before SRC]. It prints a table for docs/benchmarks.md. With
SRC, the `src` folder of another commit, each run measures that one too, alternately, and the last column compares.
CPU is that of the server's process (user and system), which a busy machine falsifies less than seconds.

Promises: 100,000 rows are checked in 1.5 s and 190 MB, whatever their countries; making the batch call takes 3.5 s, the
export 4 s, the question and the launch 3 s each. Linux only (peak memory is read from /proc).
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import programs
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from phonenumbers import (
    SUPPORTED_REGIONS,
    PhoneNumberFormat,
    PhoneNumberType,
    example_number_for_type,
    format_number,
)
from tree import cpu, status

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


class Took(NamedTuple):
    """One step: seconds, CPU seconds of the server, and its peak memory so far in MiB."""

    seconds: float
    cpu: float
    peak: float


def main() -> None:
    """Measure and print."""
    wanted = argparse.ArgumentParser()
    wanted.add_argument("--rows", type=int, default=ROWS)
    wanted.add_argument("--runs", type=int, default=3)
    wanted.add_argument("--before", type=Path)
    given = wanted.parse_args()
    now: list[dict[str, Took]] = []
    before: list[dict[str, Took]] = []
    with tempfile.TemporaryDirectory() as folder:
        lists = Path(folder, "lists")
        lists.mkdir()
        write_list(lists / "large.csv", (f"+1212{2_000_000 + row}" for row in range(given.rows)))
        write_list(lists / "everywhere.csv", numbers_of_all_countries(given.rows))
        reference(lists / "large.csv")
        reference(lists / "everywhere.csv")
        for _ in range(given.runs):
            if given.before:
                before.append(measured(lists, given.rows, given.before))
            now.append(measured(lists, given.rows, Path(__file__).parents[1] / "src"))
    print_table(now, before)
    load = f"load {os.getloadavg()[0]:.1f}, {given.rows:,} rows, median of {given.runs}"
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {load}")


def measured(lists: Path, rows: int, source: Path) -> dict[str, Took]:
    """Each step of one run of the server in `source`, by its name."""
    with tempfile.TemporaryDirectory() as data:
        return anyio.run(_measure, lists, Path(data), rows, source)


def print_table(now: list[dict[str, Took]], before: list[dict[str, Took]]) -> None:
    """Medians, as a table of Markdown."""

    def median(runs: list[dict[str, Took]], step: str) -> Took:
        return Took(*(statistics.median(values) for values in zip(*(run[step] for run in runs), strict=True)))

    print("| step | seconds | CPU | peak memory so far | CPU compared with before |\n|---|---|---|---|---|")
    for step in now[0]:
        took = median(now, step)
        than = f"{took.cpu / median(before, step).cpu:.2f} times" if before else "not measured"
        print(f"| {step} | {took.seconds:.2f} | {took.cpu:.2f} | {took.peak:.0f} MiB | {than} |")


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


async def _measure(lists: Path, data: Path, rows: int, source: Path) -> dict[str, Took]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(source),
        "BATCHCALL_FILES": str(lists),
        "BATCHCALL_DATA_DIR": str(data),
        "BATCHCALL_CONFIRM": "code",
        "BATCHCALL_CALLING_HOURS": "00:00-24:00",
        "BATCHCALL_LOG_LEVEL": "WARNING",
        "BATCHCALL_REQUEST_TIMEOUT_S": "300",
    }
    known, command = children(), programs.ours()
    server = StdioServerParameters(command=command[0], args=command[1:], env=environment)
    with Path(os.devnull).open("w") as silence:
        async with Client(stdio_client(server, errlog=silence)) as client:
            steps = Steps(client, (children() - known).pop())
            await _steps(steps, rows)
            return steps.took


def children() -> set[int]:
    """Process ids of our direct children."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    return {int(pid) for pid in text.split()}


class Steps:
    """Tool calls, each with what it took."""

    def __init__(self, client: Client, pid: int) -> None:
        self.client = client
        self.pid = pid
        self.took: dict[str, Took] = {}

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer."""
        result = await self.client.call_tool(tool, arguments)
        if result.is_error:
            raise RuntimeError(str(result.content))
        return result.structured_content or {}

    async def step(self, what: str, tool: str, **arguments: Any) -> dict[str, Any]:
        """The same, measured."""
        began, cpu = time.perf_counter(), self.cpu()
        answer = await self.call(tool, **arguments)
        self.note(what, began, cpu)
        return answer

    def note(self, what: str, began: float, cpu: float) -> None:
        """Keep what one step took."""
        took = Took(time.perf_counter() - began, self.cpu() - cpu, status(self.pid, "VmHWM"))
        self.took[what] = took
        print(f"{what:48}{took.seconds:7.2f} s   CPU {took.cpu:5.2f} s   peak {took.peak:4.0f} MiB", flush=True)

    def cpu(self) -> float:
        """Seconds that the server's process has computed."""
        return cpu(self.pid)


async def _steps(steps: Steps, rows: int) -> None:
    listed = {"tasks_file": "large.csv", "from_number": FROM}
    everywhere = {"tasks_file": "everywhere.csv", "from_number": FROM}
    await steps.step("check, one country (1.5 s, 190 MiB)", "check_batch_call", **listed)
    await steps.step("check, all countries (1.5 s, 190 MiB)", "check_batch_call", **everywhere)
    made = await steps.step("create (3.5 s)", "create_batch_call", **listed)
    one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
    await steps.step("read", "get_batch_call", **one)
    await steps.step("filter by number", "get_batch_call", **one, to_number=f"+1212{2_000_000 + rows - 2}")
    began, cpu = time.perf_counter(), steps.cpu()
    pages = 0
    cursor: dict[str, str] = {}
    while pages == 0 or cursor:
        page = await steps.call("get_batch_call", **one, limit=200, **cursor)
        pages += 1
        cursor = {"cursor": page["next_cursor"]} if "next_cursor" in page else {}
    steps.note("page to the end, 200 at a time", began, cpu)
    await steps.step("export (4 s)", "export_batch_call", **one)
    asked = await steps.step("start: the question (3 s)", "start_batch_call", **one, trigger_timestamp="now")
    code = asked["confirmation_code"]
    await steps.step(
        "start: the launch (3 s)", "start_batch_call", **one, trigger_timestamp="now", confirmation_code=code
    )
    await steps.step("watch until something changes", "watch_batch_call", **one, until="changed")
    await steps.step("cancel", "cancel_batch_call", **one)


if __name__ == "__main__":
    main()
