"""A client answers a question with something that is not an answer: nothing is sent, and the model reads so at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import pytest

from tests.operator.processes import of_zudu
from tests.operator.test_approve import PEOPLE
from tests.server.person import presses
from tests.server.raw import Era, Json, RawClient, RawHttp, raw_client
from tests.server.transports import Way, connected_url
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM

FORM: Json = {"elicitation": {"form": {}}}
URL: Json = {"elicitation": {"url": {}}}
YES: Json = {"action": "accept", "content": {"confirm": True}}
TASKS = [{"to_number": one} for one in PEOPLE]
BIG = "x" * 1_000_000

RESULTS: dict[str, Any] = {
    "nothing": {},
    "no action": {"content": {"confirm": True}},
    "an unknown action": {"action": "yes", "content": {"confirm": True}},
    "an action that is a number": {"action": 1, "content": {"confirm": True}},
    "an action that is a list": {"action": ["accept"], "content": {"confirm": True}},
    "an action in capitals": {"action": "ACCEPT", "content": {"confirm": True}},
    "no content": {"action": "accept"},
    "content that is null": {"action": "accept", "content": None},
    "content that is text": {"action": "accept", "content": "confirm"},
    "content that is a list": {"action": "accept", "content": [True]},
    "content that is true": {"action": "accept", "content": True},
    "an empty form": {"action": "accept", "content": {}},
    "yes in words": {"action": "accept", "content": {"confirm": "true"}},
    "a one": {"action": "accept", "content": {"confirm": 1}},
    "a null": {"action": "accept", "content": {"confirm": None}},
    "a list": {"action": "accept", "content": {"confirm": [True]}},
    "an object": {"action": "accept", "content": {"confirm": {"value": True}}},
    "another field": {"action": "accept", "content": {"yes": True}},
    "one field too many": {"action": "accept", "content": {"confirm": True, "more": "x"}},
    "a huge content": {"action": "accept", "content": {"confirm": True, "more": BIG}},
    "a huge action": {"action": BIG, "content": {"confirm": True}},
    "a deep content": {"action": "accept", "content": {"confirm": json.loads("[" * 100 + "]" * 100)}},
    "the answer of another request": {"roots": []},
    "the answer of a model": {"role": "assistant", "content": {"type": "text", "text": "yes"}, "model": "m"},
}
BAD_FOR_A_PAGE = {
    name: one
    for name, one in RESULTS.items()
    if one.get("action") != "accept" or not isinstance(one.get("content") or {}, dict)
}
"""An accept, with whatever in its form, means that the person agreed to open the page: the yes comes from there."""
MESSAGES: dict[str, Any] = {
    "no result": {},
    "a result that is text": {"result": "yes"},
    "a result that is a list": {"result": [YES]},
    "a result that is null": {"result": None},
    "a result that is true": {"result": True},
    "an error": {"error": {"code": -32603, "message": "No"}},
    "an error that is text": {"error": "no"},
    "an error without a code": {"error": {"message": "no"}},
    "both": {"result": YES, "error": {"code": 1, "message": "no"}},
}


@asynccontextmanager
async def waiting(folder: Path, era: Era, capabilities: Json) -> AsyncIterator[tuple[RawClient, Json, Zudu]]:
    """A client with a draft, and the arguments that start it."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, folder, approval_page="auto")
        async with raw_client(there, era, capabilities) as client:
            made = await client.result("create_batch_call", {"from_number": FROM, "tasks": TASKS})
            yield client, {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}, vendor


def refused(message: Json) -> str:
    """The text of a call that was not confirmed."""
    assert "result" in message, message
    result = message["result"]
    text: str = result["content"][0]["text"]
    assert result["isError"], text
    assert text.startswith("[not_confirmed] "), text
    assert "Nothing was sent." in text
    return text


@pytest.mark.sweep
@pytest.mark.parametrize("mode", [FORM, URL], ids=["form", "url"])
async def test_handshake_era_answers_that_cannot_be_read(mode: Json, tmp_path: Path) -> None:
    lines = {name: json.dumps({"jsonrpc": "2.0", "id": "ID", **more}) for name, more in MESSAGES.items()}
    results = RESULTS if mode is FORM else BAD_FOR_A_PAGE
    lines |= {name: json.dumps({"jsonrpc": "2.0", "id": "ID", "result": one}) for name, one in results.items()}
    deep = '{"action":"accept","content":{"confirm":' + "[" * 2000 + "]" * 2000 + "}}"
    lines["a result too deep to be read"] = f'{{"jsonrpc":"2.0","id":"ID","result":{deep}}}'
    lines["half a line"] = '{"jsonrpc":"2.0","id":"ID","result":{"action":"accept","content":{"confirm":tr'
    lines["no version"] = json.dumps({"id": "ID", "result": YES})
    lines["another version"] = json.dumps({"jsonrpc": "1.0", "id": "ID", "result": YES})
    async with waiting(tmp_path, "2025", mode) as (client, launch, vendor):
        for name, line in lines.items():
            call = await client.call("start_batch_call", launch)
            question = await client.request()
            assert question["method"] == "elicitation/create", name
            await client.write(line.replace('"ID"', json.dumps(question["id"])))
            with anyio.fail_after(60):
                refused(await client.answer_to(call))
        assert vendor.dialled == []
        call = await client.call("start_batch_call", launch)
        question = await client.request()
        if mode is FORM:
            await client.write(json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": YES}))
        else:
            await client.write(json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}))
            await presses(question["params"]["url"], "approve")
        assert (await client.answer_to(call))["result"]["structuredContent"]["result"] == "started"
    assert vendor.dialled == PEOPLE


@pytest.mark.sweep
@pytest.mark.parametrize("mode", [FORM, URL], ids=["form", "url"])
async def test_answers_of_2026_that_cannot_be_read(mode: Json, tmp_path: Path) -> None:
    results = RESULTS if mode is FORM else BAD_FOR_A_PAGE
    responses: dict[str, Any] = {name: {"confirm": one} for name, one in results.items()}
    plain = {"nothing at all": {}, "another question's": {"other": YES}, "text": "yes", "a list": [YES], "true": True}
    responses |= {**plain, "one that is null": {"confirm": None}, "one that is text": {"confirm": "accept"}}
    responses["absent"] = None
    async with waiting(tmp_path, "2026", mode) as (client, launch, vendor):
        for name, one in responses.items():
            asked = (await client.answer_to(await client.call("start_batch_call", launch)))["result"]
            assert asked["resultType"] == "input_required", name
            more = {"requestState": asked["requestState"]} | ({} if one is None else {"inputResponses": one})
            with anyio.fail_after(60):
                refused(await client.answer_to(await client.call("start_batch_call", launch, **more)))
        no_state = await client.call("start_batch_call", launch, inputResponses={"confirm": YES})
        refused(await client.answer_to(no_state))
    assert vendor.dialled == []


MODES: list[tuple[Era, Literal["decline", "cancel"]]] = [
    ("2025", "decline"),
    ("2025", "cancel"),
    ("2026", "decline"),
    ("2026", "cancel"),
]


@pytest.mark.sweep
@pytest.mark.parametrize(("era", "action"), MODES)
async def test_a_client_that_does_not_open_the_page_says_no(
    era: Era, action: Literal["decline", "cancel"], tmp_path: Path
) -> None:
    async with waiting(tmp_path, era, URL) as (client, launch, vendor):
        call = await client.call("start_batch_call", launch)
        if era == "2025":
            question = await client.request()
            address = question["params"]["url"]
            await client.write(json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": {"action": action}}))
            text = refused(await client.answer_to(call))
        else:
            asked = (await client.answer_to(call))["result"]
            address = asked["inputRequests"]["confirm"]["params"]["url"]
            answer = {"requestState": asked["requestState"], "inputResponses": {"confirm": {"action": action}}}
            text = refused(await client.answer_to(await client.call("start_batch_call", launch, **answer)))
        assert "the answer was no" in text
        async with httpx2.AsyncClient(trust_env=False) as browser:
            assert "<h1>Declined</h1>" in (await browser.get(address)).text
    assert vendor.dialled == []


@pytest.mark.sweep
@pytest.mark.parametrize("era", ["2025", "2026"])
@pytest.mark.parametrize("button", ["approve", "decline"])
async def test_the_yes_comes_from_the_page_and_not_from_the_client(era: Era, button: str, tmp_path: Path) -> None:
    """The address is in the elicitation request alone."""
    async with waiting(tmp_path, era, URL) as (client, launch, vendor):
        call = await client.call("start_batch_call", launch, _meta={"progressToken": "p"})
        if era == "2025":
            question = await client.request()
            assert question["params"]["mode"] == "url"
            address = question["params"]["url"]
            await client.write(json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}))
        else:
            asked = (await client.answer_to(call))["result"]
            assert asked["inputRequests"]["confirm"]["params"]["mode"] == "url"
            address = asked["inputRequests"]["confirm"]["params"]["url"]
            more = {"requestState": asked["requestState"], "inputResponses": {"confirm": {"action": "accept"}}}
            call = await client.call("start_batch_call", launch, _meta={"progressToken": "p"}, **more)
        news = await client.read()
        assert news["method"] == "notifications/progress"
        assert news["params"]["message"] == "Waiting for a person to answer on the approval page"
        assert vendor.dialled == []
        await presses(address, button)
        message = await client.answer_to(call)
        if button == "approve":
            assert message["result"]["structuredContent"]["result"] == "started"
        else:
            assert "the answer was no" in refused(message)
        assert address.startswith("http://127.0.0.1:")
        holding = [line for line in client.seen if address.rpartition("/")[2] in line]
        assert len(holding) == 1
        assert '"mode":"url"' in holding[0].replace(" ", "")
    assert vendor.dialled == (PEOPLE if button == "approve" else [])


@pytest.mark.parametrize("way", [Way("http", "legacy")], ids=str)
async def test_broken_answers_over_http_end_their_question_at_once(way: Way, tmp_path: Path) -> None:
    vendor = Zudu()
    bodies: dict[str, str] = {name: json.dumps({"jsonrpc": "2.0", "id": "ID", **one}) for name, one in MESSAGES.items()}
    bodies["a body that is too large"] = (
        '{"jsonrpc":"2.0","id":"ID","result":{"action":"accept","x":"' + BIG * 5 + '"}}'
    )
    bodies["half a body"] = '{"jsonrpc":"2.0","id":"ID","result":{"action":"acc'
    async with vendor.served() as backend:
        there = of_zudu(backend, tmp_path)
        async with connected_url(way, there) as url, httpx2.AsyncClient(trust_env=False, timeout=30) as http:
            http.headers |= {"X-API-KEY": zudu.KEY, "X-API-SECRET": zudu.SECRET}
            client = RawHttp(http, url)
            await client.open(FORM)
            made = await last(client, 1, "create_batch_call", {"from_number": FROM, "tasks": TASKS})
            name = made["result"]["structuredContent"]["batch_call"]["batch_call_id"]
            launch = {"batch_call_id": name, "trigger_timestamp": "now"}
            for number, (kind, body) in enumerate(bodies.items(), 2):
                with anyio.fail_after(60):
                    async for message in client.messages(called(number, "start_batch_call", launch)):
                        if message.get("method") == "elicitation/create":
                            await client.post(body.replace('"ID"', json.dumps(message["id"])))
                        elif message.get("id") == number:
                            assert refused(message), kind
    assert vendor.dialled == []


def called(number: int, tool: str, arguments: Json) -> Json:
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments},
    }


async def last(client: RawHttp, number: int, tool: str, arguments: Json) -> Json:
    found: Json = {}
    async for message in client.messages(called(number, tool, arguments)):
        found = message
    return found
