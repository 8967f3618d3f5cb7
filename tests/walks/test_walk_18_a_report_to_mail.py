"""Walk 18: "make me something that I can send to the customer". The report, opened in Chromium as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client

from batchcall_mcp.server.app import build_server
from tests.browser import axe_findings, browsing
from tests.server.transports import Way, client_of, served
from tests.tools.desk import settings_of
from tests.vendors import talking
from tests.vendors.talking import Talking, installed
from tests.walks.stage import FROM, Model, Person, number

__all__ = ["installed"]  # a fixture

PAIR = {"X-API-KEY": talking.KEY, "X-API-SECRET": talking.SECRET}
HOSTILE = number("212", 5)
ATTACK = "<script>document.title='owned'</script>"
TASKS = [
    {
        "to_number": number("212", at),
        "name": f"Person {at} {ATTACK if at == 8 else ''}",
        "dynamic_variables": {"first_name": "P"},
    }
    for at in range(10)
]


@asynccontextmanager
async def at_work(over: str, variables: dict[str, str], person: Person) -> AsyncIterator[Model]:
    """A model, in this process, at a server over stdio or over HTTP."""
    if over == "stdio":
        async with Client(build_server(settings_of(variables), transport="stdio"), elicitation_callback=person) as one:
            yield Model(one)
        return
    shared = {
        name: value for name, value in variables.items() if name not in ("BATCHCALL_API_KEY", "BATCHCALL_API_SECRET")
    }
    settings, way = settings_of(shared), Way("http", "auto")
    server = build_server(settings, transport="http")
    async with (
        served(server, settings, way=way, authenticate=server.authenticate) as url,
        client_of(url, way, headers=PAIR, elicitation_callback=person) as client,
    ):
        yield Model(client)


@pytest.mark.parametrize("over", ["stdio", "http"])
async def test_a_report_that_is_opened_where_it_is_mailed_to(over: str, installed: None, tmp_path: Path) -> None:
    vendor, files = Talking(), tmp_path / "files"
    files.mkdir()
    async with vendor.served() as url:
        variables = talking.environment(
            url,
            BATCHCALL_FILES=str(files),
            BATCHCALL_DATA_DIR=str(tmp_path / "data"),
            BATCHCALL_CALLING_HOURS="00:00-24:00",
        )
        async with at_work(over, variables, Person("yes")) as model:
            made = await model.call(
                "create_batch_call", from_number=FROM, tasks=TASKS, name="Clinic", agent_id=talking.AGENT
            )
            one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            early = await exported(model, over, tmp_path, **one)
            assert "Nobody has been called yet</h1>" in early.read_text(encoding="utf-8")

            await model.call("start_batch_call", **one, trigger_timestamp="now")
            vendor.finish(one["batch_call_id"], {HOSTILE: talking.HOSTILE_CALL})
            part = await model.refused(
                "export_batch_call", "invalid_input", **one, format="report", task_status=["not_reached"]
            )
            assert "a report is about the whole batch call" in part
            report = await exported(model, over, tmp_path, **one)

            (uri,) = [f"batchcall://batch-calls/{one['batch_call_id']}/export.html"]
            (read,) = (await model.client.read_resource(uri)).contents
            assert read.mime_type == "text/html"
            assert "7 of 10 people were reached</h1>" in getattr(read, "text", "")

    async with browsing(colours="light") as browser:
        page = await browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(report.as_uri())
        assert await page.title() == "Clinic: 7 of 10 people were reached"
        text = await page.inner_text("main")
        # Five calls of 60 s, two of 95.5 s, and 12 s of a machine.
        for said in (
            "70 %",
            "8 min 23 s",
            "1.40 USD",
            "by Reminder",
            "confirmed",
            "call_back",
            talking.HOSTILE_CELL,
            ATTACK,
        ):
            assert said in text
        people = page.get_by_role("table", name="People not reached")
        assert [row.split()[0] for row in await people.get_by_role("row").all_inner_texts()] == [
            "Number",
            *(number("212", at) for at in (7, 8, 9)),
        ]
        assert asked == [report.as_uri()]
        assert [one["id"] for one in await axe_findings(page)] == []


async def exported(model: Model, over: str, folder: Path, batch_call_id: str) -> Path:
    """The report as a file, as the person gets it."""
    answer = await model.call("export_batch_call", batch_call_id=batch_call_id, format="report")
    assert (answer["format"], answer["rows"]) == ("report", len(TASKS))
    assert f"a report about {len(TASKS)} tasks of {batch_call_id}" in answer["summary"]
    if over == "stdio":
        assert answer["file"].endswith(".html")
        return Path(answer["file"])
    async with httpx2.AsyncClient(trust_env=False) as http:
        got = await http.get(answer["file"], headers=PAIR)
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert got.headers["content-disposition"].startswith("attachment")
    assert got.headers["content-security-policy"] == "sandbox"
    (saved := folder / "saved.html").write_bytes(got.content)
    return saved
