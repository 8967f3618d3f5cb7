"""Vapi: exact requests, and every place where its documents and ours could be taken for one another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.base import unread
from batchcall_mcp.backends.capabilities import Operation, unsupported
from batchcall_mcp.backends.vendors.vapi import VapiBackend
from batchcall_mcp.errors import (
    AuthenticationFailed,
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotSupported,
    PermissionDenied,
)
from batchcall_mcp.model import (
    BatchCallRequest,
    BatchStatus,
    CallerNumber,
    CallTask,
    Counts,
    ListQuery,
    TaskQuery,
    TaskStatus,
    Turn,
)
from batchcall_mcp.money import Money
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.vendors import vapi
from tests.vendors.vapi import Vapi

PEOPLE = tuple(f"+1213555{number:04}" for number in range(3))
TASKS = (
    CallTask(to_number=PEOPLE[0], name="Ann", dynamic_variables={"issue": "refund"}),
    *(CallTask(to_number=one) for one in PEOPLE[1:]),
)
NOW = BatchCallRequest(
    from_number=vapi.NUMBER, agent_id=vapi.ASSISTANT, name="Spring", tasks=TASKS, max_concurrency=5, send_now=True
)
DAY = timedelta(days=1)


@asynccontextmanager
async def adapter(vendor: Vapi, key: str = vapi.KEY) -> AsyncIterator[VapiBackend]:
    async with open_client(httpx2.ASGITransport(vendor.recording)) as client:
        yield VapiBackend(BackendHttp(client, VapiBackend.default_url, 5), Credentials(SecretStr(key)))


@pytest.fixture
def vendor() -> Vapi:
    return Vapi()


@pytest.fixture
async def backend(vendor: Vapi) -> AsyncIterator[VapiBackend]:
    async with adapter(vendor) as backend:
        yield backend


def written(vendor: Vapi) -> Mapping[str, Any]:
    (one,) = vendor.writes
    said: Mapping[str, Any] = one.json
    return said


def at_noon(vendor: Vapi) -> datetime:
    return (vendor.now + DAY).replace(hour=12, minute=0, second=0)


class TestCreate:
    async def test_it_sends_exactly_what_the_guide_requires(self, vendor: Vapi, backend: VapiBackend) -> None:
        made = await backend.create(NOW)
        (one,) = vendor.writes
        assert (one.method, one.path) == ("POST", "/v2/campaign")
        assert one.headers["authorization"] == f"Bearer {vapi.KEY}"
        assert one.json == {
            "name": "Spring",
            "assistantId": vapi.ASSISTANT,
            "phoneNumberId": vapi.NUMBER_ID,
            "maxConcurrency": 5,
            "customers": [
                {
                    "number": PEOPLE[0],
                    "name": "Ann",
                    "assistantOverrides": {"variableValues": {"issue": "refund"}},
                },
                {"number": PEOPLE[1]},
                {"number": PEOPLE[2]},
            ],
        }
        assert vendor.dialled == list(PEOPLE)
        assert made.batch_call_id == vendor.batch_ids()[0]
        assert (made.from_number, made.agent_id, made.max_concurrency) == (vapi.NUMBER, vapi.ASSISTANT, 5)

    async def test_about_to_start_is_not_scheduled(self, backend: VapiBackend) -> None:
        made = await backend.create(NOW)
        assert (made.status, made.backend_status) == (BatchStatus.UNKNOWN, "scheduled")

    async def test_without_a_name_and_a_concurrency_vapis_own_default_is_sent(
        self, vendor: Vapi, backend: VapiBackend
    ) -> None:
        await backend.create(replace(NOW, name=None, max_concurrency=None))
        assert (written(vendor)["name"], written(vendor)["maxConcurrency"]) == ("Batch call of 3 tasks", 10)

    async def test_a_time_and_an_end_are_moments_in_utc(self, vendor: Vapi, backend: VapiBackend) -> None:
        at = at_noon(vendor)
        made = await backend.create(replace(NOW, send_now=None, trigger_at=at, ends_at=at + DAY))
        assert written(vendor)["schedulePlan"] == {
            "earliestAt": f"{at:%Y-%m-%d}T12:00:00.000Z",
            "latestAt": f"{at + DAY:%Y-%m-%d}T12:00:00.000Z",
        }
        assert (made.status, made.scheduled_at, made.expires_at) == (BatchStatus.SCHEDULED, at, at + DAY)
        assert vendor.dialled == []
        vendor.tick(at)
        assert vendor.dialled == list(PEOPLE)

    async def test_an_end_alone_begins_now_because_a_plan_needs_its_beginning(
        self, vendor: Vapi, backend: VapiBackend
    ) -> None:
        before = datetime.now(UTC)
        vendor.now = before + timedelta(seconds=5)
        await backend.create(replace(NOW, ends_at=at_noon(vendor)))
        begins = datetime.fromisoformat(written(vendor)["schedulePlan"]["earliestAt"])
        assert before <= begins <= before + timedelta(minutes=1)
        assert vendor.dialled == list(PEOPLE)

    async def test_people_who_were_missed_are_a_new_campaign_of_exactly_those(
        self, vendor: Vapi, backend: VapiBackend
    ) -> None:
        again = await backend.create(replace(NOW, tasks=TASKS[:1], retry_of="c-1"))
        assert written(vendor)["name"] == "Spring (retry of c-1)"
        assert "duplicateFromCampaignId" not in written(vendor)
        assert again.retry_of == "c-1"

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"agent_id": None}, "agent_id"),
            ({"tasks": ()}, "tasks"),
            ({"tasks": TASKS[:1] * 10_001}, "10,000"),
            ({"from_number": "+14155550111"}, "not an active number of this account"),
        ],
    )
    async def test_what_vapi_would_refuse_is_not_sent(
        self, vendor: Vapi, backend: VapiBackend, changes: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(InvalidInput, match=named):
            await backend.create(replace(NOW, **changes))
        assert vendor.writes == []

    def test_a_persons_name_has_40_characters(self, backend: VapiBackend) -> None:
        long = replace(NOW, tasks=(replace(TASKS[0], name="x" * 41),))
        with pytest.raises(InvalidInput, match="40 characters"):
            backend.check_state(Operation.CREATE, long, None)
        backend.check_state(Operation.CREATE, replace(NOW, tasks=(replace(TASKS[0], name="x" * 40),)), None)

    def test_there_is_no_window_and_an_end_is_a_moment(self, backend: VapiBackend) -> None:
        wanted = replace(NOW, ends_on=datetime(2100, 1, 1).date(), max_concurrency=501)
        assert [problem.partition(":")[0] for problem in unsupported(wanted, backend.capabilities)] == [
            "ends_at",
            "max_concurrency",
        ]

    async def test_vapis_words_are_shown_where_it_refuses(self, vendor: Vapi, backend: VapiBackend) -> None:
        with pytest.raises(InvalidInput, match="must not be greater than your concurrency limit of 50"):
            await backend.create(replace(NOW, max_concurrency=500))
        with pytest.raises(InvalidInput, match="Vapi numbers cannot be used for campaigns"):
            await backend.create(replace(NOW, from_number="+14155550199"))
        assert vendor.dialled == []


class TestReads:
    async def test_get_asks_for_counters_and_finds_the_number_of_the_id(
        self, vendor: Vapi, backend: VapiBackend
    ) -> None:
        at = at_noon(vendor)
        made = await backend.create(replace(NOW, send_now=None, trigger_at=at))
        vendor.requests.clear()
        found = await backend.get(made.batch_call_id)
        first, second = vendor.requests
        assert (first.method, first.path) == ("GET", f"/v2/campaign/{made.batch_call_id}")
        assert first.query == {"includeCounters": "true"}
        assert (second.path, second.query) == ("/phone-number", {"limit": "1000"})
        assert (found.from_number, found.agent_id, found.name) == (vapi.NUMBER, vapi.ASSISTANT, "Spring")
        assert (found.status, found.scheduled_at) == (BatchStatus.SCHEDULED, at)
        assert found.counts == Counts(total=3, pending=3, calling=0, skipped=0, sent=0, picked_up=0)

    async def test_how_calls_went_is_counted_from_the_contacts(self, vendor: Vapi, backend: VapiBackend) -> None:
        """Vapi counts a call that nobody answered as completed."""
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id, {PEOPLE[1]: "no_answer", PEOPLE[2]: "voicemail"})
        found = await backend.get(made.batch_call_id)
        assert (found.status, found.backend_status) == (BatchStatus.COMPLETED, "ended: campaign.ended.success")
        counts = found.counts
        assert (counts.completed, counts.no_answer, counts.voicemail, counts.not_reached) == (1, 1, 1, 2)
        assert (counts.total, counts.sent, counts.picked_up, counts.failed) == (3, 3, 1, 0)
        (listed,) = (await backend.list(ListQuery())).batch_calls
        assert listed.counts == Counts(total=3, pending=0, calling=0, skipped=0, sent=3, picked_up=1)

    async def test_a_list_too_long_for_one_page_keeps_to_the_counters(
        self, vendor: Vapi, backend: VapiBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("batchcall_mcp.backends.vendors.vapi.CONTACTS_PAGE", 2)
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id)
        counts = (await backend.get(made.batch_call_id)).counts
        assert (counts.total, counts.sent, counts.picked_up, counts.completed) == (3, 3, 3, None)

    async def test_contacts_come_page_by_page_in_their_order(self, vendor: Vapi, backend: VapiBackend) -> None:
        many = tuple(CallTask(to_number=f"+1213{number}") for number in range(5_550_000, 5_551_250))
        made = await backend.create(replace(NOW, tasks=many))
        vendor.requests.clear()
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await backend.tasks(made.batch_call_id, TaskQuery(limit=1000, cursor=cursor))
            found += [task.to_number for task in page.tasks]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == [task.to_number for task in many]
        assert {one.path for one in vendor.requests} == {f"/v2/campaign/{made.batch_call_id}/contacts"}
        assert [one.query for one in vendor.requests] == [
            {"page": "1", "limit": "1000"},
            {"page": "2", "limit": "1000"},
        ]

    @pytest.mark.parametrize(
        ("outcome", "status", "word"),
        [
            ("completed", TaskStatus.COMPLETED, "contact.completed: customer-ended-call"),
            ("no_answer", TaskStatus.NO_ANSWER, "contact.completed: customer-did-not-answer"),
            ("busy", TaskStatus.BUSY, "contact.completed: customer-busy"),
            ("voicemail", TaskStatus.VOICEMAIL, "contact.completed: voicemail"),
            ("failed", TaskStatus.FAILED, "contact.failed: twilio-failed-to-connect-call"),
            ("skipped", TaskStatus.SKIPPED, "contact.skipped"),
        ],
    )
    async def test_the_reason_says_how_a_call_went(
        self, vendor: Vapi, backend: VapiBackend, outcome: str, status: TaskStatus, word: str
    ) -> None:
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id, {PEOPLE[0]: outcome})
        task = (await backend.tasks(made.batch_call_id, TaskQuery(to_number=PEOPLE[0]))).tasks[0]
        assert (task.status, task.backend_status, task.name) == (status, word, "Ann")
        assert task.answered_by == ("machine" if status is TaskStatus.VOICEMAIL else None)
        assert task.task_id
        assert task.call_id
        assert task.attempted_at == vendor.now
        assert task.dynamic_variables == {}

    @pytest.mark.parametrize(
        ("status", "reason", "expected"),
        [
            ("contact.completed", "call.in-progress.error-providerfault-transport-never-connected", TaskStatus.FAILED),
            ("contact.completed", "pipeline-error-openai-llm-failed", TaskStatus.FAILED),
            ("contact.completed", "assistant-ended-call", TaskStatus.COMPLETED),
            ("contact.predial-failed", None, TaskStatus.SKIPPED),
            ("contact.hypnotised", "customer-busy", TaskStatus.UNKNOWN),
        ],
    )
    def test_of_600_reasons_those_that_say_that_it_broke_are_failed(
        self, backend: VapiBackend, status: str, reason: str | None, expected: TaskStatus
    ) -> None:
        task = backend.read_task({"id": "1", "number": PEOPLE[0], "status": status, "endedReason": reason})
        assert task.status is expected

    @pytest.mark.parametrize(
        ("word", "reason", "expected"),
        [
            ("in-progress", None, BatchStatus.RUNNING),
            ("ended", "campaign.ended.success", BatchStatus.COMPLETED),
            ("ended", "campaign.in-progress.ended-by-user", BatchStatus.CANCELLED),
            ("cancelled", "campaign.scheduled.ended-by-user", BatchStatus.CANCELLED),
            ("scheduled", None, BatchStatus.UNKNOWN),
            ("archived", None, BatchStatus.UNKNOWN),
        ],
    )
    def test_every_word_for_a_campaign(
        self, backend: VapiBackend, word: str, reason: str | None, expected: BatchStatus
    ) -> None:
        found = backend.read_batch({"id": "1", "status": word, "endedReason": reason})
        assert found.status is expected

    def test_counters_that_are_not_all_there_are_none(self, backend: VapiBackend) -> None:
        counters = {"pending": 1, "dispatched": 0, "completed": 0, "failed": 0, "skipped": 0}
        for found in (None, {}, counters, {**counters, "predialFailed": "many"}):
            assert backend.read_batch({"id": "1", "status": "ended", "contactCounters": found}).counts == Counts()

    async def test_the_list_is_newest_first_and_filtered(self, vendor: Vapi, backend: VapiBackend) -> None:
        waiting = await backend.create(replace(NOW, send_now=None, trigger_at=at_noon(vendor)))
        running = await backend.create(replace(NOW, name="Summer"))
        page = await backend.list(ListQuery())
        assert [one.batch_call_id for one in page.batch_calls] == [running.batch_call_id, waiting.batch_call_id]
        assert [one.from_number for one in page.batch_calls] == [vapi.NUMBER, vapi.NUMBER]
        vendor.requests.clear()
        after = vendor.now - DAY
        for status, word in ((BatchStatus.RUNNING, "in-progress"), (BatchStatus.SCHEDULED, "scheduled")):
            found = (await backend.list(ListQuery(status=status, created_after=after))).batch_calls
            assert [one.status for one in found] == [status]
            asked = [one.query for one in vendor.requests if one.path == "/v2/campaign"][-1]
            assert (asked["status"], asked["page"], asked["includeCounters"]) == (word, "1", "true")
            assert datetime.fromisoformat(asked["createdAtGt"]) < after

    async def test_the_account_has_numbers_with_ids_and_assistants(self, backend: VapiBackend) -> None:
        account = await backend.account()
        assert account.numbers is not None
        assert account.numbers[0] == CallerNumber(from_number=vapi.NUMBER, name="Main line", number_id=vapi.NUMBER_ID)
        assert [one.from_number for one in account.numbers] == [vapi.NUMBER, "+14155550199"]  # a SIP address is none
        assert account.agents is not None
        assert [(one.agent_id, one.name) for one in account.agents] == [
            (vapi.ASSISTANT, "Reminder"),
            (vapi.OTHER_ASSISTANT, None),
        ]

    async def test_a_call_says_what_was_said_and_what_it_cost(self, vendor: Vapi, backend: VapiBackend) -> None:
        made = await backend.create(NOW)
        vendor.finish(made.batch_call_id)
        task = (await backend.tasks(made.batch_call_id, TaskQuery())).tasks[0]
        call = await backend.get_call(made.batch_call_id, task.call_id or "")
        assert vendor.requests[-1].path == f"/call/{task.call_id}"
        assert call.transcript == (
            Turn(speaker="agent", text="Hello, this is a reminder.", at_seconds=0.5),
            Turn(speaker="person", text="Thank you.", at_seconds=2.25),
        )
        assert (call.recording_url, call.ended_reason) == (
            "https://storage.vapi.ai/recording.wav",
            "customer-ended-call",
        )
        assert (call.task.status, call.task.to_number, call.task.duration_seconds) == (
            TaskStatus.COMPLETED,
            PEOPLE[0],
            90,
        )
        assert (call.task.cost, call.task.summary) == (Money(Decimal("0.1234"), "USD"), "They were reminded.")
        assert call.task.extracted == {"reached": "true"}

    async def test_a_call_of_another_campaign_is_none_of_this_one(self, vendor: Vapi, backend: VapiBackend) -> None:
        one, other = await backend.create(NOW), await backend.create(NOW)
        vendor.finish(one.batch_call_id)
        call_id = (await backend.tasks(one.batch_call_id, TaskQuery())).tasks[0].call_id
        with pytest.raises(NotFound):
            await backend.get_call(other.batch_call_id, call_id or "")
        del vendor.calls[call_id or ""]["campaignId"]  # which the schema does not require
        assert (await backend.get_call(one.batch_call_id, call_id or "")).call_id == call_id


class TestStops:
    async def test_cancel_patches_the_status_and_nobody_else_is_dialled(
        self, vendor: Vapi, backend: VapiBackend
    ) -> None:
        made = await backend.create(replace(NOW, max_concurrency=1))
        assert vendor.dialled == [PEOPLE[0]]
        before = len(vendor.writes)
        after = await backend.cancel(await backend.get(made.batch_call_id))
        (one,) = vendor.writes[before:]
        assert (one.method, one.path, one.json) == (
            "PATCH",
            f"/v2/campaign/{made.batch_call_id}",
            {"status": "cancelled"},
        )
        assert after.status is BatchStatus.CANCELLED
        vendor.finish(made.batch_call_id)
        vendor.tick(vendor.now + DAY)
        assert vendor.dialled == [PEOPLE[0]]

    @pytest.mark.parametrize("status", [BatchStatus.COMPLETED, BatchStatus.CANCELLED])
    def test_what_is_over_is_not_cancelled(self, backend: VapiBackend, status: BatchStatus) -> None:
        with pytest.raises(IllegalTransition):
            backend.check_state(Operation.CANCEL, None, replace(unread("1"), status=status, name="x"))

    def test_a_stop_is_never_held_up_by_a_word_that_nobody_knows(self, backend: VapiBackend) -> None:
        found = replace(unread("1"), backend_status="scheduled", name="x")
        backend.check_state(Operation.CANCEL, None, found)
        backend.check_state(Operation.CANCEL, None, unread("1"))

    async def test_delete_archives_and_stops_what_runs(self, vendor: Vapi, backend: VapiBackend) -> None:
        made = await backend.create(replace(NOW, send_now=None, trigger_at=at_noon(vendor)))
        await backend.delete(made)
        assert (vendor.writes[-1].method, vendor.writes[-1].json) == ("DELETE", None)
        with pytest.raises(NotFound):
            await backend.get(made.batch_call_id)
        assert (await backend.list(ListQuery())).batch_calls == ()
        vendor.tick(vendor.now + 2 * DAY)
        assert vendor.dialled == []

    async def test_what_vapi_has_not_is_not_sent(self, vendor: Vapi, backend: VapiBackend) -> None:
        current = unread("1")
        for refused in (
            backend.pause(current),
            backend.resume(current),
            backend.append(current, TASKS),
            backend.update(current, BatchCallRequest(name="x")),
            backend.retry(current, ("1",)),
            backend.start(current, None),
        ):
            with pytest.raises(NotSupported, match="Nothing was sent"):
                await refused
        assert vendor.requests == []


class TestErrors:
    async def test_an_organization_without_campaigns_reads_why(self, vendor: Vapi, backend: VapiBackend) -> None:
        vendor.has_campaigns = False
        with pytest.raises(PermissionDenied, match="Campaigns V2 is not enabled for your organization"):
            await backend.create(NOW)

    async def test_a_wrong_key_is_named(self, vendor: Vapi) -> None:
        async with adapter(vendor, "wrong") as backend:
            with pytest.raises(AuthenticationFailed):
                await backend.account()

    @pytest.mark.parametrize("batch_call_id", ["nonsense", "../assistant", "7d8c0c5e-0000-4000-8000-000000000000"])
    async def test_an_id_that_is_none_is_not_found(self, backend: VapiBackend, batch_call_id: str) -> None:
        with pytest.raises(NotFound):
            await backend.get(batch_call_id)
