"""Retell: exact requests, units, and what can be said of a batch call that nobody can read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.base import unread
from batchcall_mcp.backends.capabilities import unsupported
from batchcall_mcp.backends.vendors.retell import ELSEWHERE, FROM_CALLS, NOTHING_YET, RetellBackend
from batchcall_mcp.errors import InvalidInput, NotFound, NotSupported
from batchcall_mcp.model import (
    BatchCallRequest,
    BatchStatus,
    CallerNumber,
    CallingWindow,
    CallTask,
    Counts,
    ListQuery,
    TaskQuery,
    TaskStatus,
    Turn,
)
from batchcall_mcp.money import Money
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.vendors import retell
from tests.vendors.retell import Retell

PEOPLE = tuple(f"+1213555{number:04}" for number in range(3))
TASKS = (
    CallTask(to_number=PEOPLE[0], name="Ann", dynamic_variables={"issue": "refund"}),
    *(CallTask(to_number=one) for one in PEOPLE[1:]),
)
NOW = BatchCallRequest(from_number=retell.NUMBER, name="Spring", tasks=TASKS, send_now=True)
DAY = timedelta(days=1)
NEW_YORK = "America/New_York"


@pytest.fixture
def vendor() -> Retell:
    return Retell()


@pytest.fixture
async def backend(vendor: Retell) -> AsyncIterator[RetellBackend]:
    async with adapter(vendor) as backend:
        yield backend


@asynccontextmanager
async def adapter(vendor: Retell) -> AsyncIterator[RetellBackend]:
    async with open_client(httpx2.ASGITransport(vendor.recording)) as client:
        http = BackendHttp(client, RetellBackend.default_url, 5)
        yield RetellBackend(http, Credentials(SecretStr(retell.KEY)))


def written(vendor: Retell) -> Mapping[str, Any]:
    (one,) = vendor.writes
    said: Mapping[str, Any] = one.json
    return said


def metadata(at: int, **more: Any) -> dict[str, Any]:
    return {"batchcall_tasks": 3, "batchcall_name": "Spring", "batchcall_task": at, **more}


class TestCreate:
    async def test_each_task_carries_its_place_the_number_of_tasks_and_the_name(
        self, vendor: Retell, backend: RetellBackend
    ) -> None:
        made = await backend.create(replace(NOW, agent_id=retell.OTHER_AGENT))
        (one,) = vendor.writes
        assert (one.method, one.path) == ("POST", "/create-batch-call")
        assert one.headers["authorization"] == f"Bearer {retell.KEY}"
        assert one.json == {
            "name": "Spring",
            "from_number": retell.NUMBER,
            "tasks": [
                {
                    "to_number": PEOPLE[0],
                    "override_agent_id": retell.OTHER_AGENT,
                    "retell_llm_dynamic_variables": {"issue": "refund"},
                    "metadata": metadata(1, batchcall_person="Ann"),
                },
                {"to_number": PEOPLE[1], "override_agent_id": retell.OTHER_AGENT, "metadata": metadata(2)},
                {"to_number": PEOPLE[2], "override_agent_id": retell.OTHER_AGENT, "metadata": metadata(3)},
            ],
        }
        assert vendor.dialled == list(PEOPLE)
        assert made.batch_call_id == vendor.batch_ids()[0]
        assert (made.status, made.counts, made.scheduled_at) == (BatchStatus.UNKNOWN, Counts(total=3), None)

    async def test_without_an_agent_the_numbers_own_speaks(self, vendor: Retell, backend: RetellBackend) -> None:
        await backend.create(NOW)
        assert "override_agent_id" not in written(vendor)["tasks"][0]
        with pytest.raises(InvalidInput, match="No outbound agent is set up"):
            await backend.create(replace(NOW, from_number=retell.UNBOUND_NUMBER))

    async def test_the_time_goes_in_milliseconds_and_comes_back_in_seconds(
        self, vendor: Retell, backend: RetellBackend
    ) -> None:
        at = (vendor.now + DAY).replace(minute=0, second=0)
        made = await backend.create(replace(NOW, send_now=None, trigger_at=at))
        assert written(vendor)["trigger_timestamp"] == int(at.timestamp()) * 1000
        assert (made.status, made.scheduled_at) == (BatchStatus.SCHEDULED, at)
        vendor.tick(at - timedelta(seconds=1))
        assert vendor.dialled == []
        vendor.tick(at)
        assert vendor.dialled == list(PEOPLE)

    async def test_a_time_that_is_past_is_not_called_scheduled(self, vendor: Retell, backend: RetellBackend) -> None:
        made = await backend.create(replace(NOW, send_now=None, trigger_at=vendor.now - DAY))
        assert made.status is BatchStatus.UNKNOWN
        assert vendor.dialled == list(PEOPLE)

    @pytest.mark.parametrize(
        ("window", "expected"),
        [
            (
                CallingWindow(start="09:00", end="17:30", days=("mon", "sun"), timezone=NEW_YORK),
                {"windows": [{"start": 540, "end": 1050}], "timezone": NEW_YORK, "day": ["Monday", "Sunday"]},
            ),
            (
                CallingWindow(start="00:00", end="24:00", timezone="UTC"),
                {"windows": [{"start": 0, "end": 1440}], "timezone": "UTC", "day": list(retell.DAYS)},
            ),
        ],
    )
    async def test_a_window_is_in_minutes_and_always_names_its_zone(
        self, vendor: Retell, backend: RetellBackend, window: CallingWindow, expected: dict[str, Any]
    ) -> None:
        """Without one, Retell means Los Angeles."""
        made = await backend.create(replace(NOW, window=window))
        assert written(vendor)["call_time_window"] == expected
        assert made.window == window

    async def test_a_window_is_found_again_in_the_calls_so_that_a_retry_has_it(
        self, vendor: Retell, backend: RetellBackend
    ) -> None:
        vendor.now = datetime(2030, 1, 7, 9, 30, tzinfo=ZoneInfo(NEW_YORK))  # a Monday
        window = CallingWindow(start="09:00", end="24:00", days=("mon", "wed"), timezone=NEW_YORK)
        made = await backend.create(replace(NOW, window=window))
        assert (await backend.get(made.batch_call_id)).window == window
        for call in vendor.batches[made.batch_call_id].calls:
            call.task = {**call.task, "metadata": {"batchcall_window": "9 to 5, whenever"}}
        assert (await backend.get(made.batch_call_id)).window is None

    async def test_nobody_is_dialled_outside_the_window(self, vendor: Retell, backend: RetellBackend) -> None:
        zone = ZoneInfo(NEW_YORK)
        vendor.now = datetime(2030, 1, 7, 8, 59, tzinfo=zone)  # a Monday
        window = CallingWindow(start="09:00", end="17:30", days=("mon",), timezone=NEW_YORK)
        await backend.create(replace(NOW, window=window))
        assert vendor.dialled == []
        vendor.tick(datetime(2030, 1, 7, 9, tzinfo=zone))
        assert vendor.dialled == list(PEOPLE)

    def test_what_retell_has_no_field_for_is_refused(self, backend: RetellBackend) -> None:
        over_midnight = CallingWindow(start="22:00", end="06:00", timezone="UTC")
        each = CallingWindow(start="09:00", end="17:00")
        wanted = replace(NOW, max_concurrency=3, ends_at=datetime(2100, 1, 1, tzinfo=ZoneInfo("UTC")))
        for request, fields in (
            (replace(wanted, window=over_midnight), ["window", "ends_at", "max_concurrency"]),
            (replace(wanted, window=each), ["window.timezone", "ends_at", "max_concurrency"]),
        ):
            problems = [one.partition(":")[0] for one in unsupported(request, backend.capabilities)]
            assert problems == fields

    async def test_reserved_concurrency_is_for_others_and_never_sent(
        self, vendor: Retell, backend: RetellBackend
    ) -> None:
        await backend.create(replace(NOW, max_concurrency=3))
        assert "reserved_concurrency" not in written(vendor)


class TestReads:
    async def test_before_the_first_call_nothing_is_known(self, vendor: Retell, backend: RetellBackend) -> None:
        made = await backend.create(replace(NOW, send_now=None, trigger_at=vendor.now + DAY))
        found = await backend.get(made.batch_call_id)
        assert found == replace(unread(made.batch_call_id), notes=(NOTHING_YET,))
        assert (await backend.tasks(made.batch_call_id, TaskQuery())).tasks == ()

    async def test_a_read_asks_for_the_calls_of_that_batch_call(self, vendor: Retell, backend: RetellBackend) -> None:
        made = await backend.create(NOW)
        vendor.requests.clear()
        found = await backend.get(made.batch_call_id)
        await backend.tasks(made.batch_call_id, TaskQuery(limit=20))
        mine = {"batch_call_id": {"type": "string", "op": "eq", "value": made.batch_call_id}}
        assert [(one.method, one.path) for one in vendor.requests] == [("POST", "/v3/list-calls")] * 2
        assert [one.json for one in vendor.requests] == [
            {"filter_criteria": mine, "limit": 500, "include_total": True},
            {"filter_criteria": mine, "limit": 100, "sort_order": "ascending"},
        ]
        assert (found.status, found.name, found.from_number) == (BatchStatus.RUNNING, "Spring", retell.NUMBER)
        assert found.agent_id == retell.AGENT
        assert found.notes == (FROM_CALLS,)
        assert (found.counts.total, found.counts.pending, found.counts.calling, found.counts.sent) == (3, 0, 3, 3)

    async def test_it_is_completed_when_every_task_has_had_its_call(
        self, vendor: Retell, backend: RetellBackend
    ) -> None:
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id, {PEOPLE[1]: "no_answer", PEOPLE[2]: "voicemail"})
        found = await backend.get(made.batch_call_id)
        counts = found.counts
        assert found.status is BatchStatus.COMPLETED
        assert (counts.total, counts.completed, counts.no_answer, counts.voicemail) == (3, 1, 1, 1)
        assert (counts.not_reached, counts.pending, counts.failed) == (2, 0, 0)

    async def test_as_long_as_people_wait_it_is_not(self, vendor: Retell, backend: RetellBackend) -> None:
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id)
        del vendor.batches[made.batch_call_id].calls[1]
        found = await backend.get(made.batch_call_id)
        assert found.status is BatchStatus.UNKNOWN
        assert (found.counts.total, found.counts.pending, found.counts.completed) == (3, 1, 2)

    async def test_one_that_was_made_elsewhere_has_no_total_and_no_end(
        self, vendor: Retell, backend: RetellBackend
    ) -> None:
        """In the dashboard: nobody put the number of its tasks into its calls."""
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id)
        for call in vendor.batches[made.batch_call_id].calls:
            call.task = {name: value for name, value in call.task.items() if name != "metadata"}
        found = await backend.get(made.batch_call_id)
        assert (found.status, found.name, found.notes) == (BatchStatus.UNKNOWN, None, (FROM_CALLS, ELSEWHERE))
        assert (found.counts.total, found.counts.pending, found.counts.completed) == (None, None, 3)
        tasks = (await backend.tasks(made.batch_call_id, TaskQuery())).tasks
        assert [task.task_id for task in tasks] == [task.call_id for task in tasks]

    async def test_of_more_calls_than_a_page_only_their_number_is_said(
        self, vendor: Retell, backend: RetellBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("batchcall_mcp.backends.vendors.retell.LARGE_PAGE", 2)
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id)
        found = await backend.get(made.batch_call_id)
        assert (found.status, found.counts) == (BatchStatus.COMPLETED, Counts(total=3, sent=3))

    async def test_calls_come_page_by_page_in_the_order_of_dialling(
        self, vendor: Retell, backend: RetellBackend
    ) -> None:
        many = tuple(CallTask(to_number=f"+1213{number}") for number in range(5_550_000, 5_550_250))
        made = await backend.create(replace(NOW, tasks=many))
        vendor.requests.clear()
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await backend.tasks(made.batch_call_id, TaskQuery(limit=100, cursor=cursor))
            found += [task.to_number for task in page.tasks]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == [task.to_number for task in many]
        assert [one.json.get("pagination_key") for one in vendor.requests] == [None, "page_100", "page_200"]

    @pytest.mark.parametrize(
        ("status", "reason", "expected"),
        [
            ("registered", None, TaskStatus.CALLING),
            ("ongoing", None, TaskStatus.CALLING),
            ("ended", "user_hangup", TaskStatus.COMPLETED),
            ("ended", "voicemail_reached", TaskStatus.VOICEMAIL),
            ("ended", "ivr_reached", TaskStatus.VOICEMAIL),
            ("not_connected", "dial_no_answer", TaskStatus.NO_ANSWER),
            ("not_connected", "user_declined", TaskStatus.NO_ANSWER),
            ("not_connected", "dial_busy", TaskStatus.BUSY),
            ("not_connected", "invalid_destination", TaskStatus.FAILED),
            ("error", "concurrency_limit_reached", TaskStatus.FAILED),
            ("dreaming", "dial_busy", TaskStatus.UNKNOWN),
        ],
    )
    def test_the_reason_says_how_a_call_went(
        self, backend: RetellBackend, status: str, reason: str | None, expected: TaskStatus
    ) -> None:
        row = {"call_id": "c1", "to_number": PEOPLE[0], "call_status": status, "disconnection_reason": reason}
        task = backend.read_task(row)
        words = [one for one in (status, reason) if one]
        assert (task.status, task.backend_status) == (expected, ": ".join(words))
        assert task.answered_by == ("machine" if expected is TaskStatus.VOICEMAIL else None)

    def test_a_voicemail_that_the_agent_hung_up_on_is_one(self, backend: RetellBackend) -> None:
        row = {"call_status": "ended", "disconnection_reason": "agent_hangup", "call_analysis": {"in_voicemail": True}}
        assert backend.read_task(row).status is TaskStatus.VOICEMAIL

    async def test_a_task_says_what_came_of_its_call(self, vendor: Retell, backend: RetellBackend) -> None:
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id)
        (task,) = (await backend.tasks(made.batch_call_id, TaskQuery(to_number=PEOPLE[0]))).tasks
        assert (task.task_id, task.name, task.dynamic_variables) == ("1", "Ann", {"issue": "refund"})
        assert (task.attempted_at, task.completed_at) == (vendor.now, vendor.now + timedelta(seconds=90))
        assert (task.duration_seconds, task.cost) == (90, Money(Decimal("0.1234"), "USD"))
        assert (task.summary, task.extracted) == ("They were reminded.", {"will_come": "true"})

    async def test_a_call_says_what_was_said(self, vendor: Retell, backend: RetellBackend) -> None:
        made, other = await backend.create(NOW), await backend.create(NOW)
        vendor.finish(made.batch_call_id)
        call_id = (await backend.tasks(made.batch_call_id, TaskQuery())).tasks[0].call_id or ""
        vendor.requests.clear()
        call = await backend.get_call(made.batch_call_id, call_id)
        asked, read = vendor.requests
        assert asked.json["filter_criteria"]["call_id"] == {"type": "string", "op": "eq", "value": call_id}
        assert (read.method, read.path) == ("GET", f"/v2/get-call/{call_id}")
        assert call.transcript == (
            Turn(speaker="agent", text="Hello, this is a reminder.", at_seconds=0.5),
            Turn(speaker="person", text="Thank you.", at_seconds=2.25),
        )
        assert call.recording_url == "https://dxc03zgurdly9.cloudfront.net/recording.wav"
        assert (call.ended_reason, call.task.cost) == ("user_hangup", Money(Decimal("0.1234"), "USD"))
        with pytest.raises(NotFound):
            await backend.get_call(other.batch_call_id, call_id)

    async def test_numbers_are_a_get_and_agents_a_post_with_its_page_in_the_query(
        self, vendor: Retell, backend: RetellBackend
    ) -> None:
        account = await backend.account()
        numbers, agents = vendor.requests
        assert (numbers.method, numbers.path, numbers.query) == ("GET", "/v2/list-phone-numbers", {"limit": "1000"})
        assert (agents.method, agents.path, agents.query) == ("POST", "/v2/list-agents", {"limit": "1000"})
        assert agents.json == {"filter_criteria": {"channel": {"type": "string", "op": "eq", "value": "voice"}}}
        assert account.numbers is not None
        assert account.numbers[0] == CallerNumber(from_number=retell.NUMBER, name="Main line", agent_id=retell.AGENT)
        assert account.numbers[1].agent_id is None
        assert account.agents is not None
        assert [one.agent_id for one in account.agents] == [retell.AGENT, retell.OTHER_AGENT]


async def test_what_retell_has_not_is_not_sent(vendor: Retell, backend: RetellBackend) -> None:
    current = unread("batch_call_1")
    for refused in (
        backend.list(ListQuery()),
        backend.cancel(current),
        backend.pause(current),
        backend.resume(current),
        backend.append(current, TASKS),
        backend.update(current, BatchCallRequest(name="x")),
        backend.retry(current, ("1",)),
        backend.delete(current),
        backend.start(current, None),
    ):
        with pytest.raises(NotSupported, match="Nothing was sent"):
            await refused
    assert vendor.requests == []
