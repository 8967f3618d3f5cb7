"""Magpipe: the documented get, exact bodies, and every place where its documents and its source disagree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from batchcall_mcp.backends.base import At, Dials, Never, Now
from batchcall_mcp.backends.capabilities import Operation, unsupported
from batchcall_mcp.backends.vendors.magpipe import MagpipeBackend
from batchcall_mcp.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    BatchCallError,
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    UnexpectedResponse,
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
)
from tests.backends.recorder import CREDENTIALS, Asked, Status, Vendor

ID = "f1e2d3c4-5678-9012-3456-789012345678"
DOCUMENTED_BATCH = {
    "id": ID,
    "name": "Appointment Reminders",
    "caller_id": "+16045551234",
    "status": "running",
    "send_now": True,
    "total_recipients": 3,
    "completed_count": 1,
    "failed_count": 0,
    "window_start_time": "09:00",
    "window_end_time": "17:00",
    "window_days": [1, 2, 3, 4, 5],
    "reserved_concurrency": 5,
    "created_at": "2024-02-15T09:00:00.000Z",
    "started_at": "2024-02-15T09:00:05.000Z",
}
DOCUMENTED_RECIPIENTS = [
    {
        "id": "r1-uuid",
        "phone_number": "+14155551234",
        "name": "John Doe",
        "status": "completed",
        "call_record_id": "call-uuid-1",
        "attempted_at": "2024-02-15T09:00:10.000Z",
        "completed_at": "2024-02-15T09:03:45.000Z",
    },
    {
        "id": "r2-uuid",
        "phone_number": "+12125559876",
        "name": "Jane Smith",
        "status": "calling",
        "call_record_id": "call-uuid-2",
        "attempted_at": "2024-02-15T09:04:00.000Z",
    },
    {"id": "r3-uuid", "phone_number": "+13105557890", "name": "Bob Wilson", "status": "pending"},
]
CURRENT = BatchCall(batch_call_id=ID, status=BatchStatus.DRAFT, name="N", from_number="+16045551234")
PLAIN = BatchCallRequest(name="N", from_number="+16045551234", tasks=(CallTask(to_number="+14155551234", name="Jo"),))
AT = datetime(2026, 12, 1, 9, tzinfo=UTC)
SUCCESS = {"success": True, "message": "OK"}


class Magpipe(Vendor):
    """Answers by action; `states` are the statuses that one `get` after the other tells."""

    def __init__(self, *states: str, **actions: Any) -> None:
        super().__init__()
        self.states = list(states)
        self.actions = actions
        self.answers["POST /functions/v1/batch-calls"] = self.act
        numbers = [{"phone_number": "+16045551234", "agent_id": "a1", "is_active": True}]
        self.answers["POST /functions/v1/list-phone-numbers"] = {"numbers": numbers, "total": 1}
        self.answers["POST /functions/v1/list-agents"] = {"agents": [{"id": "a1", "name": "Ann"}]}

    def act(self, asked: Asked) -> Any:
        action = asked.body["action"]
        if action in self.actions:
            return self.actions[action]
        if action == "get":
            status = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return {"batch": {**DOCUMENTED_BATCH, "status": status}, "recipients": DOCUMENTED_RECIPIENTS, "runs": None}
        if action in {"create", "update"}:
            return {"batch": {**DOCUMENTED_BATCH, "status": "draft", **asked.body}}
        return SUCCESS

    @property
    def sent(self) -> list[str]:
        """Actions asked for, in order."""
        return [asked.body["action"] for asked in self.asked if "action" in asked.body]


@pytest.fixture
def vendor() -> Magpipe:
    return Magpipe("running")


@pytest.fixture
async def magpipe(vendor: Magpipe) -> AsyncIterator[MagpipeBackend]:
    async with vendor.http("http://vendor/functions/v1") as http:
        yield MagpipeBackend(http, CREDENTIALS)


def at(status: BatchStatus) -> BatchCall:
    return replace(CURRENT, status=status)


async def test_get_asks_exactly_the_documented_body_with_the_key_as_bearer(
    vendor: Magpipe, magpipe: MagpipeBackend
) -> None:
    found = await magpipe.get(ID)
    (asked,) = vendor.asked
    assert (asked.method, asked.path) == ("POST", "/functions/v1/batch-calls")
    assert asked.body == {"action": "get", "batch_id": ID}
    assert asked.headers["authorization"] == "Bearer sk_test"
    assert not any("s3cr3t" in value for value in asked.headers.values())
    assert found == BatchCall(
        batch_call_id=ID,
        status=BatchStatus.RUNNING,
        name="Appointment Reminders",
        from_number="+16045551234",
        created_at=datetime(2024, 2, 15, 9, tzinfo=UTC),
        started_at=datetime(2024, 2, 15, 9, 0, 5, tzinfo=UTC),
        window=CallingWindow(start="09:00", end="17:00", days=("mon", "tue", "wed", "thu", "fri"), timezone="UTC"),
        counts=Counts(
            total=3, pending=1, calling=1, sent=2, completed=1, no_answer=0, busy=0, failed=0, skipped=0, not_reached=0
        ),
        notes=("Magpipe counts a call that a machine answered as completed.",),
    )
    page = await magpipe.tasks(ID, TaskQuery())
    assert vendor.asked[1].body == asked.body
    assert page.tasks[1] == CallTask(
        to_number="+12125559876",
        name="Jane Smith",
        task_id="r2-uuid",
        status=TaskStatus.CALLING,
        call_id="call-uuid-2",
        attempted_at=datetime(2024, 2, 15, 9, 4, tzinfo=UTC),
    )
    assert ([task.task_id for task in page.tasks], page.next_cursor) == (["r1-uuid", "r2-uuid", "r3-uuid"], None)


@pytest.mark.parametrize(
    ("word", "status", "raw"),
    [
        ("initiated", TaskStatus.CALLING, "initiated"),
        ("ringing", TaskStatus.CALLING, "ringing"),
        ("in_progress", TaskStatus.CALLING, "in_progress"),
        ("busy", TaskStatus.BUSY, None),
        ("no_answer", TaskStatus.NO_ANSWER, None),
        ("skipped", TaskStatus.SKIPPED, None),
        ("hungup", TaskStatus.UNKNOWN, "hungup"),
        (None, TaskStatus.UNKNOWN, None),
    ],
)
async def test_every_word_for_a_recipient_is_read(
    vendor: Magpipe, magpipe: MagpipeBackend, word: str | None, status: TaskStatus, raw: str | None
) -> None:
    vendor.actions["get"] = {"batch": DOCUMENTED_BATCH, "recipients": [{"phone_number": "+1", "status": word}, 5]}
    found, page = await magpipe.get(ID), await magpipe.tasks(ID, TaskQuery())
    assert [(task.status, task.backend_status) for task in page.tasks] == [(status, raw)]
    assert found.notes[0] == "1 recipients in Magpipe's answer could not be read and are not shown."


@pytest.mark.parametrize(
    ("told", "window", "note"),
    [
        (("09:00:00", "17:00:00", [0, 6]), ("09:00", "17:00", ("sat", "sun")), None),
        (("00:00:00", "23:59:00", [0, 1, 2, 3, 4, 5, 6]), None, None),
        (("08:00", "23:59", None), ("08:00", "24:00", ("mon", "tue", "wed", "thu", "fri", "sat", "sun")), None),
        (("09:00", "17:00", []), ("09:00", "17:00", ()), "nobody is called"),
        (("22:00", "06:00", [1]), ("22:00", "06:00", ("mon",)), "never finds open"),
        ((None, "x", 5), None, None),
    ],
)
async def test_a_window_is_read_as_the_database_spells_it(
    vendor: Magpipe, magpipe: MagpipeBackend, told: tuple[Any, Any, Any], window: Any, note: str | None
) -> None:
    named = dict(zip(("window_start_time", "window_end_time", "window_days"), told, strict=True))
    vendor.actions["get"] = {"batch": {**DOCUMENTED_BATCH, **named}, "recipients": []}
    found = await magpipe.get(ID)
    read = found.window and (found.window.start, found.window.end, found.window.days)
    assert read == window
    assert [note in said for said in found.notes] == [True] if note else found.notes == ()


async def test_a_recurring_series_says_that_every_run_calls_everybody(vendor: Magpipe, magpipe: MagpipeBackend) -> None:
    vendor.actions["get"] = {"batch": {**DOCUMENTED_BATCH, "status": "recurring"}, "recipients": [], "runs": [{}, {}]}
    found = await magpipe.get(ID)
    assert found.status is BatchStatus.RECURRING
    assert "2 runs" in found.notes[0]


async def test_recipients_of_another_batch_call_are_not_shown(vendor: Magpipe, magpipe: MagpipeBackend) -> None:
    strangers = [{**one, "batch_id": "another"} for one in DOCUMENTED_RECIPIENTS]
    vendor.actions["get"] = {"batch": DOCUMENTED_BATCH, "recipients": strangers}
    with pytest.raises(UnexpectedResponse, match="another batch call"):
        await magpipe.get(ID)
    with pytest.raises(UnexpectedResponse, match="another batch call"):
        await magpipe.tasks(ID, TaskQuery())


async def test_without_recipients_the_counters_of_the_row_are_told(vendor: Magpipe, magpipe: MagpipeBackend) -> None:
    vendor.actions["get"] = {"batch": DOCUMENTED_BATCH}
    assert (await magpipe.get(ID)).counts == Counts(total=3, completed=1, failed=0)
    with pytest.raises(UnexpectedResponse, match="without a list of recipients"):
        await magpipe.tasks(ID, TaskQuery())


class TestCreate:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({}, {"status": "draft", "send_now": False}),
            ({"send_now": False}, {"status": "draft", "send_now": False}),
            (
                {"trigger_at": AT},
                {"status": "scheduled", "send_now": False, "scheduled_at": "2026-12-01T09:00:00.000Z"},
            ),
            ({"send_now": True}, {"status": "running", "send_now": True}),
        ],
    )
    async def test_status_and_send_now_are_always_named_because_together_they_decide(
        self, vendor: Magpipe, magpipe: MagpipeBackend, changes: dict[str, Any], words: dict[str, Any]
    ) -> None:
        made = await magpipe.create(replace(PLAIN, **changes))
        assert vendor.asked[0].body == {
            "action": "create",
            "name": "N",
            "caller_id": "+16045551234",
            "recipients": [{"phone_number": "+14155551234", "name": "Jo"}],
            **words,
        }
        assert (made.batch_call_id, made.status, made.notes) == (ID, words["status"], ())

    async def test_another_status_than_asked_for_is_said(self, vendor: Magpipe, magpipe: MagpipeBackend) -> None:
        vendor.actions["create"] = {"batch": {**DOCUMENTED_BATCH, "status": "running"}}
        assert "Magpipe says running" in (await magpipe.create(PLAIN)).notes[-1]

    async def test_a_name_is_made_up_because_magpipe_requires_one_and_carries_the_reference(
        self, vendor: Magpipe, magpipe: MagpipeBackend
    ) -> None:
        made = await magpipe.create(replace(PLAIN, name=None, retry_of="b-1"))
        assert vendor.asked[0].body["name"] == "Batch call of 1 tasks (retry of b-1)"
        assert made.retry_of == "b-1"

    async def test_a_window_is_sent_in_utc_with_sunday_as_zero(self, vendor: Magpipe, magpipe: MagpipeBackend) -> None:
        window = CallingWindow(start="09:00", end="24:00", days=("sun", "mon"), timezone="UTC")
        await magpipe.create(replace(PLAIN, window=window, max_concurrency=5))
        body = vendor.asked[0].body
        assert (body["window_start_time"], body["window_end_time"], body["window_days"]) == ("09:00", "23:59", [0, 1])
        assert body["max_concurrency"] == 5

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"window": CallingWindow(start="09:00", end="17:00")}, "UTC only"),
            ({"window": CallingWindow(start="22:00", end="06:00", timezone="UTC")}, "midnight"),
            ({"max_concurrency": 6}, "5 at most"),
            ({"retry": RetryPolicy(max_retries=1)}, "redial"),
            ({"tasks": (CallTask(to_number="+1", dynamic_variables={"a": "b"}),)}, "dynamic_variables"),
            ({"tasks": (CallTask(to_number="+1", max_retries=1),)}, "max_retries"),
            ({"tasks": (CallTask(to_number="+1", timezone="UTC"),)}, "timezone of a task"),
        ],
    )
    def test_what_magpipe_would_ignore_or_cut_is_named(self, changes: dict[str, Any], said: str) -> None:
        assert said in " ".join(unsupported(replace(PLAIN, **changes), MagpipeBackend.capabilities))

    async def test_an_agent_that_would_not_speak_is_refused(self, vendor: Magpipe, magpipe: MagpipeBackend) -> None:
        with pytest.raises(NotSupported, match=r"agent a1 speaks.* Nothing was sent"):
            await magpipe.create(replace(PLAIN, agent_id="a2"))
        assert vendor.sent == []

    async def test_the_agent_of_the_number_is_accepted(self, vendor: Magpipe, magpipe: MagpipeBackend) -> None:
        await magpipe.create(replace(PLAIN, agent_id="a1"))
        assert vendor.asked[-1].body["agent_id"] == "a1"

    @pytest.mark.parametrize(
        ("answer", "error", "words"),
        [
            (Status(500, {"error": "x"}), BackendUnavailable, "Try again later"),
            ({"numbers": 5}, NotSupported, "could not be read"),
        ],
    )
    async def test_an_agent_that_cannot_be_checked_is_refused_with_the_reason(
        self, vendor: Magpipe, magpipe: MagpipeBackend, answer: Any, error: type[BatchCallError], words: str
    ) -> None:
        vendor.answers["POST /functions/v1/list-phone-numbers"] = answer
        with pytest.raises(error, match=words):
            await magpipe.create(replace(PLAIN, agent_id="a1"))
        assert vendor.sent == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"tasks": ()},
            {"from_number": None},
            {"tasks": tuple(CallTask(to_number=f"+1{n}") for n in range(501))},
            {"status": BatchStatus.SCHEDULED},
            {"status": BatchStatus.DRAFT, "send_now": True},
            {"status": BatchStatus.DRAFT, "trigger_at": AT},
            {"send_now": True, "trigger_at": AT},
            {"window": CallingWindow(start="09:00", end="17:00", days=(), timezone="UTC")},
        ],
    )
    async def test_what_is_missing_contradicts_itself_or_would_never_dial_is_refused(
        self, vendor: Magpipe, magpipe: MagpipeBackend, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInput, match="Nothing was sent"):
            await magpipe.create(replace(PLAIN, **changes))
        assert vendor.asked == []

    @pytest.mark.parametrize("answer", [{}, {"batch": None}, {"batch": {"name": "no id"}}])
    async def test_a_success_without_a_batch_leaves_the_outcome_unknown(
        self, vendor: Magpipe, magpipe: MagpipeBackend, answer: Any
    ) -> None:
        vendor.actions["create"] = answer
        with pytest.raises(OutcomeUnknown):
            await magpipe.create(PLAIN)


class TestStart:
    @pytest.mark.parametrize("status", [BatchStatus.DRAFT, BatchStatus.SCHEDULED])
    async def test_a_draft_and_a_scheduled_one_start_now_after_a_last_look(self, status: BatchStatus) -> None:
        vendor = Magpipe(status.value, "running")
        async with vendor.http("http://vendor/functions/v1") as http:
            started = await MagpipeBackend(http, CREDENTIALS).start(at(status), None)
        assert vendor.sent == ["get", "start", "get"]
        assert started.status is BatchStatus.RUNNING

    @pytest.mark.parametrize("status", sorted(set(BatchStatus) - {BatchStatus.DRAFT, BatchStatus.SCHEDULED}))
    async def test_whatever_would_call_everybody_again_is_never_started(
        self, vendor: Magpipe, magpipe: MagpipeBackend, status: BatchStatus
    ) -> None:
        with pytest.raises(IllegalTransition, match="Nothing was sent") as caught:
            magpipe.check_state(Operation.START, None, at(status))
        assert vendor.asked == []
        if status in {BatchStatus.COMPLETED, BatchStatus.CANCELLED, BatchStatus.FAILED}:
            assert "retry_batch_call" in caught.value.message

    async def test_what_finished_since_it_was_read_is_not_started(self) -> None:
        vendor = Magpipe("completed")
        async with vendor.http("http://vendor/functions/v1") as http:
            with pytest.raises(IllegalTransition, match="Nothing was sent"):
                await MagpipeBackend(http, CREDENTIALS).start(CURRENT, None)
        assert vendor.sent == ["get"]

    async def test_a_time_cannot_be_given_to_a_stored_draft(self, vendor: Magpipe, magpipe: MagpipeBackend) -> None:
        with pytest.raises(NotSupported, match="Nothing was sent"):
            await magpipe.start(CURRENT, AT)
        assert vendor.asked == []

    async def test_a_restart_that_happened_all_the_same_is_said_loudly(self) -> None:
        vendor = Magpipe("draft", "running", start={"success": True, "message": "Batch re-started"})
        async with vendor.http("http://vendor/functions/v1") as http:
            started = await MagpipeBackend(http, CREDENTIALS).start(CURRENT, None)
        assert "AGAIN" in started.notes[-1]

    async def test_a_400_for_a_state_is_an_illegal_transition(self) -> None:
        refusal = Status(400, {"error": "Cannot start batch in recurring status"})
        vendor = Magpipe("draft", start=refusal)
        async with vendor.http("http://vendor/functions/v1") as http:
            with pytest.raises(IllegalTransition, match="recurring"):
                await MagpipeBackend(http, CREDENTIALS).start(CURRENT, None)

    async def test_a_start_that_cannot_be_read_back_is_not_an_error(self) -> None:
        vendor = Magpipe("draft")
        answers = [{"batch": {**DOCUMENTED_BATCH, "status": "draft"}, "recipients": []}, Status(503, {})]
        vendor.answers["POST /functions/v1/batch-calls"] = lambda asked: (
            answers[min(vendor.sent.count("get"), 2) - 1] if asked.body["action"] == "get" else SUCCESS
        )
        async with vendor.http("http://vendor/functions/v1") as http:
            started = await MagpipeBackend(http, CREDENTIALS).start(CURRENT, None)
        assert started.status is BatchStatus.UNKNOWN
        assert "could not be read back" in started.notes[-1]


class TestSeriesAndCancel:
    async def test_only_a_series_is_paused_and_resumed_and_the_result_is_looked_at(self) -> None:
        vendor = Magpipe("paused", "recurring")
        async with vendor.http("http://vendor/functions/v1") as http:
            magpipe = MagpipeBackend(http, CREDENTIALS)
            assert (await magpipe.pause(at(BatchStatus.RECURRING))).status is BatchStatus.PAUSED
            assert (await magpipe.resume(at(BatchStatus.PAUSED))).status is BatchStatus.RECURRING
        assert vendor.sent == ["pause_series", "get", "resume_series", "get"]

    async def test_a_success_that_matched_nothing_is_an_error(self) -> None:
        vendor = Magpipe("recurring")
        async with vendor.http("http://vendor/functions/v1") as http:
            with pytest.raises(IllegalTransition, match="still recurring"):
                await MagpipeBackend(http, CREDENTIALS).pause(at(BatchStatus.RECURRING))

    @pytest.mark.parametrize("status", [BatchStatus.RUNNING, BatchStatus.DRAFT, BatchStatus.COMPLETED])
    async def test_an_ordinary_batch_call_has_no_pause(
        self, vendor: Magpipe, magpipe: MagpipeBackend, status: BatchStatus
    ) -> None:
        with pytest.raises(NotSupported, match="Nothing was sent"):
            await magpipe.pause(at(status))
        with pytest.raises(NotSupported, match="Nothing was sent"):
            magpipe.check_state(Operation.RESUME, None, at(status))
        assert vendor.asked == []

    async def test_cancel_is_sent_and_looked_at(self) -> None:
        vendor = Magpipe("cancelled", cancel={**SUCCESS, "cancelled_children": 2})
        async with vendor.http("http://vendor/functions/v1") as http:
            after = await MagpipeBackend(http, CREDENTIALS).cancel(at(BatchStatus.RECURRING))
        assert (vendor.sent, after.status) == (["cancel", "get"], BatchStatus.CANCELLED)
        assert "2 runs" in after.notes[-1]

    async def test_a_cancel_that_changed_nothing_is_said(self, magpipe: MagpipeBackend) -> None:
        after = await magpipe.cancel(at(BatchStatus.RUNNING))
        assert "but the batch call is running" in after.notes[-1]


class TestUpdate:
    async def test_only_what_is_given_is_sent(self, vendor: Magpipe, magpipe: MagpipeBackend) -> None:
        window = CallingWindow(start="09:00", end="10:00", timezone="UTC", days=("mon",))
        updated = await magpipe.update(at(BatchStatus.RECURRING), BatchCallRequest(name="New", window=window))
        assert vendor.asked[0].body == {
            "action": "update",
            "batch_id": ID,
            "name": "New",
            "window_start_time": "09:00",
            "window_end_time": "10:00",
            "window_days": [1],
        }
        assert updated.name == "New"

    @pytest.mark.parametrize(
        "request_",
        [
            BatchCallRequest(tasks=PLAIN.tasks),
            BatchCallRequest(status=BatchStatus.DRAFT),
            BatchCallRequest(max_concurrency=2),
            BatchCallRequest(trigger_at=AT),
            BatchCallRequest(send_now=True),
            BatchCallRequest(timezone="UTC"),
        ],
    )
    def test_a_field_that_magpipe_silently_ignores_is_not_among_those_it_changes(
        self, request_: BatchCallRequest
    ) -> None:
        given = {one.name for one in fields(request_) if getattr(request_, one.name) is not None}
        assert given.isdisjoint(MagpipeBackend.capabilities.update_fields)

    @pytest.mark.parametrize("status", sorted(set(BatchStatus) - {BatchStatus.DRAFT, BatchStatus.RECURRING}))
    async def test_only_drafts_and_series_are_changed(
        self, vendor: Magpipe, magpipe: MagpipeBackend, status: BatchStatus
    ) -> None:
        with pytest.raises(IllegalTransition, match="Nothing was sent"):
            magpipe.check_state(Operation.UPDATE, BatchCallRequest(name="x"), at(status))
        assert vendor.asked == []

    async def test_a_number_that_is_not_the_accounts_is_refused_because_magpipe_does_not_check(
        self, vendor: Magpipe, magpipe: MagpipeBackend
    ) -> None:
        with pytest.raises(InvalidInput, match="from_number"):
            await magpipe.update(CURRENT, BatchCallRequest(from_number="+1999"))
        assert vendor.sent == []
        await magpipe.update(CURRENT, BatchCallRequest(from_number="+16045551234", agent_id="a1"))
        assert vendor.asked[-1].body["caller_id"] == "+16045551234"


class TestListAndErrors:
    async def test_the_list_goes_on_while_pages_are_full_because_there_is_no_total(
        self, vendor: Magpipe, magpipe: MagpipeBackend
    ) -> None:
        rows = [{**DOCUMENTED_BATCH, "id": f"b{n}", "name": f"n{n % 2}"} for n in range(120)]
        vendor.answers["POST /functions/v1/batch-calls"] = lambda asked: {
            "batches": rows[asked.body["offset"] : asked.body["offset"] + asked.body["limit"]]
        }
        page = await magpipe.list(ListQuery(limit=40, name_contains="n1", status=BatchStatus.RUNNING))
        assert [found.batch_call_id for found in page.batch_calls] == [f"b{n}" for n in range(1, 80, 2)]
        assert page.next_cursor == "80"
        last = await magpipe.list(ListQuery(limit=100, cursor="80"))
        assert (len(last.batch_calls), last.next_cursor) == (40, None)
        assert vendor.asked[0].body == {"action": "list", "status": "running", "limit": 50, "offset": 0}

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (404, {"error": "Batch not found"}, NotFound),
            (400, {"error": "Unknown action: x"}, NotSupported),
            (400, {"error": {"code": "bad", "message": "batch_id is required"}}, InvalidInput),
            (401, {"data": None, "error": {"code": "unauthorized", "message": "Unauthorized"}}, AuthenticationFailed),
            (200, {"error": "Batch not found"}, NotFound),
            (200, {"batch": 5}, UnexpectedResponse),
            (200, {}, UnexpectedResponse),
        ],
    )
    async def test_errors_are_read_as_string_and_as_object(
        self, vendor: Magpipe, magpipe: MagpipeBackend, status: int, body: Any, error: type[BatchCallError]
    ) -> None:
        vendor.actions["get"] = Status(status, body)
        with pytest.raises(BatchCallError) as caught:
            await magpipe.get(ID)
        assert type(caught.value) is error

    async def test_the_account_tells_which_agent_speaks_on_a_number(
        self, vendor: Magpipe, magpipe: MagpipeBackend
    ) -> None:
        account = await magpipe.account()
        assert account.numbers is not None
        assert account.agents is not None
        assert [(number.from_number, number.agent_id) for number in account.numbers] == [("+16045551234", "a1")]
        assert [agent.agent_id for agent in account.agents] == ["a1"]
        vendor.answers["POST /functions/v1/list-agents"] = Status(500, {"error": "x"})
        assert "agents could not be read" in (await magpipe.account()).notes[0]
        vendor.answers["POST /functions/v1/list-agents"] = Status(401, {"error": "x"})
        with pytest.raises(AuthenticationFailed):
            await magpipe.account()


@pytest.mark.parametrize(
    ("operation", "request_", "current", "expected"),
    [
        (Operation.CREATE, PLAIN, None, Never()),
        (Operation.CREATE, replace(PLAIN, send_now=True), None, Now()),
        (Operation.CREATE, replace(PLAIN, trigger_at=AT), None, At(AT)),
        (Operation.CREATE, None, None, Now()),
        (Operation.START, BatchCallRequest(trigger_at=AT), CURRENT, Now()),
        (Operation.START, None, at(BatchStatus.SCHEDULED), Now()),
        (Operation.RESUME, None, at(BatchStatus.PAUSED), Now()),
        (Operation.RETRY, None, CURRENT, Now()),
        (Operation.UPDATE, BatchCallRequest(name="n"), at(BatchStatus.RECURRING), Never()),
        (Operation.UPDATE, BatchCallRequest(from_number="+1"), at(BatchStatus.RECURRING), Now()),
        (Operation.UPDATE, BatchCallRequest(from_number="+1"), CURRENT, Never()),
        (Operation.UPDATE, BatchCallRequest(name="n"), None, Now()),
        (Operation.CANCEL, None, CURRENT, Never()),
        (Operation.PAUSE, None, CURRENT, Never()),
        (Operation.GET, None, None, Never()),
    ],
)
async def test_dials_knows_what_makes_a_phone_ring(
    magpipe: MagpipeBackend,
    operation: Operation,
    request_: BatchCallRequest | None,
    current: BatchCall | None,
    expected: Dials,
) -> None:
    assert magpipe.dials(operation, request_, current) == expected
