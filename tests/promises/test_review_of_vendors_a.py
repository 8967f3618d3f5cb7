"""What an auditor of ElevenLabs, Vapi and Retell found, by the vendors' own documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.vendors.elevenlabs import ElevenLabsBackend
from batchcall_mcp.backends.vendors.retell import RetellBackend
from batchcall_mcp.backends.vendors.vapi import VapiBackend
from batchcall_mcp.errors import IllegalTransition, NotFound
from batchcall_mcp.model import Agent, BatchCallRequest, CallTask, ListQuery, TaskQuery, TaskStatus, Turn
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.backends.recorder import CREDENTIALS, Asked, Status, Vendor
from tests.vendors import elevenlabs, retell, vapi
from tests.vendors.elevenlabs import ElevenLabs
from tests.vendors.retell import Retell
from tests.vendors.vapi import Vapi
from tests.walks.stage import Person, playing

PEOPLE = tuple(f"+1213555{number:04}" for number in range(3))
NOW = BatchCallRequest(name="Spring", tasks=tuple(CallTask(to_number=one) for one in PEOPLE), send_now=True)


@asynccontextmanager
async def speaking(kind: type[RestBackend], vendor: Any) -> AsyncIterator[Any]:
    """An adapter in front of its fake."""
    async with open_client(httpx2.ASGITransport(vendor.recording)) as client:
        yield kind(BackendHttp(client, kind.default_url, 5), Credentials(SecretStr(vendor.key)))


async def called(backend: Any, vendor: Any, agent: str) -> str:
    """A batch call that dials."""
    made = await backend.create(replace(NOW, from_number=vendor.from_number, agent_id=agent))
    found: str = made.batch_call_id
    return found


class TestElevenLabs:
    async def test_it_is_not_retried_while_one_of_its_calls_is_in_progress(self) -> None:
        """Whatever it says of itself: a retry also calls those who did not respond yet, so a phone would ring twice."""
        vendor = ElevenLabs()
        async with speaking(ElevenLabsBackend, vendor) as backend:
            batch_call_id = await called(backend, vendor, elevenlabs.AGENT)
            vendor.finish(batch_call_id, {PEOPLE[0]: "no_answer"})
            vendor.say_task_status(batch_call_id, PEOPLE[1], "in_progress")
            over = await backend.get(batch_call_id)
            assert (over.status, over.counts.calling) == ("completed", 1)
            written = len(vendor.writes)
            with pytest.raises(IllegalTransition, match=r"1 of its calls is in progress.*Nothing was sent"):
                await backend.retry(over, ())
            assert len(vendor.writes) == written

    async def test_whoever_was_called_before_a_cancel_is_still_counted(self) -> None:
        """A cancel sets everybody to cancelled; that somebody's phone rang remains true."""
        vendor = ElevenLabs()
        async with speaking(ElevenLabsBackend, vendor) as backend:
            request = replace(NOW, from_number=vendor.from_number, agent_id=elevenlabs.AGENT, max_concurrency=1)
            made = await backend.create(request)
            assert vendor.dialled == [PEOPLE[0]]
            after = await backend.cancel(await backend.get(made.batch_call_id))
            assert (after.status, after.counts.cancelled, after.counts.sent) == ("cancelled", 3, 1)

    async def test_a_call_that_names_no_batch_call_is_shown_only_if_a_recipient_has_it(self) -> None:
        """The vendor's schema lets `metadata.batch_call` be null or absent."""
        vendor = ElevenLabs()
        async with speaking(ElevenLabsBackend, vendor) as backend:
            one = await called(backend, vendor, elevenlabs.AGENT)
            other = await called(backend, vendor, elevenlabs.AGENT)
            vendor.finish(one)
            call_id = (await backend.tasks(one, TaskQuery())).tasks[0].call_id
            vendor.conversations[call_id]["metadata"]["batch_call"] = None
            assert (await backend.get_call(one, call_id)).call_id == call_id
            with pytest.raises(NotFound, match="not one of its calls"):
                await backend.get_call(other, call_id)


class TestVapi:
    @pytest.mark.parametrize(
        "reason",
        [
            "assistant-not-found",
            "assistant-not-valid",
            "assistant-request-returned-no-assistant",
            "assistant-request-returned-invalid-assistant",
            "assistant-join-timed-out",
            "phone-call-provider-bypass-enabled-but-no-call-received",
            "call.ringing.sip-inbound-caller-hungup-before-call-connect",
        ],
    )
    async def test_a_call_in_which_nobody_can_have_spoken_is_not_completed(self, reason: str) -> None:
        """A contact is completed when its call has ended, whatever for; these people were not reached."""
        row = {"id": "c1", "number": PEOPLE[0], "status": "contact.completed", "endedReason": reason}
        async with Vendor().http() as http:
            task = VapiBackend(http, CREDENTIALS).read_task(row)
        assert (task.status, task.backend_status) == (TaskStatus.FAILED, f"contact.completed: {reason}")

    @pytest.mark.parametrize(
        "reason", ["customer-ended-call", "silence-timed-out", "exceeded-max-duration", "assistant-forwarded-call"]
    )
    async def test_a_call_that_was_answered_is_completed(self, reason: str) -> None:
        row = {"id": "c1", "number": PEOPLE[0], "status": "contact.completed", "endedReason": reason}
        async with Vendor().http() as http:
            assert VapiBackend(http, CREDENTIALS).read_task(row).status is TaskStatus.COMPLETED

    async def test_a_call_that_names_no_campaign_is_shown_only_if_a_contact_has_it(self) -> None:
        """An inbound call, or one of somebody else's work in the same organization."""
        vendor = Vapi()
        async with speaking(VapiBackend, vendor) as backend:
            one = await called(backend, vendor, vapi.ASSISTANT)
            other = await called(backend, vendor, vapi.ASSISTANT)
            vendor.finish(one)
            call_id = (await backend.tasks(one, TaskQuery())).tasks[0].call_id
            del vendor.calls[call_id]["campaignId"]
            assert (await backend.get_call(one, call_id)).call_id == call_id
            with pytest.raises(NotFound, match="not one of its calls"):
                await backend.get_call(other, call_id)


class TestRetell:
    @pytest.mark.parametrize("status", [404, 405])
    async def test_agents_are_read_from_a_service_that_lists_them_by_get(self, status: int) -> None:
        """Documents of Retell differ in the method; both give pages of `items`."""

        def page(asked: Asked) -> Any:
            after = asked.query.get("pagination_key")
            more = {} if after else {"pagination_key": "k2"}
            return {"items": [{"agent_id": "a2" if after else "a1", "agent_name": "N"}], "has_more": not after, **more}

        answers = {"POST /v2/list-agents": Status(status, {"message": "no"}), "GET /v2/list-agents": page}
        vendor = Vendor(answers)
        async with vendor.http() as http:
            found = await RetellBackend(http, CREDENTIALS).agents()
        assert found == (Agent(agent_id="a1", name="N"), Agent(agent_id="a2", name="N"))
        assert [asked.method for asked in vendor.asked] == ["POST", "GET", "GET"]

    @pytest.mark.parametrize("reason", ["dial_failed", "invalid_destination", "sip_routing_error"])
    async def test_a_call_that_never_reached_anybody_is_not_completed(self, reason: str) -> None:
        row = {"call_id": "c1", "to_number": PEOPLE[0], "call_status": "ended", "disconnection_reason": reason}
        async with Vendor().http() as http:
            task = RetellBackend(http, CREDENTIALS).read_task(row)
        assert (task.status, task.backend_status) == (TaskStatus.FAILED, f"ended: {reason}")

    async def test_a_batch_call_of_more_calls_than_a_page_comes_to_its_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise nobody who watches it would ever hear that it is over."""
        monkeypatch.setattr("batchcall_mcp.backends.vendors.retell.LARGE_PAGE", 2)
        vendor = Retell()
        async with speaking(RetellBackend, vendor) as backend:
            batch_call_id = await called(backend, vendor, retell.AGENT)
            vendor.finish(batch_call_id)
            assert (await backend.get(batch_call_id)).status == "completed"
            vendor.say_task_status(batch_call_id, PEOPLE[0], "ongoing")
            assert (await backend.get(batch_call_id)).status != "completed"


async def test_a_transcript_that_is_only_a_text_is_read() -> None:
    """Both documents have the text and the list of utterances, and require neither."""
    said = (Turn(speaker="agent", text="Hello: it is me."), Turn(speaker="person", text="Yes."))
    async with Vendor().http() as http:
        row: dict[str, Any] = {
            "id": "c1",
            "artifact": {"messages": [], "transcript": "AI: Hello: it is me.\nUser: Yes.\n"},
        }
        assert VapiBackend(http, CREDENTIALS).read_call(row).transcript == said
        row = {"call_id": "c1", "transcript": "Agent: Hello: it is me.\nUser: Yes.\n"}
        assert RetellBackend(http, CREDENTIALS).read_call(row).transcript == said


@pytest.mark.parametrize("length", [300, 1000])
async def test_a_cursor_that_a_tool_gave_is_taken_by_it(tmp_path: Path, length: int) -> None:
    """Vendors' own cursors are opaque and may be long; ours holds theirs."""
    vendor = Retell()
    app = vendor.recording.app
    long = "x" * length

    async def lengthened(scope: Any, receive: Any, send: Any) -> None:
        async def given() -> Any:
            message = await receive()
            body = message.get("body", b"").replace(long.encode(), b"")
            return {**message, "body": body} if message["type"] == "http.request" else message

        async def said(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [one for one in message["headers"] if one[0] != b"content-length"]}
            if "body" in message:
                message = {**message, "body": message["body"].replace(b'"page_', f'"{long}page_'.encode())}
            await send(message)

        await app(scope, given, said)

    vendor.recording.app = lengthened
    tasks = [{"to_number": f"+1213{2_000_000 + number}"} for number in range(120)]
    async with vendor.served() as url:
        variables: dict[str, str | Path] = {
            "backend": "retell",
            "url": url,
            "api_key": retell.KEY,
            "data_dir": tmp_path,
            "calling_hours": "00:00-24:00",
        }
        async with playing("auto", Person("yes"), **variables) as model:
            made = await model.call(
                "create_batch_call",
                from_number=retell.NUMBER,
                agent_id=retell.AGENT,
                tasks=tasks,
                trigger_timestamp="now",
            )
            asked = {"batch_call_id": made["batch_call"]["batch_call_id"], "limit": 100}
            first = await model.call("get_batch_call", **asked)
            rest = await model.call("get_batch_call", **asked, cursor=first["next_cursor"])
    assert (len(first["tasks"]), len(rest["tasks"])) == (100, 20)


@pytest.mark.parametrize("vendor", [elevenlabs.ElevenLabs, vapi.Vapi, retell.Retell])
async def test_no_tool_speaks_of_drafts_where_a_create_dials(tmp_path: Path, vendor: Any) -> None:
    name = vendor.__name__.lower()
    variables: dict[str, str | Path] = {"backend": name, "api_key": vendor.key, "data_dir": tmp_path}
    async with playing("auto", None, **variables) as model:
        for tool in await model.tools() & {"create_batch_call", "retry_batch_call"}:
            assert "draft" not in str(await model.schema(tool)), tool


async def test_the_numbers_of_elevenlabs_are_asked_for_once_where_a_list_names_them() -> None:
    vendor = ElevenLabs()
    async with speaking(ElevenLabsBackend, vendor) as backend:
        for _ in range(3):
            await called(backend, vendor, elevenlabs.AGENT)
        vendor.requests.clear()
        await backend.list(ListQuery(limit=10))
        await backend.list(ListQuery(limit=10))
        assert sum(one.path.endswith("/phone-numbers") for one in vendor.requests) == 1
