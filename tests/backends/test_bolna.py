"""Bolna: what is sent, byte for byte, what its answers mean, and every trap of its documents, against its fake."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.base import At, Dials, Never, Now
from batchcall_mcp.backends.capabilities import Operation, unsupported
from batchcall_mcp.backends.vendors.bolna import DELETES, BolnaBackend
from batchcall_mcp.errors import (
    AuthenticationFailed,
    BatchCallError,
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotSupported,
    OutcomeUnknown,
)
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallTask,
    Counts,
    ListQuery,
    RetryPolicy,
    TaskQuery,
    TaskStatus,
    Turn,
)
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.vendors import bolna as fake
from tests.vendors.bolna import AGENT, NUMBER, OTHER_AGENT, OTHER_NUMBER, Bolna
from tests.vendors.serving import Recorded

ANN, BOB, CAT = "+14155550110", "+442079460111", "+919876543210"
LIST = (
    CallTask(to_number=ANN, dynamic_variables={"customer": 'Ann "A", Ltd', "sum": "=1+1"}),
    CallTask(to_number=BOB, dynamic_variables={"customer": "Bob\nB", "place": "+44 London"}),
    CallTask(to_number=CAT, dynamic_variables={"customer": "Şule"}),
)
PLAIN = BatchCallRequest(name="Spring", from_number=NUMBER, agent_id=AGENT, tasks=LIST)
DRAFT = BatchCall(batch_call_id="0" * 32, status=BatchStatus.DRAFT)


@pytest.fixture
def vendor() -> Bolna:
    return Bolna()


@pytest.fixture
async def bolna(vendor: Bolna) -> AsyncIterator[BolnaBackend]:
    async with vendor.served() as url, open_client() as client:
        yield BolnaBackend(BackendHttp(client, url, 5), Credentials(SecretStr(vendor.key)))


def form_of(one: Recorded) -> dict[str, list[tuple[str | None, bytes]]]:
    """The fields of a form: name -> (file name, content) of each."""
    found: dict[str, list[tuple[str | None, bytes]]] = {}
    whole = message_from_bytes(b"content-type: " + one.headers["content-type"].encode() + b"\r\n\r\n" + one.body)
    for part in whole.walk():
        if not part.is_multipart():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            found.setdefault(str(name), []).append((part.get_filename(), content))
    return found


async def made(bolna: BolnaBackend, **changes: Any) -> BatchCall:
    return await bolna.create(replace(PLAIN, **changes))


async def running(vendor: Bolna, bolna: BolnaBackend, **changes: Any) -> BatchCall:
    """A batch call whose time has come."""
    started = await bolna.start(await made(bolna, **changes), None)
    vendor.tick(vendor.now + timedelta(minutes=20))
    return await bolna.get(started.batch_call_id)


class TestCreate:
    async def test_the_list_is_a_file_in_a_form_and_nobody_is_called(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        batch = await made(bolna)
        (sent,) = vendor.writes
        form = form_of(sent)
        assert (sent.method, sent.path, sent.query) == ("POST", "/batches", {})
        assert sent.headers["authorization"] == f"Bearer {fake.KEY}"
        assert {name: [value for _, value in values] for name, values in form.items() if name != "file"} == {
            "agent_id": [AGENT.encode()],
            "from_phone_numbers": [NUMBER.encode()],
        }
        assert form["file"][0][0] == "Spring.csv"
        assert (batch.status, batch.name, batch.from_number, batch.agent_id) == ("draft", "Spring", NUMBER, AGENT)
        vendor.tick(datetime(2100, 1, 1, tzinfo=UTC))
        assert vendor.dialled == []

    async def test_cells_stay_what_they_are_and_numbers_keep_their_plus(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        await made(bolna)
        content = form_of(vendor.writes[0])["file"][0][1].decode()
        assert list(csv.reader(io.StringIO(content, newline=""))) == [
            ["contact_number", "customer", "sum", "place"],
            [ANN, 'Ann "A", Ltd', "=1+1", ""],
            [BOB, "Bob\nB", "", "+44 London"],
            [CAT, "Şule", "", ""],
        ]

    async def test_a_variable_cannot_take_the_column_of_the_numbers(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        task = CallTask(to_number=ANN, dynamic_variables={"contact_number": "+1"})
        with pytest.raises(InvalidInput, match="contact_number"):
            await made(bolna, tasks=(task,))
        assert vendor.requests == []

    @pytest.mark.parametrize("missing", ["from_number", "agent_id", "tasks"])
    async def test_what_it_needs_is_named_before_anything_is_sent(
        self, vendor: Bolna, bolna: BolnaBackend, missing: str
    ) -> None:
        with pytest.raises(InvalidInput, match=missing):
            await made(bolna, **{missing: None})
        assert vendor.requests == []

    async def test_a_name_is_that_of_the_file_without_what_no_file_may_have(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        batch = await made(bolna, name='A/B "C" ü')
        assert (await bolna.get(batch.batch_call_id)).name == "A-B -C- ü"

    async def test_a_retry_names_what_it_belongs_to_at_the_end_of_its_name(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        first = await made(bolna)
        again = await made(bolna, retry_of=first.batch_call_id)
        found = await bolna.get(again.batch_call_id)
        assert (found.retry_of, found.name) == (first.batch_call_id, f"Spring (retry of {first.batch_call_id})")

    @pytest.mark.parametrize(
        ("policy", "sent"),
        [
            (
                RetryPolicy(max_retries=2, on=("no_answer", "busy", "failed"), after_minutes=45),
                {
                    "enabled": True,
                    "max_retries": 2,
                    "retry_on_statuses": ["no-answer", "busy", "failed"],
                    "retry_on_voicemail": False,
                    "retry_intervals_minutes": [45, 45],
                },
            ),
            (
                RetryPolicy(max_retries=1, on=("voicemail",)),
                {"enabled": True, "max_retries": 1, "retry_on_statuses": [], "retry_on_voicemail": True},
            ),
            (RetryPolicy(max_retries=0), None),
        ],
    )
    async def test_a_retry_policy_is_json_in_the_form(
        self, vendor: Bolna, bolna: BolnaBackend, policy: RetryPolicy, sent: Any
    ) -> None:
        assert (await made(bolna, retry=policy)).retry == policy
        form = form_of(vendor.writes[0])
        assert (json.loads(form["retry_config"][0][1]) if "retry_config" in form else None) == sent

    def test_what_it_cannot_hold_is_named(self) -> None:
        request = replace(
            PLAIN,
            max_concurrency=3,
            retry=RetryPolicy(max_retries=4, at="09:00"),
            tasks=(CallTask(to_number=ANN, name="Ann"),),
        )
        found = [one.partition(":")[0] for one in unsupported(request, BolnaBackend.capabilities)]
        assert found == ["max_concurrency", "retry.max_retries", "retry.at", "name of a task"]

    async def test_an_answer_without_an_id_leaves_the_outcome_unknown(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        vendor.recording.swallow_next_write = True
        with pytest.raises(OutcomeUnknown):
            await made(bolna)
        assert len(vendor.batch_ids()) == len(vendor.writes) == 1


class TestStart:
    async def test_it_is_a_form_with_a_numeric_offset_and_nothing_that_skips_calling_hours(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        batch = await made(bolna)
        at = datetime(2100, 1, 1, 9, 30, tzinfo=UTC)
        started = await bolna.start(batch, at)
        sent = vendor.writes[-1]
        assert (sent.method, sent.path) == ("POST", f"/batches/{batch.batch_call_id}/schedule")
        assert {name: values[0][1] for name, values in form_of(sent).items()} == {
            "scheduled_at": b"2100-01-01T09:30:00+00:00"
        }
        assert (started.status, started.scheduled_at) == (BatchStatus.SCHEDULED, at)
        assert vendor.dialled == []
        vendor.tick(at)
        assert vendor.dialled == [ANN, BOB, CAT]

    @pytest.mark.parametrize("at", [None, timedelta(hours=-1), timedelta(seconds=30)], ids=["now", "past", "too soon"])
    async def test_now_is_the_next_mark_that_it_can_take(
        self, vendor: Bolna, bolna: BolnaBackend, at: timedelta | None
    ) -> None:
        before = datetime.now(UTC)
        started = await bolna.start(await made(bolna), None if at is None else before + at)
        assert started.scheduled_at is not None
        assert (started.scheduled_at.minute % 10, started.scheduled_at.second) == (0, 0)
        assert timedelta(minutes=2) <= started.scheduled_at - before < timedelta(minutes=13)
        vendor.tick(started.scheduled_at - timedelta(seconds=1))
        assert vendor.dialled == []
        vendor.tick(started.scheduled_at)
        assert vendor.dialled == [ANN, BOB, CAT]

    async def test_a_create_with_a_time_is_a_draft_that_is_scheduled(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        at = datetime(2100, 1, 1, 9, 30, tzinfo=UTC)
        batch = await made(bolna, trigger_at=at)
        assert [one.path for one in vendor.writes] == ["/batches", f"/batches/{batch.batch_call_id}/schedule"]
        assert (batch.status, batch.scheduled_at) == (BatchStatus.SCHEDULED, at)

    async def test_a_create_whose_schedule_is_refused_names_the_draft_that_is_there(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        vendor.tick(datetime(2100, 1, 1, tzinfo=UTC))
        with pytest.raises(InvalidInput, match="at least 2 minutes") as refused:
            await made(bolna, trigger_at=datetime(2099, 12, 31, tzinfo=UTC))
        assert vendor.batch_ids()[0] in str(refused.value)

    @pytest.mark.parametrize("status", ["scheduled", "running", "completed", "cancelled", "unknown"])
    def test_it_starts_only_once(self, status: str) -> None:
        backend = BolnaBackend.__new__(BolnaBackend)
        with pytest.raises(IllegalTransition, match="scheduled once"):
            backend.check_state(Operation.START, None, replace(DRAFT, status=BatchStatus(status), name="N"))
        backend.check_state(Operation.START, None, DRAFT)

    @pytest.mark.parametrize(
        ("operation", "request_", "dials"),
        [
            (Operation.CREATE, PLAIN, Never()),
            (Operation.START, replace(PLAIN, send_now=True), Now()),
            (
                Operation.START,
                replace(PLAIN, trigger_at=datetime(2100, 1, 1, tzinfo=UTC)),
                At(datetime(2100, 1, 1, tzinfo=UTC)),
            ),
            (Operation.START, None, Now()),
            (Operation.CANCEL, None, Never()),
            (Operation.DELETE, None, Never()),
        ],
    )
    def test_what_dials(self, operation: Operation, request_: BatchCallRequest | None, dials: Dials) -> None:
        assert BolnaBackend.__new__(BolnaBackend).dials(operation, request_, DRAFT) == dials


class TestReads:
    async def test_before_the_start_only_numbers_of_people_are_known(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        batch = await made(bolna, tasks=(*LIST, CallTask(to_number="+1")))
        found = await bolna.get(batch.batch_call_id)
        assert (found.status, found.name, found.from_number) == (BatchStatus.DRAFT, "Spring", NUMBER)
        counts = found.counts
        assert (counts.total, counts.pending, counts.skipped, counts.sent) == (4, 3, 1, 0)
        assert found.hides_retry
        assert (await bolna.tasks(batch.batch_call_id, TaskQuery())).tasks == ()

    async def test_a_batch_is_over_when_its_calls_are_and_not_when_all_were_called(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        batch = await running(vendor, bolna)
        assert (batch.status, batch.backend_status) == (BatchStatus.RUNNING, "executed")
        assert (batch.counts.calling, batch.counts.sent, batch.counts.pending) == (3, 3, 0)
        vendor.finish(batch.batch_call_id, {BOB: "busy"})
        batch = await bolna.get(batch.batch_call_id)
        assert (batch.status, batch.backend_status) == (BatchStatus.COMPLETED, "executed")
        counts = batch.counts
        assert (counts.picked_up, counts.completed, counts.busy, counts.not_reached) == (2, None, 1, None)

    async def test_retries_that_wait_keep_it_running(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        policy = RetryPolicy(max_retries=1, on=("busy",), after_minutes=30)
        batch = await running(vendor, bolna, retry=policy)
        vendor.finish(batch.batch_call_id, {BOB: "busy"})
        batch = await bolna.get(batch.batch_call_id)
        assert (batch.status, batch.counts.pending) == (BatchStatus.RUNNING, 1)
        vendor.tick(vendor.now + timedelta(minutes=30))
        vendor.finish(batch.batch_call_id, {BOB: "busy"})
        assert (await bolna.get(batch.batch_call_id)).status is BatchStatus.COMPLETED
        (bob,) = (await bolna.tasks(batch.batch_call_id, TaskQuery(to_number=BOB))).tasks
        assert (bob.status, bob.attempts, vendor.dialled.count(BOB)) == (TaskStatus.BUSY, 2, 2)

    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("created", BatchStatus.DRAFT),
            ("scheduled", BatchStatus.SCHEDULED),
            ("queued", BatchStatus.RUNNING),
            ("running", BatchStatus.RUNNING),
            ("stopped", BatchStatus.CANCELLED),
            ("failed", BatchStatus.FAILED),
            ("executed", BatchStatus.UNKNOWN),
            ("archived", BatchStatus.UNKNOWN),
        ],
    )
    async def test_its_words_for_a_batch_without_calls(
        self, vendor: Bolna, bolna: BolnaBackend, word: str, status: BatchStatus
    ) -> None:
        batch = await made(bolna)
        vendor.say_status(batch.batch_call_id, word)
        found = await bolna.get(batch.batch_call_id)
        assert (found.status, found.backend_status) == (status, None if word == status else word)

    @pytest.mark.parametrize(
        ("word", "status"),
        [
            *((word, TaskStatus.PENDING) for word in ("prepared", "scheduled", "queued", "rescheduled")),
            *((word, TaskStatus.CALLING) for word in ("initiated", "ringing", "in-progress", "call-disconnected")),
            ("completed", TaskStatus.COMPLETED),
            ("no-answer", TaskStatus.NO_ANSWER),
            ("busy", TaskStatus.BUSY),
            *((word, TaskStatus.FAILED) for word in ("failed", "error", "balance-low")),
            *((word, TaskStatus.CANCELLED) for word in ("canceled", "stopped")),
            ("moonlit", TaskStatus.UNKNOWN),
        ],
    )
    async def test_its_words_for_a_call(
        self, vendor: Bolna, bolna: BolnaBackend, word: str, status: TaskStatus
    ) -> None:
        batch = await running(vendor, bolna)
        vendor.say_task_status(batch.batch_call_id, BOB, word)
        (bob,) = (await bolna.tasks(batch.batch_call_id, TaskQuery(to_number=BOB))).tasks
        assert (bob.status, bob.backend_status) == (status, None if word == status else word)

    async def test_a_task_has_what_came_of_its_call_and_costs_are_cents(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        batch = await running(vendor, bolna)
        vendor.finish(batch.batch_call_id, {BOB: "voicemail", CAT: "failed"})
        ann, bob, cat = (await bolna.tasks(batch.batch_call_id, TaskQuery())).tasks
        assert (ann.to_number, ann.status, ann.duration_seconds, ann.attempts) == (ANN, "completed", 42.0, 1)
        assert (str(ann.cost), ann.dynamic_variables) == ("0.149 USD", {**LIST[0].dynamic_variables, "place": ""})
        assert ann.extracted == {"user_interested": "true", "address": "42 world lane"}
        assert (bob.status, bob.backend_status, bob.answered_by) == (TaskStatus.VOICEMAIL, "completed", "machine")
        assert (cat.status, cat.error, str(cat.cost)) == (TaskStatus.FAILED, "Call recipient number invalid", "0 USD")
        vendor.say_task_status(batch.batch_call_id, ANN, "call-disconnected")
        assert (await bolna.tasks(batch.batch_call_id, TaskQuery(to_number=ANN))).tasks[0].cost is None

    async def test_tasks_come_page_by_page(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        batch = await running(vendor, bolna)
        first = await bolna.tasks(batch.batch_call_id, TaskQuery(limit=2))
        last = await bolna.tasks(batch.batch_call_id, TaskQuery(limit=2, cursor=first.next_cursor))
        assert [one.to_number for one in (*first.tasks, *last.tasks)] == [ANN, BOB, CAT]
        assert last.next_cursor is None

    async def test_a_call_has_its_transcript_and_recording(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        batch = await running(vendor, bolna)
        vendor.finish(batch.batch_call_id)
        ann, *_ = (await bolna.tasks(batch.batch_call_id, TaskQuery())).tasks
        call = await bolna.get_call(batch.batch_call_id, ann.call_id or "")
        assert vendor.requests[-1].path == f"/executions/{ann.call_id}"
        assert call.task == ann
        assert call.transcript == (
            Turn(speaker="agent", text="Hello, this is Alfred."),
            Turn(speaker="person", text="Yes, that works."),
        )
        assert (call.recording_url, call.ended_reason) == (
            "https://recordings.example/RE1",
            "Call recipient hung up",
        )
        other = await made(bolna)
        with pytest.raises(NotFound):
            await bolna.get_call(other.batch_call_id, ann.call_id or "")
        with pytest.raises(NotFound):
            await bolna.get_call(batch.batch_call_id, "nothing")

    async def test_batches_are_listed_by_agent_newest_first(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        one = await made(bolna, name="One")
        two = await made(bolna, name="Two", agent_id=OTHER_AGENT)
        three = await made(bolna, name="Three")
        vendor.requests.clear()
        page = await bolna.list(ListQuery(limit=2))
        assert [batch.name for batch in page.batch_calls] == ["Three", "Two"]
        assert [batch.agent_id for batch in page.batch_calls] == [AGENT, OTHER_AGENT]
        assert [asked.path for asked in vendor.requests] == [
            "/v2/agent/all",
            f"/batches/{AGENT}/all",
            f"/batches/{OTHER_AGENT}/all",
        ]
        rest = await bolna.list(ListQuery(limit=2, cursor=page.next_cursor))
        assert ([batch.batch_call_id for batch in rest.batch_calls], rest.next_cursor) == ([one.batch_call_id], None)
        vendor.requests.clear()
        own = await bolna.list(ListQuery(agent_id=OTHER_AGENT))
        assert [batch.batch_call_id for batch in own.batch_calls] == [two.batch_call_id]
        assert [asked.path for asked in vendor.requests] == [f"/batches/{OTHER_AGENT}/all"]
        assert three.batch_call_id not in [batch.batch_call_id for batch in own.batch_calls]

    async def test_the_account_has_numbers_and_agents(self, bolna: BolnaBackend) -> None:
        account = await bolna.account()
        assert account.numbers is not None
        assert account.agents is not None
        assert [one.from_number for one in account.numbers] == [NUMBER, OTHER_NUMBER]
        assert [(one.agent_id, one.name) for one in account.agents] == [(AGENT, "Alfred"), (OTHER_AGENT, "Sales")]

    def test_a_time_that_no_clock_has_is_omitted_and_numbers_that_disagree_are_not_counted(self) -> None:
        documented = {
            "batch_id": "3c90c3cc0d444b5088888dd25736052a",
            "created_at": "2024-01-23T05:14:37Z",
            "scheduled_at": "2024-02-29T04:22:89Z",
            "status": "scheduled",
            "from_phone_numbers": ["+19876543007", "+19876543008"],
            "file_name": "customers.csv",
            "valid_contacts": 7,
            "total_contacts": 11,
            "execution_status": {"completed": 1, "ringing": 10, "in-progress": 15},
        }
        found = BolnaBackend.__new__(BolnaBackend).read_batch(documented)
        assert (found.name, found.from_number, found.scheduled_at) == ("customers", "+19876543007", None)
        assert found.created_at == datetime(2024, 1, 23, 5, 14, 37, tzinfo=UTC)
        assert found.counts == Counts(total=11)
        assert found.notes[0] == "Its caller numbers take turns."


class TestStops:
    async def test_a_stop_keeps_those_who_wait_from_being_called(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        vendor.concurrency = 1
        batch = await running(vendor, bolna)
        assert (batch.status, vendor.dialled) == (BatchStatus.RUNNING, [ANN])
        stopped = await bolna.cancel(batch)
        assert (vendor.writes[-1].method, vendor.writes[-1].path) == ("POST", f"/batches/{batch.batch_call_id}/stop")
        assert (vendor.writes[-1].body, stopped.status) == (b"", BatchStatus.CANCELLED)
        vendor.finish(batch.batch_call_id)
        vendor.tick(vendor.now + timedelta(days=1))
        assert vendor.dialled == [ANN]
        counts = (await bolna.get(batch.batch_call_id)).counts
        assert (counts.cancelled, counts.picked_up, counts.total) == (2, 1, 3)

    async def test_a_stop_that_it_refuses_is_about_the_state_and_not_about_the_id(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        batch = await running(vendor, bolna)
        vendor.finish(batch.batch_call_id)
        with pytest.raises(IllegalTransition, match="Batch is not queued or running"):
            await bolna.cancel(batch)
        assert vendor.batch_ids() == [batch.batch_call_id]

    async def test_one_that_waits_for_its_time_is_deleted_where_it_is_not_stopped(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        batch = await bolna.start(await made(bolna), None)
        cancelled = await bolna.cancel(batch)
        assert [(one.method, one.path) for one in vendor.writes[-2:]] == [
            ("POST", f"/batches/{batch.batch_call_id}/stop"),
            ("DELETE", f"/batches/{batch.batch_call_id}"),
        ]
        assert (cancelled.status, cancelled.notes) == (BatchStatus.CANCELLED, (DELETES,))
        vendor.tick(datetime(2100, 1, 1, tzinfo=UTC))
        assert vendor.dialled == []

    @pytest.mark.parametrize("status", ["running", "unknown"])
    def test_what_may_be_calling_is_not_deleted(self, status: str) -> None:
        current = replace(DRAFT, status=BatchStatus(status), name="N")
        with pytest.raises(IllegalTransition, match="cancel_batch_call"):
            BolnaBackend.__new__(BolnaBackend).check_state(Operation.DELETE, None, current)

    async def test_what_it_has_no_request_for_is_refused_before_anything_is_sent(
        self, vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        for refused in (
            bolna.pause(DRAFT),
            bolna.resume(DRAFT),
            bolna.retry(DRAFT, ()),
            bolna.update(DRAFT, PLAIN),
            bolna.append(DRAFT, LIST),
        ):
            with pytest.raises(NotSupported, match="Nothing was sent"):
                await refused
        assert vendor.requests == []


class TestErrors:
    async def test_a_batch_that_is_not_there(self, bolna: BolnaBackend) -> None:
        with pytest.raises(NotFound):
            await bolna.get("f" * 32)

    async def test_a_key_that_is_not_accepted(self, vendor: Bolna) -> None:
        async with vendor.served() as url, open_client() as client:
            backend = BolnaBackend(BackendHttp(client, url, 5), Credentials(SecretStr("bn-wrong")))
            with pytest.raises(AuthenticationFailed, match="Access denied"):
                await backend.account()

    async def test_an_agent_that_is_not_there_is_a_wrong_argument(self, vendor: Bolna, bolna: BolnaBackend) -> None:
        with pytest.raises(BatchCallError, match="Agent not found") as caught:
            await made(bolna, agent_id="33333333-3333-4333-8333-333333333333")
        assert isinstance(caught.value, InvalidInput)
