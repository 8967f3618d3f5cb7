"""Dograh: what is sent and where, what its answers mean, and every trap of its source, against its fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.base import Never, Now
from batchcall_mcp.backends.capabilities import Operation, unsupported
from batchcall_mcp.backends.vendors.dograh import DograhBackend
from batchcall_mcp.errors import (
    AuthenticationFailed,
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    QuotaExceeded,
)
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallingWindow,
    CallTask,
    Counts,
    ListQuery,
    RetryPolicy,
    TaskQuery,
    TaskStatus,
    Turn,
)
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.vendors import dograh as fake
from tests.vendors.dograh import AGENT, NUMBER, OTHER_NUMBER, SECOND_NUMBER, Dograh

ANN, BOB, CAT = "+14155550110", "+442079460111", "+919876543210"
LIST = (
    CallTask(to_number=ANN, dynamic_variables={"customer": "Ann, Ltd", "sum": "=1+1"}),
    CallTask(to_number=BOB, dynamic_variables={"customer": "Bob"}),
    CallTask(to_number=CAT, dynamic_variables={"customer": "Şule"}),
)
PLAIN = BatchCallRequest(name="Spring", from_number=NUMBER, agent_id=AGENT, tasks=LIST)
NEVER_AGAIN = {
    "enabled": False,
    "max_retries": 0,
    "retry_on_busy": False,
    "retry_on_no_answer": False,
    "retry_on_voicemail": False,
}
TWICE = RetryPolicy(max_retries=2, on=("no_answer", "busy"), after_minutes=5)


@pytest.fixture
def vendor() -> Dograh:
    return Dograh(lines=10)


@pytest.fixture
async def dograh(vendor: Dograh) -> AsyncIterator[DograhBackend]:
    async with vendor.served() as url, open_client() as client:
        yield DograhBackend(BackendHttp(client, url, 5), Credentials(SecretStr(vendor.key)))


async def made(dograh: DograhBackend, **changes: Any) -> BatchCall:
    return await dograh.create(replace(PLAIN, **changes))


async def running(vendor: Dograh, dograh: DograhBackend, **changes: Any) -> BatchCall:
    started = await dograh.start(await made(dograh, **changes), None)
    vendor.tick(vendor.now + timedelta(seconds=5))
    return await dograh.get(started.batch_call_id)


async def one_of(dograh: DograhBackend, batch: BatchCall, number: str) -> CallTask:
    (found,) = (await dograh.tasks(batch.batch_call_id, TaskQuery(to_number=number))).tasks
    return found


class TestCreate:
    async def test_the_list_goes_to_the_storage_without_the_key_and_a_campaign_names_it(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        batch = await made(dograh)
        *_, place, campaign = vendor.requests
        (upload,) = vendor.storage.requests
        content = b'phone_number,customer,sum\n+14155550110,"Ann, Ltd",=1+1\n+442079460111,Bob,\n'
        content += "+919876543210,Şule,\n".encode()
        assert (place.method, place.path) == ("POST", "/api/v1/s3/presigned-upload-url")
        assert place.json == {"file_name": "recipients.csv", "file_size": len(content), "content_type": "text/csv"}
        assert (upload.method, upload.headers["content-type"], upload.body) == ("PUT", "text/csv", content)
        assert not [value for value in (*upload.headers.values(), *upload.query.values()) if fake.KEY in value]
        assert (campaign.method, campaign.path) == ("POST", "/api/v1/campaign/create")
        assert campaign.headers["x-api-key"] == fake.KEY
        assert "authorization" not in campaign.headers
        assert campaign.json == {
            "name": "Spring",
            "workflow_id": 7,
            "source_type": "csv",
            "source_id": upload.path.removeprefix("/voice-audio/"),
            "telephony_configuration_id": 21,
            "retry_config": NEVER_AGAIN,
        }
        assert (batch.status, batch.batch_call_id, batch.counts.total) == (BatchStatus.DRAFT, "41", 3)
        vendor.tick(datetime(2100, 1, 1, tzinfo=UTC))
        assert vendor.dialled == []

    async def test_a_number_chooses_the_configuration_that_it_belongs_to(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        batch = await made(dograh, from_number=OTHER_NUMBER)
        assert vendor.writes[-1].json["telephony_configuration_id"] == 22
        assert "It calls from the numbers of Telnyx UK, which take turns." in batch.notes
        with pytest.raises(InvalidInput, match="not an active number"):
            await made(dograh, from_number="+15005550006")
        assert len(vendor.batch_ids()) == 1

    async def test_hours_are_weekly_slots_on_one_clock_and_monday_is_0(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        window = CallingWindow(start="09:00", end="24:00", days=("mon", "sun"), timezone="Asia/Kolkata")
        batch = await made(dograh, window=window, max_concurrency=4)
        sent = vendor.writes[-1].json
        assert sent["schedule_config"] == {
            "enabled": True,
            "timezone": "Asia/Kolkata",
            "slots": [
                {"day_of_week": 0, "start_time": "09:00", "end_time": "24:00"},
                {"day_of_week": 6, "start_time": "09:00", "end_time": "24:00"},
            ],
        }
        assert sent["max_concurrency"] == 4
        found = await dograh.get(batch.batch_call_id)
        assert (found.window, found.max_concurrency) == (window, 4)

    @pytest.mark.parametrize(
        ("policy", "sent", "read"),
        [
            (
                TWICE,
                {
                    "enabled": True,
                    "max_retries": 2,
                    "retry_delay_seconds": 300,
                    "retry_on_busy": True,
                    "retry_on_no_answer": True,
                    "retry_on_voicemail": False,
                },
                TWICE,
            ),
            (RetryPolicy(max_retries=0), NEVER_AGAIN, None),
            (None, NEVER_AGAIN, None),
        ],
    )
    async def test_a_retry_policy_is_always_sent_because_dograh_has_one_of_its_own(
        self, vendor: Dograh, dograh: DograhBackend, policy: RetryPolicy | None, sent: Any, read: RetryPolicy | None
    ) -> None:
        batch = await made(dograh, retry=policy)
        assert vendor.writes[-1].json["retry_config"] == sent
        assert (await dograh.get(batch.batch_call_id)).retry == read

    @pytest.mark.parametrize("name", ["Customer", "provider", "phone_number", "campaign_id", " city"])
    async def test_a_variable_that_would_reach_the_agent_as_another_one_is_refused(
        self, vendor: Dograh, dograh: DograhBackend, name: str
    ) -> None:
        task = CallTask(to_number=ANN, dynamic_variables={name: "x"})
        with pytest.raises(InvalidInput, match="dynamic_variables"):
            await made(dograh, tasks=(task,))
        assert vendor.requests == vendor.storage.requests == []

    async def test_a_number_that_is_there_twice_is_refused_and_no_campaign_is_made(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        with pytest.raises(InvalidInput, match="must be unique"):
            await made(dograh, tasks=(*LIST, LIST[0]))
        assert vendor.batch_ids() == []

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"trigger_at": datetime(2100, 1, 1, tzinfo=UTC)}, "trigger_timestamp"),
            ({"window": CallingWindow(start="22:00", end="06:00", timezone="UTC")}, "window"),
            ({"window": CallingWindow(start="09:00", end="17:00")}, "window.timezone"),
            ({"max_concurrency": 101}, "max_concurrency"),
            ({"retry": RetryPolicy(max_retries=11)}, "retry.max_retries"),
            ({"retry": RetryPolicy(max_retries=1, after_minutes=61)}, "retry.after_minutes"),
            ({"retry": RetryPolicy(max_retries=1, on=("failed",))}, "retry.on"),
            ({"tasks": (CallTask(to_number=ANN, name="Ann"),)}, "name of a task"),
        ],
    )
    def test_what_it_cannot_hold_is_named(self, changes: dict[str, Any], named: str) -> None:
        problems = unsupported(replace(PLAIN, **changes), DograhBackend.capabilities)
        assert [one.partition(":")[0] for one in problems] == [named]

    @pytest.mark.parametrize("changes", [{"send_now": True}, {"trigger_at": datetime(2100, 1, 1, tzinfo=UTC)}])
    async def test_a_create_never_starts(self, vendor: Dograh, dograh: DograhBackend, changes: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match="holds no time"):
            await made(dograh, **changes)
        assert vendor.requests == []

    async def test_a_lost_answer_leaves_the_outcome_unknown_and_is_not_sent_again(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        vendor.recording.swallow_next_write = True
        with pytest.raises(OutcomeUnknown):
            await made(dograh)
        assert len(vendor.batch_ids()) == len(vendor.writes) == 1


class TestLifecycle:
    async def test_a_start_is_now_and_from_a_draft_only(self, vendor: Dograh, dograh: DograhBackend) -> None:
        batch = await made(dograh)
        with pytest.raises(NotSupported, match="only now"):
            await dograh.start(batch, datetime(2100, 1, 1, tzinfo=UTC))
        started = await dograh.start(batch, None)
        assert (vendor.writes[-1].method, vendor.writes[-1].path) == ("POST", "/api/v1/campaign/41/start")
        assert (started.status, started.backend_status) == (BatchStatus.RUNNING, "syncing")
        vendor.tick(vendor.now)
        assert vendor.dialled == [ANN, BOB, CAT]
        with pytest.raises(IllegalTransition, match="must be in"):
            await dograh.start(batch, None)

    async def test_a_window_holds_the_first_call_back(self, vendor: Dograh, dograh: DograhBackend) -> None:
        hour = (vendor.now + timedelta(hours=3)).hour
        start, end = (f"{hour % 23:02d}:00", f"{hour % 23 + 1:02d}:00")
        batch = await running(vendor, dograh, window=CallingWindow(start=start, end=end, timezone="UTC"))
        assert (batch.status, vendor.dialled) == (BatchStatus.RUNNING, [])
        for _ in range(25):
            vendor.tick(vendor.now + timedelta(hours=1))
        assert vendor.dialled == [ANN, BOB, CAT]

    async def test_a_pause_stops_new_calls_and_a_resume_dials_on(self) -> None:
        vendor = Dograh(lines=1)
        async with vendor.served() as url, open_client() as client:
            dograh = DograhBackend(BackendHttp(client, url, 5), Credentials(SecretStr(vendor.key)))
            batch = await running(vendor, dograh)
            assert vendor.dialled == [ANN]
            paused = await dograh.pause(batch)
            assert (vendor.writes[-1].path, paused.status) == ("/api/v1/campaign/41/pause", BatchStatus.PAUSED)
            vendor.finish(batch.batch_call_id)
            vendor.tick(vendor.now + timedelta(days=1))
            assert vendor.dialled == [ANN]
            resumed = await dograh.resume(paused)
            assert (vendor.writes[-1].path, resumed.status) == ("/api/v1/campaign/41/resume", BatchStatus.RUNNING)
            vendor.tick(vendor.now)
            assert vendor.dialled == [ANN, BOB]

    async def test_an_update_sends_what_is_given_and_nothing_else(self, vendor: Dograh, dograh: DograhBackend) -> None:
        batch = await made(dograh, retry_of="40")
        changed = await dograh.update(batch, BatchCallRequest(name="Summer"))
        sent = vendor.writes[-1]
        assert (sent.method, sent.path, sent.json) == ("PATCH", "/api/v1/campaign/41", {"name": "Summer (retry of 40)"})
        assert (changed.name, changed.retry_of) == ("Summer (retry of 40)", "40")
        await dograh.update(batch, BatchCallRequest(max_concurrency=2, retry=RetryPolicy(max_retries=0)))
        assert vendor.writes[-1].json == {"max_concurrency": 2, "retry_config": NEVER_AGAIN}

    async def test_a_retry_is_a_draft_of_everybody_not_reached_once(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        batch = await running(vendor, dograh)
        vendor.finish(batch.batch_call_id, {BOB: "busy", CAT: "failed"})
        over = await dograh.get(batch.batch_call_id)
        assert over.status is BatchStatus.COMPLETED
        child = await dograh.retry(over, ())
        sent = vendor.writes[-1]
        assert (sent.method, sent.path) == ("POST", "/api/v1/campaign/41/redial")
        assert sent.json == {
            "name": "Spring (retry of 41)",
            "retry_on_no_answer": True,
            "retry_on_busy": True,
            "retry_on_voicemail": True,
        }
        assert (child.status, child.retry_of, child.counts.total) == (BatchStatus.DRAFT, "41", 1)
        assert "It calls from the numbers of the default configuration, which take turns." in child.notes
        assert vendor.dialled == [ANN, BOB, CAT]
        with pytest.raises(IllegalTransition, match="already been redialed"):
            await dograh.retry(over, ())
        await dograh.start(child, None)
        assert vendor.dialled == [ANN, BOB, CAT, BOB]

    async def test_what_it_has_no_request_for_is_refused_before_anything_is_sent(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        current = BatchCall(batch_call_id="41", status=BatchStatus.RUNNING)
        for refused in (dograh.cancel(current), dograh.delete(current), dograh.append(current, LIST)):
            with pytest.raises(NotSupported, match="Nothing was sent"):
                await refused
        assert vendor.requests == []

    @pytest.mark.parametrize(
        ("operation", "status"),
        [
            *((Operation.START, status) for status in ("running", "paused", "completed", "failed", "unknown")),
            *((Operation.PAUSE, status) for status in ("draft", "paused", "completed")),
            *((Operation.RESUME, status) for status in ("draft", "running", "completed", "unknown")),
            *((Operation.UPDATE, status) for status in ("completed", "failed", "unknown")),
            *((Operation.RETRY, status) for status in ("draft", "running", "paused", "failed", "unknown")),
        ],
    )
    def test_what_its_state_forbids_is_refused_before_a_person_is_asked(
        self, operation: Operation, status: str
    ) -> None:
        current = BatchCall(batch_call_id="41", status=BatchStatus(status), name="N")
        with pytest.raises(IllegalTransition, match="Nothing was sent"):
            DograhBackend.__new__(DograhBackend).check_state(operation, BatchCallRequest(), current)

    def test_what_dials(self) -> None:
        backend = DograhBackend.__new__(DograhBackend)
        draft = BatchCall(batch_call_id="41", status=BatchStatus.DRAFT)
        live = replace(draft, status=BatchStatus.RUNNING)
        window = BatchCallRequest(window=CallingWindow(start="09:00", end="10:00", timezone="UTC"))
        assert backend.dials(Operation.CREATE, PLAIN, None) == Never()
        assert backend.dials(Operation.START, BatchCallRequest(send_now=True), draft) == Now()
        assert backend.dials(Operation.RESUME, None, live) == Now()
        assert backend.dials(Operation.RETRY, None, live) == Never()
        assert backend.dials(Operation.UPDATE, window, draft) == Never()
        assert backend.dials(Operation.UPDATE, window, live) == Now()


class TestReads:
    async def test_only_people_who_were_dialled_are_listed_and_only_their_number_is_counted(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        draft = await made(dograh)
        assert (await dograh.tasks(draft.batch_call_id, TaskQuery())).tasks == ()
        assert (await dograh.get(draft.batch_call_id)).counts == Counts()
        await dograh.start(draft, None)
        vendor.tick(vendor.now)
        batch = await dograh.get(draft.batch_call_id)
        assert batch.counts == Counts(total=3)
        tasks = (await dograh.tasks(batch.batch_call_id, TaskQuery())).tasks
        assert [(one.to_number, one.status) for one in tasks] == [(one, "calling") for one in (ANN, BOB, CAT)]
        assert tasks[0].dynamic_variables == {"customer": "Ann, Ltd", "sum": "=1+1"}

    @pytest.mark.parametrize(
        ("outcome", "status", "word"),
        [
            ("completed", TaskStatus.COMPLETED, "user_hangup"),
            ("no_answer", TaskStatus.NO_ANSWER, "no-answer"),
            ("busy", TaskStatus.BUSY, None),
            ("voicemail", TaskStatus.VOICEMAIL, "voicemail_detected"),
            ("failed", TaskStatus.FAILED, None),
            ("cancelled", TaskStatus.FAILED, "canceled"),
        ],
    )
    async def test_how_a_call_ended(
        self, vendor: Dograh, dograh: DograhBackend, outcome: str, status: TaskStatus, word: str | None
    ) -> None:
        batch = await running(vendor, dograh)
        vendor.finish(batch.batch_call_id, {BOB: outcome})
        bob = await one_of(dograh, batch, BOB)
        assert (bob.status, bob.backend_status, bob.attempts) == (status, word, 1)

    async def test_a_call_that_is_over_without_a_word_is_placed_and_one_with_an_error_failed(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        batch = await running(vendor, dograh)
        ann, bob, cat = vendor.campaigns[41]["runs"]
        ann |= {"is_completed": True}
        bob |= {"is_completed": True, "gathered_context": {"error": "no route"}}
        cat |= {"is_completed": True, "gathered_context": {"call_disposition": "busy", "call_tags": ["user_speech"]}}
        found = [await one_of(dograh, batch, number) for number in (ANN, BOB, CAT)]
        assert [(one.status, one.error) for one in found] == [
            (TaskStatus.PLACED, None),
            (TaskStatus.FAILED, "no route"),
            (TaskStatus.COMPLETED, None),
        ]
        assert found[2].backend_status == "busy", "the workflow's word for a conversation, not the telephony's"

    async def test_somebody_who_is_dialled_again_is_one_task_with_the_last_call(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        batch = await running(vendor, dograh, retry=TWICE)
        vendor.finish(batch.batch_call_id, {BOB: "busy"})
        vendor.tick(vendor.now + timedelta(minutes=5))
        vendor.finish(batch.batch_call_id)
        tasks = (await dograh.tasks(batch.batch_call_id, TaskQuery())).tasks
        assert [(one.to_number, one.status, one.attempts) for one in tasks] == [
            (ANN, "completed", 1),
            (BOB, "completed", 2),
            (CAT, "completed", 1),
        ]
        assert (await dograh.tasks(batch.batch_call_id, TaskQuery(statuses=frozenset({TaskStatus.BUSY})))).tasks == ()
        assert tasks[1].dynamic_variables == {"customer": "Bob", "sum": ""}

    async def test_runs_are_read_page_by_page(self, vendor: Dograh, dograh: DograhBackend) -> None:
        vendor.concurrency = 300
        vendor.pools[21] = ("Twilio main", True, [NUMBER] * 300)
        people = tuple(CallTask(to_number=f"+1415555{place:04d}") for place in range(250))
        batch = await running(vendor, dograh, tasks=people)
        vendor.requests.clear()
        found: list[str] = []
        cursor: str | None = None
        for _ in range(10):
            page = await dograh.tasks(batch.batch_call_id, TaskQuery(limit=100, cursor=cursor))
            found += [one.to_number for one in page.tasks]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == [one.to_number for one in people]
        runs = [one for one in vendor.requests if one.path == "/api/v1/campaign/41/runs"]
        assert [one.query["page"] for one in runs] == ["1", "2", "3"]
        assert {(one.query["limit"], one.query["sort_order"]) for one in runs} == {("100", "asc")}

    async def test_a_call_has_what_was_said_and_a_recording(self, vendor: Dograh, dograh: DograhBackend) -> None:
        batch = await running(vendor, dograh)
        vendor.finish(batch.batch_call_id)
        ann = await one_of(dograh, batch, ANN)
        call = await dograh.get_call(batch.batch_call_id, ann.call_id or "")
        assert vendor.requests[-1].path == f"/api/v1/workflow/7/runs/{ann.call_id}"
        assert call.transcript == (
            Turn(speaker="agent", text="Hello, this is Alfred."),
            Turn(speaker="person", text="Yes, that works."),
        )
        assert (
            call.recording_url
            == f"https://app.dograh.example/api/v1/public/download/workflow/{ann.call_id}-token/recording"
        )
        assert (call.ended_reason, call.task.duration_seconds) == ("user_hangup", 42.0)
        assert (call.task.extracted, call.task.cost) == ({"appointment": "Friday"}, None)
        other = await made(dograh)
        with pytest.raises(NotFound):
            await dograh.get_call(other.batch_call_id, ann.call_id or "")

    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("created", BatchStatus.DRAFT),
            ("syncing", BatchStatus.RUNNING),
            ("running", BatchStatus.RUNNING),
            ("paused", BatchStatus.PAUSED),
            ("completed", BatchStatus.COMPLETED),
            ("failed", BatchStatus.FAILED),
            ("archived", BatchStatus.UNKNOWN),
        ],
    )
    async def test_its_words_for_a_campaign(
        self, vendor: Dograh, dograh: DograhBackend, word: str, status: BatchStatus
    ) -> None:
        batch = await made(dograh)
        vendor.say_status(batch.batch_call_id, word)
        found = await dograh.get(batch.batch_call_id)
        assert (found.status, found.backend_status) == (status, None if word == status else word)

    async def test_campaigns_are_listed_at_a_path_that_ends_with_a_slash(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        for name in ("One", "Two", "Three"):
            await made(dograh, name=name)
        page = await dograh.list(ListQuery(limit=2))
        assert vendor.requests[-1].path == "/api/v1/campaign/"
        assert [one.name for one in page.batch_calls] == ["Three", "Two"]
        rest = await dograh.list(ListQuery(limit=2, cursor=page.next_cursor))
        assert ([one.name for one in rest.batch_calls], rest.next_cursor) == (["One"], None)

    async def test_the_account_has_the_numbers_of_every_configuration_and_the_workflows(self) -> None:
        vendor = Dograh()
        async with vendor.served() as url, open_client() as client:
            backend = DograhBackend(BackendHttp(client, url, 5), Credentials(SecretStr(vendor.key)))
            account = await backend.account()
        assert [(one.from_number, one.name, one.number_id) for one in account.numbers or ()] == [
            (NUMBER, "Main line", "21"),
            (SECOND_NUMBER, "Twilio main", "21"),
            (OTHER_NUMBER, "Main line", "22"),
        ]
        assert [(one.agent_id, one.name) for one in account.agents or ()] == [("7", "Reminder"), ("9", "Sales")]
        assert vendor.requests[-1].query == {"status": "active"}


class TestErrors:
    @pytest.mark.parametrize("batch_call_id", ["99", "nothing"])
    async def test_an_id_that_nothing_has(self, vendor: Dograh, dograh: DograhBackend, batch_call_id: str) -> None:
        await made(dograh)
        with pytest.raises(NotFound):
            await dograh.get(batch_call_id)
        assert vendor.dialled == []

    async def test_a_key_that_is_not_accepted(self, vendor: Dograh) -> None:
        async with vendor.served() as url, open_client() as client:
            backend = DograhBackend(BackendHttp(client, url, 5), Credentials(SecretStr("dg_wrong")))
            with pytest.raises(AuthenticationFailed, match="Invalid or expired API key"):
                await backend.account()

    async def test_missing_telephony_is_a_set_up_and_not_a_wrong_key(
        self, vendor: Dograh, dograh: DograhBackend
    ) -> None:
        batch = await made(dograh)
        vendor.has_telephony = False
        with pytest.raises(InvalidInput, match="configure telephony"):
            await dograh.start(batch, None)

    async def test_without_credit(self, vendor: Dograh, dograh: DograhBackend) -> None:
        batch = await made(dograh)
        vendor.has_credit = False
        with pytest.raises(QuotaExceeded, match="credits"):
            await dograh.start(batch, None)
        assert vendor.dialled == []

    async def test_more_at_once_than_it_has_numbers(self, vendor: Dograh, dograh: DograhBackend) -> None:
        with pytest.raises(InvalidInput, match="cannot exceed 10"):
            await made(dograh, max_concurrency=11)
        assert vendor.batch_ids() == []
