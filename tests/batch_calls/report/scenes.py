"""Batch calls as they end, for the report: one that everything is known of, one of which little is, a hostile one.

`python -m tests.batch_calls.report.scenes` renews the pictures in docs/images, in Chromium.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

import anyio

from batchcall_mcp.batch_calls.report.page import report_page
from batchcall_mcp.batch_calls.report.tally import Tally
from batchcall_mcp.batch_calls.report.words import About
from batchcall_mcp.model import BatchCall, BatchStatus, CallTask, TaskStatus
from batchcall_mcp.money import Money
from tests.browser import browsing
from tests.server.transports import ROOT
from tests.walks.stage import number, numbers

IMAGES: Final = ROOT / "docs" / "images"
BEGAN: Final = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
EVERY_STATE: Final = frozenset(TaskStatus) - {TaskStatus.UNKNOWN}
_NAMES = (
    "Ada Moreno",
    "Ben Okafor",
    "Chiara Rossi",
    "Dan Whitfield",
    "Emeka Nwosu",
    "Fatima Haddad",
    "Grace Lindqvist",
)
_CYCLE = (
    *(TaskStatus.COMPLETED,) * 7,
    TaskStatus.NO_ANSWER,
    TaskStatus.COMPLETED,
    TaskStatus.VOICEMAIL,
    *(TaskStatus.COMPLETED,) * 5,
    TaskStatus.BUSY,
    TaskStatus.COMPLETED,
    TaskStatus.COMPLETED,
    TaskStatus.NO_ANSWER,
)
_CHOICES = ("1: confirmed", "1: confirmed", "2: another day", "1: confirmed", "3: call me back")
HOSTILE: Final = (
    '</title></style></script><script>document.title="owned"</script>',
    '"><img src=x onerror=\'document.title="owned"\'>',
    "<svg onload=alert(1)>",
    "javascript:alert(1)",
    "&lt;b&gt; &amp;#60;script&#62;",
    "\u202egnp.exe \x00\x07\x1b[31m\u2028next line",
    "]]><!--",
    "{{constructor.constructor('alert(1)')()}}",
    "a" * 5000,
    "\ud800 half a character",
)
"""What a caller may say or a vendor may send, in the hope that somebody's browser runs it."""


def finished(**changes: object) -> BatchCall:
    """A batch call that ended, as a backend reports it."""
    facts: dict[str, object] = {
        "batch_call_id": "batch_call_7c1f0a",
        "status": BatchStatus.COMPLETED,
        "name": "Appointment reminders, week 48",
        "from_number": "+14155550100",
        "agent_id": "reminders",
        "timezone": "America/New_York",
        "started_at": BEGAN,
        "completed_at": BEGAN + timedelta(hours=3, minutes=4),
    }
    return BatchCall(**(facts | changes))  # type: ignore[arg-type]


def everything(people: int = 240) -> Iterator[CallTask]:
    """Tasks of which everything is known; most people are called in the second hour."""
    for at, one in enumerate(numbers(people)):
        status = _CYCLE[at % len(_CYCLE)]
        status = TaskStatus.FAILED if at % 80 == 41 else TaskStatus.CANCELLED if at >= people - 6 else status
        reached = status is TaskStatus.COMPLETED
        dialled = status is not TaskStatus.CANCELLED
        minutes = 180 * (at / people) ** 0.8 + 11 * ((at * 37) % 17) / 17
        yield CallTask(
            to_number=one,
            name=_NAMES[at % len(_NAMES)],
            task_id=f"task_{at}",
            status=status,
            attempts=(1 if reached else 2) if dialled else 0,
            error="number not in service" if status is TaskStatus.FAILED else None,
            attempted_at=BEGAN + timedelta(minutes=minutes) if dialled else None,
            duration_seconds=float(38 + (at * 53) % 170) if reached else None,
            answered_by=("machine" if status is TaskStatus.VOICEMAIL else "human" if reached else None)
            if dialled
            else None,
            choice=_CHOICES[at % len(_CHOICES)] if reached and at % 9 else None,
            cost=Money(Decimal("0.14") * (1 + at % 3 if reached else 0), "USD") if dialled else None,
        )


def little() -> list[CallTask]:
    """Tasks of a backend that says hardly more than the state."""
    states = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.COMPLETED, TaskStatus.PENDING)
    return [CallTask(to_number=number("212", at), status=states[at % 4]) for at in range(12)]


def hostile() -> list[CallTask]:
    """Tasks whose every text is an attack."""
    return [
        CallTask(
            to_number=text,
            name=text,
            error=text,
            choice=text,
            status=TaskStatus.FAILED,
            backend_status=text,
            summary=text,
            extracted={text: text},
            dynamic_variables={text: text},
            cost=Money(Decimal(1), text),
            attempted_at=BEGAN,
        )
        for text in HOSTILE
    ]


def page_of(
    tasks: Iterable[CallTask],
    batch_call: BatchCall,
    *,
    reported: frozenset[TaskStatus] = EVERY_STATE,
    carried: frozenset[str] = frozenset(),
    zone: str = "America/New_York",
    agent_name: str | None = None,
    backend: str = "dialer",
) -> str:
    """The report of these tasks."""
    tally = Tally()
    for task in tasks:
        tally.add(task)
    about = About(
        batch_call=batch_call,
        backend=backend,
        reported=reported,
        carried=carried,
        zone=ZoneInfo(zone),
        made_at=BEGAN + timedelta(hours=4),
        agent_name=agent_name,
    )
    return report_page(tally, about)


async def _photograph() -> None:
    page_file = IMAGES / "report.html"
    IMAGES.mkdir(exist_ok=True)
    try:
        page_file.write_text(page_of(everything(), finished(), agent_name="Maya"), encoding="utf-8")
        for colours in ("light", "dark"):
            async with browsing(scripts=False, colours=colours, width=1000) as browser:
                page = await browser.new_page()
                await page.goto(page_file.as_uri())
                last = await page.locator("section", has=page.locator("details")).bounding_box()
                assert last is not None
                await page.screenshot(
                    path=IMAGES / f"report-{colours}.png",
                    clip={"x": 0, "y": 0, "width": 1000, "height": last["y"] + last["height"] + 24},
                    full_page=True,
                )
    finally:
        page_file.unlink(missing_ok=True)


if __name__ == "__main__":
    anyio.run(_photograph)
