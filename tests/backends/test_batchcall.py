"""The batch-call REST API, Zudu's and ours: bodies, answers of both generations, and every documented trap."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from batchcall_mcp.backends.base import At, Dials, Never, Now
from batchcall_mcp.backends.capabilities import Operation, unsupported
from batchcall_mcp.backends.rest_api.batchcall import BatchCallBackend
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.errors import (
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotSupported,
    OutcomeUnknown,
)
from batchcall_mcp.model import (
    FINISHED,
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
)
from tests.backends.recorder import CREDENTIALS, Asked, Status, Vendor, envelope, refused

ID = "batch_call_a1b2c3d4e5f6789012345678901234567"
AT = datetime(2025, 1, 1, 8, 1, 40, tzinfo=UTC)
AT_MS = 1735718500000
AGENT = "agent_7ff47846-c8a0-4304-ae13-88cfc31c1a03"
DOCUMENTED_BODY = {
    "from_number": "+14157774444",
    "tasks": [{"to_number": "+12137774445", "dynamic_variables": {"first_name": "John"}, "max_retries": 3}],
    "name": "Updated Campaign Name",
    "trigger_timestamp": AT_MS,
    "agent_id": AGENT,
    "timezone": "UTC",
    "status": "scheduled",
    "send_now": False,
}
DOCUMENTED_DATA = {
    "batch_call_id": ID,
    "name": "Updated Campaign Name",
    "from_number": "+14157774444",
    "scheduled_timestamp": AT_MS,
    "total_task_count": 1,
    "total": 1,
    "sent": 0,
    "picked_up": 0,
    "completed": 0,
    "agent_id": AGENT,
    "organization_id": "e3yn0c4mivqs8y4yhb5k",
    "status": "scheduled",
    "timezone": "UTC",
    "last_sent_timestamp": None,
    "tasks_url": "https://storage.azure.com/.../tasks.json",
    "created_timestamp": 1735718400000,
}
DOCUMENTED = BatchCall(
    batch_call_id=ID,
    status=BatchStatus.SCHEDULED,
    name="Updated Campaign Name",
    from_number="+14157774444",
    agent_id=AGENT,
    timezone="UTC",
    scheduled_at=AT,
    created_at=datetime(2025, 1, 1, 8, 0, tzinfo=UTC),
    counts=Counts(total=1, sent=0, picked_up=0, completed=0),
    organization_id="e3yn0c4mivqs8y4yhb5k",
    hides_retry=True,
)
TASK = CallTask(to_number="+12137774445", dynamic_variables={"first_name": "John"}, max_retries=3)
DOCUMENTED_REQUEST = BatchCallRequest(
    from_number="+14157774444",
    tasks=(TASK,),
    name="Updated Campaign Name",
    trigger_at=AT,
    agent_id=AGENT,
    timezone="UTC",
    status=BatchStatus.SCHEDULED,
    send_now=False,
)
PLAIN = BatchCallRequest(from_number="+14157774444", tasks=(CallTask(to_number="+12137774445"),))
BEGUN_OR_OVER = FINISHED | {BatchStatus.RUNNING, BatchStatus.PAUSED}
BOTH = pytest.mark.parametrize("kind", [BatchCallBackend, ZuduBackend])


def at(status: BatchStatus, **changes: Any) -> BatchCall:
    return replace(DOCUMENTED, status=status, **changes)


@pytest.fixture
def vendor() -> Vendor:
    return Vendor(
        {
            "POST /batch-call": lambda asked: envelope({**DOCUMENTED_DATA, "status": asked.body["status"]}),
            f"GET /batch-call/{ID}": envelope(DOCUMENTED_DATA),
            f"PUT /batch-call/{ID}": envelope(DOCUMENTED_DATA),
            f"PATCH /batch-call/{ID}": lambda asked: envelope({**DOCUMENTED_DATA, **asked.body}),
            f"DELETE /batch-call/{ID}": {"message": "deleted", "status": "success", "error": None, "data": None},
            f"POST /batch-call/{ID}/execute": envelope(
                {"batch_call_id": ID, "status": "SENT", "execution_started_at": "2025-01-01T08:00:00Z"}
            ),
        }
    )


@pytest.fixture
async def zudu(vendor: Vendor) -> AsyncIterator[ZuduBackend]:
    async with vendor.http() as http:
        yield ZuduBackend(http, CREDENTIALS)


@pytest.fixture
async def ours(vendor: Vendor) -> AsyncIterator[BatchCallBackend]:
    async with vendor.http() as http:
        yield BatchCallBackend(http, CREDENTIALS)


class TestUpdate:
    @BOTH
    @pytest.mark.parametrize("status", [one for one in BatchStatus if one not in BEGUN_OR_OVER])
    async def test_with_all_the_documented_fields_it_puts_exactly_the_documented_body(
        self, vendor: Vendor, kind: type[BatchCallBackend], status: BatchStatus
    ) -> None:
        async with vendor.http() as http:
            updated = await kind(http, CREDENTIALS).update(at(status), DOCUMENTED_REQUEST)
        (asked,) = vendor.asked
        assert (asked.method, asked.path) == ("PUT", f"/batch-call/{ID}")
        assert asked.body == DOCUMENTED_BODY
        assert asked.headers["x-api-key"] == "sk_test"
        assert asked.headers["x-api-secret"] == "s3cr3t_test"
        assert updated == DOCUMENTED

    @BOTH
    @pytest.mark.parametrize("status", sorted(BEGUN_OR_OVER))
    async def test_nothing_replaces_one_that_has_begun_or_is_over(
        self, vendor: Vendor, kind: type[BatchCallBackend], status: BatchStatus
    ) -> None:
        async with vendor.http() as http:
            with pytest.raises(IllegalTransition, match="Nothing was sent"):
                kind(http, CREDENTIALS).check_state(Operation.UPDATE, DOCUMENTED_REQUEST, at(status))
        assert vendor.asked == []

    @pytest.mark.parametrize(
        ("request_", "body"),
        [
            (BatchCallRequest(name="New"), {"name": "New"}),
            (BatchCallRequest(agent_id="a", timezone="Europe/Rome"), {"agent_id": "a", "timezone": "Europe/Rome"}),
            (BatchCallRequest(trigger_at=AT), {"trigger_timestamp": AT_MS}),
            (BatchCallRequest(send_now=True), {"send_now": True}),
            (BatchCallRequest(send_now=False), {"send_now": False}),
            (BatchCallRequest(status=BatchStatus.DRAFT), {"status": "draft"}),
        ],
    )
    async def test_a_partial_change_is_a_patch_of_just_that(
        self, vendor: Vendor, zudu: ZuduBackend, request_: BatchCallRequest, body: dict[str, Any]
    ) -> None:
        await zudu.update(DOCUMENTED, request_)
        assert [(asked.method, asked.body) for asked in vendor.asked] == [("PATCH", body)]

    async def test_our_dialect_patches_what_zudu_could_only_replace(
        self, vendor: Vendor, ours: BatchCallBackend
    ) -> None:
        window = CallingWindow(start="09:00", end="17:00", days=("mon", "sun"), timezone="recipient")
        request = BatchCallRequest(
            from_number="+14157774445", window=window, max_concurrency=5, retry=RetryPolicy(max_retries=1, at="10:00")
        )
        await ours.update(DOCUMENTED, request)
        (asked,) = vendor.asked
        timing = {"type": "AT", "time": "10:00"}
        assert (asked.method, asked.body) == (
            "PATCH",
            {
                "from_number": "+14157774445",
                "window": {"start": "09:00", "end": "17:00", "days": [0, 1], "timezone": "recipient"},
                "max_concurrency": 5,
                "retry_config": {"enabled": True, "max_attempts": 1},
                "retry_rules": [
                    {"condition": "no_answer", "enabled": True, "retry_timing": timing},
                    {"condition": "busy", "enabled": True, "retry_timing": timing},
                ],
            },
        )

    @pytest.mark.parametrize(
        "request_",
        [
            BatchCallRequest(from_number="+14157774445"),
            BatchCallRequest(window=CallingWindow(start="09:00", end="17:00", timezone="UTC")),
            BatchCallRequest(retry=RetryPolicy(max_retries=1, after_minutes=5)),
        ],
    )
    async def test_zudu_replaces_nothing_without_the_tasks_that_it_does_not_give_back(
        self, vendor: Vendor, zudu: ZuduBackend, request_: BatchCallRequest
    ) -> None:
        with pytest.raises(InvalidInput, match=r"Nothing was sent\. Pass tasks"):
            await zudu.update(DOCUMENTED, request_)
        assert vendor.asked == []

    @BOTH
    @pytest.mark.parametrize(
        ("current", "request_", "time_words"),
        [
            (at(BatchStatus.SCHEDULED), {}, ("scheduled", False, AT_MS)),
            (at(BatchStatus.DRAFT, scheduled_at=None), {}, ("draft", False, None)),
            (at(BatchStatus.DRAFT), {"send_now": True}, ("sent", True, AT_MS)),
            (at(BatchStatus.SCHEDULED), {"status": BatchStatus.DRAFT}, ("draft", False, None)),
        ],
    )
    async def test_a_replacement_always_says_status_send_now_and_time(
        self,
        vendor: Vendor,
        kind: type[BatchCallBackend],
        current: BatchCall,
        request_: dict[str, Any],
        time_words: tuple[str, bool, int | None],
    ) -> None:
        async with vendor.http() as http:
            await kind(http, CREDENTIALS).update(current, BatchCallRequest(tasks=(TASK,), **request_))
        body = vendor.asked[0].body
        assert (body["status"], body["send_now"], body.get("trigger_timestamp")) == time_words
        assert body["from_number"] == current.from_number
        assert body["name"] == current.name

    async def test_a_replacement_does_not_take_back_the_calling_window(
        self, vendor: Vendor, zudu: ZuduBackend, ours: BatchCallBackend
    ) -> None:
        window = CallingWindow(start="09:00", end="17:00", timezone="UTC")
        current = at(BatchStatus.DRAFT, window=window, max_concurrency=3, retry_of="b0")
        await zudu.update(current, DOCUMENTED_REQUEST)
        await ours.update(current, DOCUMENTED_REQUEST)
        quiet = {"enabled": True, "start_time": "17:00", "end_time": "09:00", "timezone": "UTC"}
        assert vendor.asked[0].body == {**DOCUMENTED_BODY, "quiet_hours": quiet}
        told = {"start": "09:00", "end": "17:00", "days": [0, 1, 2, 3, 4, 5, 6], "timezone": "UTC"}
        assert vendor.asked[1].body == {**DOCUMENTED_BODY, "window": told, "max_concurrency": 3, "retry_of": "b0"}

    @pytest.mark.parametrize("status", sorted(set(BatchStatus) - {BatchStatus.DRAFT, BatchStatus.SCHEDULED}))
    async def test_the_list_of_a_batch_call_that_started_is_not_replaced(
        self, vendor: Vendor, zudu: ZuduBackend, status: BatchStatus
    ) -> None:
        with pytest.raises(IllegalTransition, match="Nothing was sent"):
            await zudu.update(at(status), BatchCallRequest(tasks=(TASK,)))
        assert vendor.asked == []

    @BOTH
    @pytest.mark.parametrize(
        "request_",
        [
            BatchCallRequest(status=BatchStatus.DRAFT, send_now=True),
            BatchCallRequest(status=BatchStatus.SCHEDULED),
            BatchCallRequest(status=BatchStatus.SCHEDULED, tasks=(TASK,)),
            BatchCallRequest(),
        ],
    )
    async def test_contradictions_are_refused_before_anything_is_sent(
        self, vendor: Vendor, kind: type[BatchCallBackend], request_: BatchCallRequest
    ) -> None:
        async with vendor.http() as http:
            with pytest.raises(InvalidInput, match="Nothing was sent"):
                await kind(http, CREDENTIALS).update(DOCUMENTED, request_)
        assert vendor.asked == []

    async def test_a_new_name_keeps_the_reference_to_the_batch_call_that_it_retries(
        self, vendor: Vendor, zudu: ZuduBackend
    ) -> None:
        await zudu.update(replace(DOCUMENTED, name="Old (retry of batch_call_1)"), BatchCallRequest(name="New"))
        assert vendor.asked[0].body == {"name": "New (retry of batch_call_1)"}


class TestCreate:
    @BOTH
    async def test_without_a_word_about_when_it_asks_for_a_draft_in_so_many_words(
        self, vendor: Vendor, kind: type[BatchCallBackend]
    ) -> None:
        async with vendor.http() as http:
            made = await kind(http, CREDENTIALS).create(PLAIN)
        assert vendor.asked[0].body == {
            "from_number": "+14157774444",
            "tasks": [{"to_number": "+12137774445"}],
            "status": "draft",
            "send_now": False,
        }
        assert made.status is BatchStatus.DRAFT
        assert made.notes == ()

    async def test_times_go_out_in_milliseconds(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        await zudu.create(replace(PLAIN, trigger_at=AT))
        body = vendor.asked[0].body
        assert (body["status"], body["send_now"], body["trigger_timestamp"]) == ("scheduled", False, AT_MS)

    async def test_now_is_said_only_when_asked_for(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        await zudu.create(replace(PLAIN, send_now=True))
        body = vendor.asked[0].body
        assert (body["status"], body["send_now"], "trigger_timestamp" in body) == ("sent", True, False)

    @BOTH
    @pytest.mark.parametrize(
        "changes",
        [
            {"from_number": None},
            {"tasks": ()},
            {"tasks": None},
            {"status": BatchStatus.DRAFT, "send_now": True},
            {"status": BatchStatus.DRAFT, "trigger_at": AT},
            {"status": BatchStatus.SCHEDULED},
        ],
    )
    async def test_what_is_missing_or_contradicts_itself_is_refused(
        self, vendor: Vendor, kind: type[BatchCallBackend], changes: dict[str, Any]
    ) -> None:
        async with vendor.http() as http:
            with pytest.raises(InvalidInput, match="Nothing was sent"):
                await kind(http, CREDENTIALS).create(replace(PLAIN, **changes))
        assert vendor.asked == []

    @pytest.mark.parametrize(
        "data",
        [
            {**DOCUMENTED_DATA, "status": "draft"},
            {"batch_call_id": ID, "name": "N", "status": "DRAFT", "total_task_count": 1, "created_at": "2025-01-01"},
        ],
    )
    @pytest.mark.parametrize("wrapped", [True, False])
    async def test_answers_of_every_generation_are_read_with_envelope_or_without(
        self, vendor: Vendor, zudu: ZuduBackend, data: dict[str, Any], wrapped: bool
    ) -> None:
        vendor.answers["POST /batch-call"] = envelope(data) if wrapped else data
        made = await zudu.create(PLAIN)
        assert (made.batch_call_id, made.status, made.counts.total) == (ID, BatchStatus.DRAFT, 1)
        assert made.from_number == "+14157774444"
        assert made.created_at is not None

    async def test_a_draft_that_the_backend_started_is_said_loudly(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers["POST /batch-call"] = envelope({**DOCUMENTED_DATA, "status": "SENT"})
        made = await zudu.create(PLAIN)
        assert (made.status, made.backend_status) == (BatchStatus.RUNNING, "SENT")
        assert "A draft was asked for" in made.notes[-1]

    async def test_an_answer_without_a_status_is_looked_up(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers["POST /batch-call"] = envelope({"batch_call_id": ID})
        made = await zudu.create(PLAIN)
        assert made.status is BatchStatus.SCHEDULED
        assert [asked.method for asked in vendor.asked] == ["POST", "GET"]

    async def test_an_answer_without_an_id_leaves_the_outcome_unknown(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers["POST /batch-call"] = envelope({"status": "draft"})
        with pytest.raises(OutcomeUnknown, match="unknown"):
            await zudu.create(PLAIN)

    async def test_the_idempotency_key_goes_where_it_is_understood(
        self, vendor: Vendor, zudu: ZuduBackend, ours: BatchCallBackend
    ) -> None:
        await zudu.create(PLAIN, "k1")
        await ours.create(PLAIN, "k1")
        assert [asked.headers.get("idempotency-key") for asked in vendor.asked] == [None, "k1"]

    async def test_retry_of_is_a_field_of_ours_and_part_of_the_name_at_zudu(
        self, vendor: Vendor, zudu: ZuduBackend, ours: BatchCallBackend
    ) -> None:
        request = replace(PLAIN, retry_of=ID, name="N" * 255)
        await zudu.create(request)
        await ours.create(request)
        name = vendor.asked[0].body["name"]
        assert name.endswith(f"N (retry of {ID})")
        assert len(name) == 255
        assert "retry_of" not in vendor.asked[0].body
        assert (vendor.asked[1].body["retry_of"], vendor.asked[1].body["name"]) == (ID, "N" * 255)

    @pytest.mark.parametrize(
        ("window", "quiet"),
        [
            (("09:00", "17:00"), (True, "17:00", "09:00")),
            (("22:00", "06:00"), (True, "06:00", "22:00")),
            (("08:00", "24:00"), (True, "00:00", "08:00")),
            (("00:00", "17:00"), (True, "17:00", "00:00")),
            (("00:00", "24:00"), (False, "00:00", "00:00")),
        ],
    )
    async def test_a_window_becomes_the_quiet_hours_around_it_and_back(
        self, vendor: Vendor, zudu: ZuduBackend, window: tuple[str, str], quiet: tuple[bool, str, str]
    ) -> None:
        asked_for = CallingWindow(start=window[0], end=window[1], timezone="Asia/Calcutta")
        vendor.answers["POST /batch-call"] = lambda asked: envelope(asked.body | {"batch_call_id": ID})
        made = await zudu.create(replace(PLAIN, window=asked_for))
        told = vendor.asked[0].body["quiet_hours"]
        assert (told["enabled"], told["start_time"], told["end_time"]) == quiet
        assert told["timezone"] == "Asia/Calcutta"
        assert made.window == (asked_for if quiet[0] else None)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"window": CallingWindow(start="09:00", end="17:00")},
                "one batch call for each time zone: timezones selects",
            ),
            ({"window": CallingWindow(start="09:00", end="17:00", timezone="UTC", days=("mon",))}, "days"),
            ({"max_concurrency": 5}, "max_concurrency"),
            ({"retry": RetryPolicy(max_retries=1, on=("failed",), after_minutes=5)}, "failed"),
            ({"name": "N" * 256}, "255"),
            ({"tasks": (CallTask(to_number="+1", name="Ann"),)}, "name of a task"),
            ({"tasks": (CallTask(to_number="+1", timezone="UTC"),)}, "timezone of a task"),
        ],
    )
    def test_what_zudu_has_no_field_for_is_named(self, changes: dict[str, Any], said: str) -> None:
        assert said in " ".join(unsupported(replace(PLAIN, **changes), ZuduBackend.capabilities))

    async def test_a_retry_policy_says_when_or_is_the_servers_own(
        self, vendor: Vendor, zudu: ZuduBackend, ours: BatchCallBackend
    ) -> None:
        with pytest.raises(InvalidInput, match="after_minutes"):
            await zudu.create(replace(PLAIN, retry=RetryPolicy(max_retries=2)))
        with pytest.raises(InvalidInput, match="exclude"):
            await ours.create(replace(PLAIN, retry=RetryPolicy(max_retries=2, after_minutes=1, at="10:00")))
        assert vendor.asked == []
        await ours.create(replace(PLAIN, retry=RetryPolicy(max_retries=2)))
        assert vendor.asked[0].body["retry_config"] == {"enabled": True, "max_attempts": 2}
        assert "retry_rules" not in vendor.asked[0].body


class TestRead:
    async def test_the_documented_answer_is_read_field_by_field(self, zudu: ZuduBackend) -> None:
        assert await zudu.get(ID) == DOCUMENTED

    @pytest.mark.parametrize("stamp", [AT_MS, AT_MS // 1000, "2025-01-01T08:01:40Z", "2025-01-01T09:01:40+01:00"])
    async def test_times_are_told_apart_by_magnitude(self, vendor: Vendor, zudu: ZuduBackend, stamp: object) -> None:
        vendor.answers[f"GET /batch-call/{ID}"] = envelope({**DOCUMENTED_DATA, "scheduled_timestamp": stamp})
        assert (await zudu.get(ID)).scheduled_at == AT

    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("DRAFT", (BatchStatus.DRAFT, None)),
            ("sent", (BatchStatus.RUNNING, "sent")),
            ("Failed", (BatchStatus.FAILED, None)),
            ("queued", (BatchStatus.UNKNOWN, "queued")),
            (7, (BatchStatus.UNKNOWN, "7")),
            (None, (BatchStatus.UNKNOWN, None)),
        ],
    )
    async def test_an_unknown_status_is_passed_on_and_breaks_nothing(
        self, vendor: Vendor, zudu: ZuduBackend, word: object, expected: tuple[BatchStatus, str | None]
    ) -> None:
        vendor.answers[f"GET /batch-call/{ID}"] = envelope({**DOCUMENTED_DATA, "status": word})
        found = await zudu.get(ID)
        assert (found.status, found.backend_status) == expected

    @pytest.mark.parametrize(
        ("quiet", "window"),
        [
            ({"start_time": "22:00", "end_time": "08:00", "timezone": "Asia/Calcutta"}, ("08:00", "22:00")),
            ({"start_time": "17:00:00", "end_time": "24:00", "timezone": "UTC"}, ("00:00", "17:00")),
            ({"start_time": "17:00", "end_time": "08:00"}, ("08:00", "17:00")),
            ({"start_time": "17", "end_time": "08:00"}, None),
            ({"enabled": False, "start_time": "17:00", "end_time": "08:00"}, None),
        ],
    )
    async def test_quiet_hours_are_read_as_the_window_that_they_leave(
        self, vendor: Vendor, zudu: ZuduBackend, quiet: dict[str, Any], window: tuple[str, str] | None
    ) -> None:
        vendor.answers[f"GET /batch-call/{ID}"] = envelope({**DOCUMENTED_DATA, "quiet_hours": quiet})
        found = await zudu.get(ID)
        assert (found.window and (found.window.start, found.window.end)) == window
        assert bool(found.notes) == (window is None and quiet.get("enabled") is None)

    async def test_a_name_that_carries_a_reference_gives_retry_of(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers[f"GET /batch-call/{ID}"] = envelope({**DOCUMENTED_DATA, "name": "N (retry of b_1)"})
        found = await zudu.get(ID)
        assert (found.name, found.retry_of) == ("N (retry of b_1)", "b_1")

    @pytest.mark.parametrize("batch_call_id", ["..", ".", "", " ", "list", "x" * 300])
    async def test_an_id_that_cannot_be_one_asks_nothing(
        self, vendor: Vendor, zudu: ZuduBackend, batch_call_id: str
    ) -> None:
        with pytest.raises(NotFound, match="Nothing was sent"):
            await zudu.get(batch_call_id)
        assert vendor.asked == []

    async def test_tasks_are_read_without_the_batch_call(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers[f"GET /batch-call/{ID}/tasks"] = envelope({"tasks": []})
        assert (await zudu.tasks(ID, TaskQuery())).tasks == ()
        assert [asked.path for asked in vendor.asked] == [f"/batch-call/{ID}/tasks"]

    async def test_an_error_in_an_envelope_of_success_is_an_error(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers[f"GET /batch-call/{ID}"] = {
            "message": "Not found",
            "status": "error",
            "error": "Batch call does not exist",
            "data": None,
        }
        with pytest.raises(NotFound):
            await zudu.get(ID)


def tasks_page(number: int, style: str, *, total: int, largest: int = 100) -> Any:
    """A vendor's list of `total` tasks, which tells of the rest in one of several ways."""

    def reply(asked: Asked) -> Any:
        page, size = int(asked.query["page"][0]), min(int(asked.query["limit"][0]), largest)
        rows: list[Any] = [
            {"task_id": f"t{n}", "to_number": f"+1{n:010}", "status": ["PENDING", "COMPLETED", "ODD"][n % 3]}
            for n in range(total)
        ]
        if number:
            rows[number] = "not an object"
        shown = rows if style == "ignores paging" else rows[page * size : (page + 1) * size]
        pagination: dict[str, Any] | None = {
            "has_next": {"page": page, "limit": size, "has_next_page": (page + 1) * size < total},
            "total_pages": {"page": page, "limit": size, "total_pages": -(-total // size)},
            "total_count": {"page": page, "limit": size, "total_count": total},
            "smaller pages": {"page": page, "limit": size, "total_count": total},
        }.get(style)
        return envelope({"tasks": shown} | ({"pagination": pagination} if pagination else {}))

    return reply


class TestPaging:
    @pytest.mark.parametrize(
        "style", ["has_next", "total_pages", "total_count", "bare", "smaller pages", "ignores paging"]
    )
    @pytest.mark.parametrize(("limit", "total"), [(7, 250), (100, 300), (200, 250), (20, 21), (100, 1)])
    async def test_every_task_is_read_once_in_order_however_the_server_pages(
        self, vendor: Vendor, zudu: ZuduBackend, style: str, limit: int, total: int
    ) -> None:
        largest = 30 if style == "smaller pages" else 100
        vendor.answers[f"GET /batch-call/{ID}/tasks"] = tasks_page(0, style, total=total, largest=largest)
        found: list[CallTask] = []
        cursor: str | None = None
        for _ in range(total + 1):
            page = await zudu.tasks(ID, TaskQuery(limit=limit, cursor=cursor))
            assert len(page.tasks) <= limit
            found += page.tasks
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [task.task_id for task in found] == [f"t{n}" for n in range(total)]
        assert len(vendor.asked) <= 2 * (total // min(limit, largest) + 2) + 2

    async def test_pages_with_gaps_do_not_stop_the_reading(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        def reply(asked: Asked) -> Any:
            page, size = int(asked.query["page"][0]), int(asked.query["limit"][0])
            rows = [{"task_id": f"t{n}"} for n in range(page * size, (page + 1) * size - 1)]
            return envelope({"tasks": rows, "pagination": {"has_next_page": page < 2}})

        vendor.answers[f"GET /batch-call/{ID}/tasks"] = reply
        found: list[str | None] = []
        cursor: str | None = None
        for _ in range(2):
            page = await zudu.tasks(ID, TaskQuery(limit=200, cursor=cursor))
            found += [task.task_id for task in page.tasks]
            cursor = page.next_cursor
        assert (found, cursor) == ([f"t{n}" for n in range(299) if n not in {99, 199}], None)

    async def test_a_filter_reads_on_and_loses_nothing(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers[f"GET /batch-call/{ID}/tasks"] = tasks_page(0, "total_count", total=250)
        query = TaskQuery(statuses=frozenset({TaskStatus.UNKNOWN}), limit=50)
        first = await zudu.tasks(ID, query)
        assert {task.backend_status for task in first.tasks} == {"ODD"}
        second = await zudu.tasks(ID, replace(query, cursor=first.next_cursor))
        assert second.next_cursor is None
        numbers = [task.task_id for task in first.tasks + second.tasks]
        assert numbers == [f"t{n}" for n in range(250) if n % 3 == 2]
        assert all(asked.query.get("status") is None for asked in vendor.asked)

    async def test_our_dialect_also_lets_the_server_filter(self, vendor: Vendor, ours: BatchCallBackend) -> None:
        vendor.answers[f"GET /batch-call/{ID}/tasks"] = tasks_page(0, "total_count", total=6)
        statuses = frozenset({TaskStatus.PENDING, TaskStatus.BUSY})
        page = await ours.tasks(ID, TaskQuery(statuses=statuses, to_number="+10000000003"))
        assert [task.task_id for task in page.tasks] == ["t3"]
        query = vendor.asked[-1].query
        assert (query["status"], query["to_number"]) == (["busy", "pending"], ["+10000000003"])

    async def test_a_filter_that_finds_nothing_stops_and_can_go_on(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers[f"GET /batch-call/{ID}/tasks"] = tasks_page(0, "total_count", total=5000)
        page = await zudu.tasks(ID, TaskQuery(to_number="+19"))
        assert (page.tasks, page.next_cursor) == ((), "2000")

    async def test_entries_that_are_no_objects_are_counted_and_shift_nothing(
        self, vendor: Vendor, zudu: ZuduBackend
    ) -> None:
        vendor.answers[f"GET /batch-call/{ID}/tasks"] = tasks_page(3, "total_count", total=30)
        page = await zudu.tasks(ID, TaskQuery(limit=10))
        assert [task.task_id for task in page.tasks] == [f"t{n}" for n in range(11) if n != 3]
        assert page.notes == ("1 tasks in the backend's answer could not be read and are not shown.",)

    async def test_the_list_asks_for_newest_first_and_always_for_a_limit(
        self, vendor: Vendor, zudu: ZuduBackend
    ) -> None:
        vendor.answers["GET /batch-call/list"] = envelope({"batch_calls": [DOCUMENTED_DATA], "returned_count": 1})
        page = await zudu.list(ListQuery())
        assert (page.batch_calls, page.next_cursor) == ((DOCUMENTED,), None)
        assert vendor.asked[0].query == {
            "page": ["0"],
            "limit": ["20"],
            "sort_by": ["created_at"],
            "sort_order": ["descending"],
        }

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (ListQuery(status=BatchStatus.RUNNING), ["b1"]),
            (ListQuery(name_contains="SECOND"), ["b2"]),
            (ListQuery(agent_id="a1"), ["b1"]),
            (ListQuery(created_after=datetime(2025, 1, 1, tzinfo=UTC)), ["b2"]),
            (ListQuery(limit=1, cursor="1"), ["b2"]),
        ],
    )
    async def test_filters_are_ours_because_zudus_words_for_them_are_not_known(
        self, vendor: Vendor, zudu: ZuduBackend, query: ListQuery, expected: list[str]
    ) -> None:
        rows = [
            {"batch_call_id": "b1", "status": "SENT", "agent_id": "a1", "name": "first"},
            {"status": "no id"},
            {"batch_call_id": "b2", "status": "draft", "name": "the second", "created_timestamp": AT_MS},
        ]
        if query.cursor:
            del rows[1]

        def reply(asked: Asked) -> Any:
            page, size = int(asked.query["page"][0]), int(asked.query["limit"][0])
            return envelope(
                {"batch_calls": rows[page * size : (page + 1) * size], "pagination": {"total_count": len(rows)}}
            )

        vendor.answers["GET /batch-call/list"] = reply
        page = await zudu.list(query)
        assert [batch_call.batch_call_id for batch_call in page.batch_calls] == expected


class TestActions:
    @BOTH
    @pytest.mark.parametrize("status", [BatchStatus.DRAFT, BatchStatus.SCHEDULED])
    async def test_now_is_execute_and_keeps_what_its_short_answer_leaves_out(
        self, vendor: Vendor, kind: type[BatchCallBackend], status: BatchStatus
    ) -> None:
        async with vendor.http() as http:
            started = await kind(http, CREDENTIALS).start(at(status), None, "k")
        (asked,) = vendor.asked
        assert (asked.method, asked.path, asked.body) == ("POST", f"/batch-call/{ID}/execute", None)
        assert (started.status, started.name) == (BatchStatus.RUNNING, DOCUMENTED.name)
        assert started.started_at == datetime(2025, 1, 1, 8, tzinfo=UTC)

    async def test_a_time_is_a_patch_that_says_scheduled(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        started = await zudu.start(at(BatchStatus.DRAFT), AT)
        assert vendor.asked[0].body == {"trigger_timestamp": AT_MS, "status": "scheduled", "send_now": False}
        assert (started.status, started.scheduled_at) == (BatchStatus.SCHEDULED, AT)

    @BOTH
    @pytest.mark.parametrize("status", sorted(set(BatchStatus) - {BatchStatus.DRAFT, BatchStatus.SCHEDULED}))
    async def test_nothing_else_is_started(
        self, vendor: Vendor, kind: type[BatchCallBackend], status: BatchStatus
    ) -> None:
        async with vendor.http() as http:
            with pytest.raises(IllegalTransition, match="Nothing was sent"):
                kind(http, CREDENTIALS).check_state(Operation.START, None, at(status))
        assert vendor.asked == []

    async def test_zudus_400_for_a_state_is_an_illegal_transition(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        words = "Cannot execute batch call with status COMPLETED"
        vendor.answers[f"POST /batch-call/{ID}/execute"] = refused(400, words)
        with pytest.raises(IllegalTransition, match=words):
            await zudu.start(at(BatchStatus.DRAFT), None)
        vendor.answers[f"POST /batch-call/{ID}/execute"] = refused(400, "trigger_timestamp must be in the future")
        with pytest.raises(InvalidInput, match="future"):
            await zudu.start(at(BatchStatus.DRAFT), None)

    async def test_zudu_takes_back_a_scheduled_one_as_a_draft(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        after = await zudu.cancel(at(BatchStatus.SCHEDULED))
        assert [(asked.method, asked.body) for asked in vendor.asked] == [("PATCH", {"status": "draft"})]
        assert (after.status, after.notes) == (BatchStatus.DRAFT, ())

    async def test_a_cancel_that_came_too_late_is_said(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        vendor.answers[f"PATCH /batch-call/{ID}"] = envelope({**DOCUMENTED_DATA, "status": "SENT"})
        after = await zudu.cancel(at(BatchStatus.SCHEDULED))
        assert after.status is BatchStatus.RUNNING
        assert "may still ring" in after.notes[0]

    async def test_zudu_cannot_stop_what_has_started(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        with pytest.raises(NotSupported, match="Nothing changed"):
            await zudu.cancel(at(BatchStatus.RUNNING))
        for status in (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.UNKNOWN):
            with pytest.raises(IllegalTransition, match="Nothing was sent"):
                await zudu.cancel(at(status))
        assert vendor.asked == []

    async def test_zudu_deletes_drafts_and_completed_ones(self, vendor: Vendor, zudu: ZuduBackend) -> None:
        for status in (BatchStatus.DRAFT, BatchStatus.COMPLETED, BatchStatus.FAILED):
            await zudu.delete(at(status))
        for status in (BatchStatus.SCHEDULED, BatchStatus.RUNNING):
            with pytest.raises(IllegalTransition, match="Nothing was sent"):
                zudu.check_state(Operation.DELETE, None, at(status))
        assert [asked.method for asked in vendor.asked] == ["DELETE"] * 3
        vendor.answers[f"DELETE /batch-call/{ID}"] = refused(400, "Cannot delete batch call with status SENT")
        with pytest.raises(IllegalTransition):
            await zudu.delete(at(BatchStatus.DRAFT))

    async def test_zudu_has_no_pause_resume_or_retry(self, zudu: ZuduBackend) -> None:
        assert zudu.capabilities.operations.isdisjoint({Operation.PAUSE, Operation.RESUME, Operation.RETRY})

    async def test_our_extensions_have_their_paths(self, vendor: Vendor, ours: BatchCallBackend) -> None:
        for action in ("pause", "resume", "cancel", "retry"):
            vendor.answers[f"POST /batch-call/{ID}/{action}"] = envelope({**DOCUMENTED_DATA, "status": "paused"})
        assert (await ours.pause(DOCUMENTED)).status is BatchStatus.PAUSED
        await ours.resume(DOCUMENTED)
        await ours.cancel(DOCUMENTED)
        await ours.retry(at(BatchStatus.COMPLETED), ("t1", "t2"), "k")
        assert [asked.path.rpartition("/")[2] for asked in vendor.asked] == ["pause", "resume", "cancel", "retry"]
        assert (vendor.asked[3].body, vendor.asked[3].headers["idempotency-key"]) == ({"task_ids": ["t1", "t2"]}, "k")

    @pytest.mark.parametrize("status", [404, 405])
    @pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
    async def test_a_server_without_an_extension_says_so(
        self, vendor: Vendor, ours: BatchCallBackend, status: int, action: str
    ) -> None:
        vendor.answers[f"POST /batch-call/{ID}/{action}"] = Status(status, {"detail": "Not Found"})
        with pytest.raises(NotSupported, match=f"this server has no {action}. Nothing changed"):
            await getattr(ours, action)(replace(DOCUMENTED, status=BatchStatus.RUNNING))

    @pytest.mark.parametrize("status", [404, 405])
    async def test_what_is_scheduled_goes_back_to_draft_on_a_server_without_cancel(
        self, vendor: Vendor, ours: BatchCallBackend, status: int
    ) -> None:
        vendor.answers[f"POST /batch-call/{ID}/cancel"] = Status(status, {"detail": "Not Found"})
        vendor.answers[f"PATCH /batch-call/{ID}"] = envelope({**DOCUMENTED_DATA, "status": "draft"})

        assert (await ours.cancel(replace(DOCUMENTED, status=BatchStatus.SCHEDULED))).status is BatchStatus.DRAFT
        assert (vendor.asked[-1].method, vendor.asked[-1].body) == ("PATCH", {"status": "draft"})

    async def test_a_batch_call_that_is_not_there_is_not_a_missing_extension(
        self, vendor: Vendor, ours: BatchCallBackend
    ) -> None:
        del vendor.answers[f"GET /batch-call/{ID}"]
        with pytest.raises(NotFound):
            await ours.pause(DOCUMENTED)


class TestAccount:
    async def test_zudus_lists_are_read_with_the_variables_that_agents_need(
        self, vendor: Vendor, zudu: ZuduBackend
    ) -> None:
        vendor.answers["POST /api/phone-numbers/list"] = envelope(
            {"phone_numbers": [{"phone_number": "+1", "nickname": "Main", "outbound_agent_id": "a1"}, {}, 5]}
        )
        vendor.answers["GET /api/agents"] = envelope(
            {
                "agents": [
                    {
                        "agent_id": "a1",
                        "agent_name": "Ann",
                        "begin_message_variables": ["first_name"],
                        "test_variables": {"first_name": "x", "city": "y"},
                        "llm_config": {"system_message_variables": [{"name": "plan"}]},
                    },
                    {"agent_id": "a2"},
                ],
                "pagination": {"total_count": 300},
            }
        )
        account = await zudu.account()
        assert account.numbers is not None
        assert [(number.from_number, number.agent_id) for number in account.numbers] == [("+1", "a1")]
        assert account.agents is not None
        assert [agent.variables for agent in account.agents] == [("first_name", "city", "plan"), None]
        assert account.notes == ("Only the first 2 agents were read.",)

    @BOTH
    async def test_parts_that_cannot_be_read_are_notes(self, vendor: Vendor, kind: type[BatchCallBackend]) -> None:
        async with vendor.http() as http:
            account = await kind(http, CREDENTIALS).account()
        assert (account.numbers, account.agents, len(account.notes)) == (None, None, 2)

    async def test_our_servers_account_is_asked_first(self, vendor: Vendor, ours: BatchCallBackend) -> None:
        vendor.answers["GET /account"] = envelope(
            {"organization_id": "o", "carrier": "simulated", "places_real_calls": False, "numbers": None, "agents": []}
        )
        account = await ours.account()
        assert (account.organization_id, account.numbers, account.agents) == ("o", None, ())
        assert "no phone rings" in account.notes[0]
        assert len(vendor.asked) == 1


LATER = datetime(2025, 2, 1, tzinfo=UTC)
PEOPLE = BatchCallRequest(tasks=(TASK,))
DRAFT, SCHEDULED, RUNNING = at(BatchStatus.DRAFT), at(BatchStatus.SCHEDULED), at(BatchStatus.RUNNING)


@pytest.mark.parametrize(
    ("operation", "request_", "current", "expected"),
    [
        (Operation.CREATE, PLAIN, None, Never()),
        (Operation.CREATE, None, None, Now()),
        (Operation.CREATE, replace(PLAIN, send_now=True), None, Now()),
        (Operation.CREATE, replace(PLAIN, send_now=False), None, Never()),
        (Operation.CREATE, replace(PLAIN, trigger_at=LATER), None, At(LATER)),
        (Operation.CREATE, replace(PLAIN, status=BatchStatus.DRAFT), None, Never()),
        (Operation.START, BatchCallRequest(send_now=True), DRAFT, Now()),
        (Operation.START, BatchCallRequest(trigger_at=LATER), DRAFT, At(LATER)),
        (Operation.START, BatchCallRequest(), DRAFT, Now()),
        (Operation.START, None, DRAFT, Now()),
        (Operation.RESUME, None, at(BatchStatus.PAUSED), Now()),
        (Operation.RETRY, BatchCallRequest(), at(BatchStatus.COMPLETED), Now()),
        (Operation.UPDATE, BatchCallRequest(name="n"), RUNNING, Never()),
        (Operation.UPDATE, BatchCallRequest(tasks=(TASK,)), RUNNING, Now()),
        (Operation.UPDATE, BatchCallRequest(agent_id="a"), RUNNING, Now()),
        (Operation.UPDATE, BatchCallRequest(tasks=(TASK,)), at(BatchStatus.UNKNOWN), Now()),
        (Operation.UPDATE, BatchCallRequest(tasks=(TASK,)), DRAFT, Never()),
        (Operation.UPDATE, BatchCallRequest(tasks=(TASK,)), SCHEDULED, At(AT)),
        (Operation.UPDATE, BatchCallRequest(tasks=(TASK,)), replace(SCHEDULED, scheduled_at=None), Now()),
        (Operation.UPDATE, BatchCallRequest(name="n"), SCHEDULED, Never()),
        (Operation.UPDATE, BatchCallRequest(name="n"), None, Now()),
        (Operation.UPDATE, BatchCallRequest(trigger_at=LATER), DRAFT, At(LATER)),
        (Operation.UPDATE, BatchCallRequest(trigger_at=LATER, name="n"), SCHEDULED, At(LATER)),
        (Operation.UPDATE, BatchCallRequest(send_now=True), DRAFT, Now()),
        (Operation.UPDATE, BatchCallRequest(send_now=True, trigger_at=LATER), DRAFT, Now()),
        (Operation.UPDATE, BatchCallRequest(status=BatchStatus.SCHEDULED), DRAFT, Now()),
        (Operation.UPDATE, BatchCallRequest(status=BatchStatus.DRAFT), SCHEDULED, Never()),
        (Operation.UPDATE, DOCUMENTED_REQUEST, DRAFT, At(AT)),
        (Operation.APPEND, PEOPLE, DRAFT, Never()),
        (Operation.APPEND, PEOPLE, at(BatchStatus.PAUSED), Never()),
        (Operation.APPEND, PEOPLE, SCHEDULED, At(AT)),
        (Operation.APPEND, PEOPLE, replace(SCHEDULED, scheduled_at=None), Now()),
        *((Operation.APPEND, PEOPLE, at(BatchStatus(one)), Now()) for one in ("running", "recurring", "unknown")),
        (Operation.APPEND, None, DRAFT, Now()),
        (Operation.APPEND, PEOPLE, None, Now()),
        *((operation, None, RUNNING, Never()) for operation in (Operation.PAUSE, Operation.CANCEL, Operation.DELETE)),
        *((operation, None, None, Never()) for operation in (Operation.GET, Operation.LIST, Operation.ACCOUNT)),
    ],
)
async def test_dials_knows_what_makes_a_phone_ring(
    zudu: ZuduBackend,
    operation: Operation,
    request_: BatchCallRequest | None,
    current: BatchCall | None,
    expected: Dials,
) -> None:
    assert zudu.dials(operation, request_, current) == expected
