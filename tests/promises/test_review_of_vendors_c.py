"""What a review of the adapters of Cartesia and Speechify found, by their published documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.vendors.cartesia import CartesiaBackend
from batchcall_mcp.backends.vendors.speechify import SpeechifyBackend
from batchcall_mcp.errors import (
    BatchCallError,
    IllegalTransition,
    NotFound,
    OutcomeUnknown,
    UnexpectedResponse,
)
from batchcall_mcp.model import BatchCallRequest, BatchStatus, CallTask, TaskQuery, TaskStatus
from tests.backends.recorder import CREDENTIALS, Status, Vendor

ANN, BOB = "+14155550110", "+14155550111"
NUMBER, NUMBER_ID = "+14155550100", "ap_Q8PRh7lXyZsawXJmN2KcT5"
BATCH, CALL = "acb_PDWFN995PzAudChwFDqVZ2", "ac_1"
AT_CARTESIA, AT_SPEECHIFY = "/agents/calls/batches", "/v1/agents/batch-calls"
OURS = "batch_01hs0000000000000000000000"
NUMBERS: Mapping[str, Any] = {"GET /agents/phone-numbers": {"data": [{"id": NUMBER_ID, "number": NUMBER}]}}
REQUEST = BatchCallRequest(
    name="N", from_number=NUMBER, agent_id="agent_1", tasks=(CallTask(to_number=ANN),), send_now=True
)
CREATES = (
    (CartesiaBackend, f"POST {AT_CARTESIA}", NUMBERS),
    (
        SpeechifyBackend,
        f"POST {AT_SPEECHIFY}",
        {"GET /v1/agents/phone-numbers": {"numbers": [{"id": "phone_1", "e164": NUMBER}], "has_more": False}},
    ),
)


def batch(*recipients: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """A batch of Cartesia's of which everybody was handed to the dialer."""
    people = [{"id": f"r{at}", "created_at": "2026-03-01T12:00:00Z", **one} for at, one in enumerate(recipients)]
    return {
        "id": BATCH,
        "name": "N",
        "agent_id": "agent_1",
        "from_number_id": NUMBER_ID,
        "status": "completed",
        "total_calls_scheduled": len(people),
        "total_calls_dispatched": len(people),
        "total_calls_finished": len(people),
        "retry_count": 0,
        "created_at": "2026-03-01T12:00:00Z",
        "recipients": people,
        **members,
    }


def call(**members: Any) -> dict[str, Any]:
    """A call of Cartesia's."""
    return {"id": CALL, "agent_id": "agent_1", "status": "completed", "telephony_params": {"to": ANN}, **members}


class TestCartesia:
    async def test_numbers_that_come_as_a_bare_array_are_read(self) -> None:
        """The pages have both forms; without the number's id no create is possible."""
        vendor = Vendor({"GET /agents/phone-numbers": [[{"id": NUMBER_ID, "number": NUMBER, "label": "Main"}]]})
        async with vendor.http() as http:
            (found,) = await CartesiaBackend(http, CREDENTIALS).numbers()
        assert (found.from_number, found.number_id) == (NUMBER, NUMBER_ID)

    @pytest.mark.parametrize("members", [{"zdr_enabled": True}, {"redacted_at": "2026-03-02T12:00:00Z"}])
    async def test_a_recording_that_was_not_kept_is_not_promised(self, members: dict[str, Any]) -> None:
        recipient = {"to_number": ANN, "status": "completed", "agent_call_id": CALL}
        answers = {f"GET /agents/calls/{CALL}": call(**members), f"GET {AT_CARTESIA}/{BATCH}": batch(recipient)}
        async with Vendor({**answers, **NUMBERS}).http() as http:
            found = await CartesiaBackend(http, CREDENTIALS).get_call(BATCH, CALL)
        assert (found.task.status, found.recording_url) == (TaskStatus.COMPLETED, None)

    async def test_a_call_that_was_completed_is_not_missed_because_it_ended_in_an_error(self) -> None:
        """Cartesia leaves completed calls untouched by a retry: shown as failed, the person would be called again."""
        recipient = {"to_number": ANN, "status": "completed", "agent_call_id": CALL, "end_reason": "error"}
        async with Vendor({f"GET {AT_CARTESIA}/{BATCH}": batch(recipient), **NUMBERS}).http() as http:
            backend = CartesiaBackend(http, CREDENTIALS)
            (task,) = (await backend.tasks(BATCH, TaskQuery())).tasks
            found = await backend.get(BATCH)
        assert (task.status, task.backend_status) == (TaskStatus.COMPLETED, "error")
        assert (found.counts.completed, found.counts.not_reached) == (1, 0)

    @pytest.mark.parametrize("word", ["completed", "failed"])
    @pytest.mark.parametrize("waiting", ["queued", "pending", "started"])
    async def test_no_retry_is_sent_while_people_wait_for_one(self, word: str, waiting: str) -> None:
        """Both totals count the attempt before, so only the recipients say that a retry has just queued somebody."""
        failed = {"to_number": ANN, "status": "failed", "error_message": "not possible"}
        row = batch(failed, {"to_number": BOB, "status": waiting}, status=word, retry_count=1)
        retry = f"POST {AT_CARTESIA}/{BATCH}/retry"
        vendor = Vendor({f"GET {AT_CARTESIA}/{BATCH}": row, retry: row, **NUMBERS})
        async with vendor.http() as http:
            backend = CartesiaBackend(http, CREDENTIALS)
            found = await backend.get(BATCH)
            with pytest.raises(IllegalTransition, match="Nothing was sent"):
                await backend.retry(found, ())
        assert (found.status, found.backend_status) == (BatchStatus.RUNNING, word)
        assert vendor.writes == []

    async def test_an_active_call_is_in_progress(self) -> None:
        """The word of an older page for a call that is neither completed nor failed."""
        recipient = {"to_number": ANN, "status": "active", "agent_call_id": CALL}
        async with Vendor({f"GET {AT_CARTESIA}/{BATCH}": batch(recipient), **NUMBERS}).http() as http:
            found = await CartesiaBackend(http, CREDENTIALS).get(BATCH)
        assert (found.status, found.counts.calling) == (BatchStatus.RUNNING, 1)

    async def test_a_call_that_answers_as_another_is_not_shown(self) -> None:
        recipient = {"to_number": ANN, "status": "completed", "agent_call_id": CALL}
        answers = {f"GET /agents/calls/{CALL}": call(id="ac_2"), f"GET {AT_CARTESIA}/{BATCH}": batch(recipient)}
        async with Vendor({**answers, **NUMBERS}).http() as http:
            with pytest.raises(UnexpectedResponse, match="another"):
                await CartesiaBackend(http, CREDENTIALS).get_call(BATCH, CALL)


class TestSpeechify:
    async def test_every_request_names_the_version_in_which_variables_have_their_name(self) -> None:
        """Without it the workspace's own version counts: one before 2026-06-28 calls people without their variables."""
        (_, create, numbers) = CREATES[1]
        vendor = Vendor({**numbers, create: {"id": OURS, "name": "N", "status": "pending"}})
        async with vendor.http() as http:
            await SpeechifyBackend(http, CREDENTIALS).create(REQUEST, "key-1")
        assert {one.headers.get("speechify-version") for one in vendor.asked} == {"2026-09-13"}

    async def test_the_older_word_of_a_batch_call_that_waits_is_read(self) -> None:
        """A guide says that such a one is scheduled; by the document it is pending, with a time."""
        row = {"id": OURS, "name": "N", "status": "scheduled", "scheduled_at": "2026-12-01T09:00:00Z"}
        async with Vendor({f"GET {AT_SPEECHIFY}/{OURS}": row}).http() as http:
            found = await SpeechifyBackend(http, CREDENTIALS).get(OURS)
        assert found.status is BatchStatus.SCHEDULED

    async def test_variables_by_their_older_name_are_read(self) -> None:
        recipient = {"id": "r", "batch_id": OURS, "phone": ANN, "status": "pending", "dynamic_vars": {"name": "Ann"}}
        page = {"recipients": [recipient], "next_cursor": None, "has_more": False}
        async with Vendor({f"GET {AT_SPEECHIFY}/{OURS}/recipients": page}).http() as http:
            (task,) = (await SpeechifyBackend(http, CREDENTIALS).tasks(OURS, TaskQuery())).tasks
        assert task.dynamic_variables == {"name": "Ann"}

    async def test_a_conversation_that_answers_as_another_is_not_shown(self) -> None:
        recipient = {"id": "r", "batch_id": OURS, "phone": ANN, "status": "completed", "conversation_id": "conv_1"}
        answers = {
            "GET /v1/agents/conversations/conv_1": {"id": "conv_2", "status": "completed", "to_number": BOB},
            "GET /v1/agents/conversations/conv_1/messages": {"messages": [], "has_more": False},
            f"GET {AT_SPEECHIFY}/{OURS}/recipients": {"recipients": [recipient], "has_more": False},
        }
        async with Vendor(answers).http() as http:
            with pytest.raises(UnexpectedResponse, match="another"):
                await SpeechifyBackend(http, CREDENTIALS).get_call(OURS, "conv_1")

    async def test_recipients_of_another_batch_call_are_not_shown(self) -> None:
        recipient = {"id": "r", "batch_id": "batch_other", "phone": ANN, "status": "pending"}
        page = {"recipients": [recipient], "next_cursor": None, "has_more": False}
        async with Vendor({f"GET {AT_SPEECHIFY}/{OURS}/recipients": page}).http() as http:
            with pytest.raises(BatchCallError, match="another"):
                await SpeechifyBackend(http, CREDENTIALS).tasks(OURS, TaskQuery())


@pytest.mark.parametrize(("backend", "create", "numbers"), CREATES)
class TestCreates:
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    async def test_a_create_that_may_have_been_done_is_sent_once_and_unknown(
        self, backend: type[RestBackend], create: str, numbers: Mapping[str, Any], status: int
    ) -> None:
        vendor = Vendor({**numbers, create: Status(status, {"error": {"code": "internal", "message": "Try again."}})})
        async with vendor.http() as http:
            with pytest.raises(OutcomeUnknown):
                await backend(http, CREDENTIALS).create(REQUEST, "key-1")
        assert len(vendor.writes) == 1

    async def test_a_refusal_does_not_repeat_the_key(
        self, backend: type[RestBackend], create: str, numbers: Mapping[str, Any]
    ) -> None:
        words = {"error": {"code": "unauthorized", "message": "Bearer sk_test is not valid. s3cr3t_test"}}
        for status in (400, 401, 402, 403, 404, 409, 422, 429, 500):
            vendor = Vendor({**numbers, create: Status(status, words)})
            async with vendor.http() as http:
                with pytest.raises(BatchCallError) as caught:
                    await backend(http, CREDENTIALS).create(REQUEST, "key-1")
            assert "sk_test" not in str(caught.value) + repr(caught.value.__dict__)
            assert "s3cr3t_test" not in str(caught.value) + repr(caught.value.__dict__)


async def test_ids_lead_nowhere_else() -> None:
    for backend in (CartesiaBackend, SpeechifyBackend):
        vendor = Vendor()
        async with vendor.http() as http:
            for odd in ("..", "a/../../agents", "x?limit=1", "a#b"):
                with pytest.raises(NotFound):
                    await backend(http, CREDENTIALS).get(odd)
        assert all(asked.path.count("/") <= 4 and not asked.query for asked in vendor.asked)
