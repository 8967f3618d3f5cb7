"""Walk 6: a team shares one server over HTTP. No shared disk, keys of their own, and some may only read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceLink, TextResourceContents

from batchcall_mcp.server.app import build_server
from tests.server.transports import Way, client_of, served
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, Person, number, settings_of

ONE = {"X-API-KEY": zudu.KEY, "X-API-SECRET": zudu.SECRET}
ANOTHER = {"X-API-KEY": zudu.OTHER_KEY, "X-API-SECRET": zudu.OTHER_SECRET}
TASKS: list[dict[str, Any]] = [
    {"to_number": number(NEW_YORK, at), "dynamic_variables": {"name": f"P{at}"}} for at in range(30)
]
READS = {"get_backend", "check_batch_call", "get_batch_call", "list_batch_calls", "watch_batch_call"}
HTTP = Way("http", "auto"), Way("http", "legacy")
every_http_era = pytest.mark.parametrize("way", HTTP, ids=str)


@asynccontextmanager
async def team_server(vendor: Zudu, way: Way, **variables: str) -> AsyncIterator[str]:
    async with vendor.served() as url:
        settings = settings_of({"BACKEND": "zudu", "URL": url, **variables})
        server = build_server(settings, transport="http")
        async with served(server, settings, way=way, authenticate=server.authenticate) as address:
            yield address


@every_http_era
async def test_no_file_of_the_servers_disk_is_named_and_the_people_come_inline(way: Way) -> None:
    vendor, person = Zudu(), Person("yes")
    async with (
        team_server(vendor, way) as url,
        client_of(url, way, headers=ONE, elicitation_callback=person) as client,
    ):
        model = Model(client)
        # F37: only what this caller has uploaded can be named, and no folder is told.
        for name in ("customers.csv", "/etc/passwd"):
            text = await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks_file=name)
            assert "not a list that you have uploaded" in text
        facts = await model.call("get_backend")
        assert "folder" not in facts
        assert "files" not in facts
        assert vendor.writes == []

        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        assert made["batch_call"]["organization_id"] == "org_first"
        begun = await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
        assert begun["result"] == "started"
        assert len(person.questions) == 1
        assert vendor.dialled == [one["to_number"] for one in TASKS]


@every_http_era
async def test_an_export_is_a_link_that_only_its_readers_own_key_opens(way: Way) -> None:
    vendor = Zudu()
    async with (
        team_server(vendor, way) as url,
        client_of(url, way, headers=ONE) as client,
        client_of(url, way, headers=ANOTHER) as stranger,
    ):
        model = Model(client)
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        result = await client.call_tool("export_batch_call", {"batch_call_id": name})
        assert not result.is_error
        assert result.structured_content is not None
        (link,) = [block for block in result.content if isinstance(block, ResourceLink)]
        assert link.uri == result.structured_content["resource"]
        assert link.uri in result.structured_content["summary"]

        (content,) = (await client.read_resource(link.uri)).contents
        assert isinstance(content, TextResourceContents)
        lines = content.text.splitlines()
        assert len(lines) == len(TASKS) + 1
        assert TASKS[0]["to_number"] in lines[1]

        with pytest.raises(MCPError, match="not_found"):
            await stranger.read_resource(link.uri)
        text = await Model(stranger).refused("get_batch_call", "not_found", batch_call_id=name)
        assert "list_batch_calls" in text
        assert "batch_calls" not in await Model(stranger).call("list_batch_calls")


@every_http_era
async def test_read_only_lists_no_tool_that_writes_and_draft_mode_none_that_dials(way: Way) -> None:
    vendor = Zudu()
    async with (
        team_server(vendor, way, MODE="read-only") as url,
        client_of(url, way, headers=ONE) as client,
    ):
        model = Model(client)
        assert await model.tools() == READS
        # F41: what is listed says of itself that it only reads.
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in (await client.list_tools()).tools)
        await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks=TASKS)
        await model.refused("start_batch_call", "invalid_input", batch_call_id="x", trigger_timestamp="now")
    async with (
        team_server(vendor, way, MODE="draft") as url,
        client_of(url, way, headers=ONE, elicitation_callback=Person("yes")) as client,
    ):
        model = Model(client)
        assert await model.tools() >= READS | {"create_batch_call", "update_batch_call", "cancel_batch_call"}
        assert not await model.tools() & {"start_batch_call", "resume_batch_call"}
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        text = await model.refused("update_batch_call", "permission_denied", batch_call_id=name, send_now=True)
        assert "BATCHCALL_MODE=draft" in text
        assert len(vendor.writes) == 1
    assert vendor.dialled == []


@every_http_era
async def test_a_code_belongs_to_the_caller_who_was_shown_the_question(way: Way) -> None:
    vendor = Zudu()
    async with (
        team_server(vendor, way, CONFIRM="code") as url,
        client_of(url, way, headers=ONE) as client,
        client_of(url, way, headers=ANOTHER) as stranger,
    ):
        made = await Model(client).call("create_batch_call", from_number=FROM, tasks=TASKS)
        launch = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        asked = await Model(client).call("start_batch_call", **launch)
        await Model(stranger).refused(
            "start_batch_call", "not_confirmed", **launch, confirmation_code=asked["confirmation_code"]
        )
        assert vendor.dialled == []
