"""Claude Desktop over stdio: a client that can show no question. Whatever its model calls, only a person launches.

Every tool that can launch: nothing is sent, and nothing that approves (code, address, token) is in a result, a progress
text or the log, until a request reaches the page or the terminal. That each call of each backend waits for a yes is
shown by `tests/test_never_dials.py`; here is what the page adds, which is the same for all of them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from batchcall_mcp.guard.audit import Audit
from batchcall_mcp.server.app import build_server
from batchcall_mcp.server.approvals import elicitation
from batchcall_mcp.server.approvals.desk import ApprovalDesk
from tests.server.person import presses
from tests.test_never_dials import SCENES, Scene
from tests.walks.stage import settings_of

SCENES_WITH_A_PAGE = {"magpipe": "auto", "elevenlabs": "auto", "dialer": "person"}
"""Where, and how a yes is asked for: each tool that launches in one of them, creates that dial among them. At the
dialer no real phone can ring: there codes are for the default setting, and a person is asked with `person`.
"""


@pytest.mark.parametrize("backend", SCENES_WITH_A_PAGE)
async def test_only_a_person_launches_what_its_model_calls(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(elicitation, "PATIENCE_S", 0.0)
    caplog.set_level(logging.DEBUG)
    scene_of, calls_of, asks = SCENES[backend]
    opened: list[str] = []
    said: list[str] = []

    async def opens(address: str) -> bool:
        opened.append(address)
        return True

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        said.append(message or "")

    async with scene_of(tmp_path) as scene:
        before, sent = list(scene.dialled()), len(scene.writes()) if scene.writes else 0
        variables = {name.upper(): str(value) for name, value in scene.variables.items()}
        settings = settings_of(variables | {"CONFIRM": SCENES_WITH_A_PAGE[backend], "APPROVAL_PAGE": "auto"})
        server = build_server(settings, transport="stdio")
        service = server.service
        service.desk = ApprovalDesk(service.ledger, Audit(tmp_path), enabled=True, open_browser=opens)
        async with Client(server, mode="legacy") as client:
            waited: dict[str, dict[str, Any]] = {}
            for tool, arguments in calls_of(scene.ids):
                if tool in waited:
                    continue
                # What is refused without a code is refused with one too: `tests/test_never_dials.py`.
                for more in ({}, {"confirmation_code": "AAAAAAAA"}):
                    result = await client.call_tool(tool, arguments | more, progress_callback=progress)
                    said.append(result.model_dump_json())
                    answer = result.structured_content or {}
                    assert "confirmation_code" not in answer, (tool, arguments)
                    assert list(scene.dialled()) == before, (tool, arguments)
                    assert scene.writes is None or scene.writes()[sent:] == [], (tool, arguments)
                    if answer.get("result") != "waiting_for_person":
                        break
                    waited.setdefault(tool, arguments)
                    assert "next" not in answer
            assert waited.keys() == asks, "a table of mere refusals would prove nothing"
            everything = " ".join([*said, *(one.getMessage() for one in caplog.records if _is_ours(one))])
            for address in opened:
                assert address.rpartition("/")[2] not in everything
            assert "127.0.0.1" not in "".join(said).replace(str(scene.variables.get("url", "-")), "")
            tool = "start_batch_call" if "start_batch_call" in waited else "create_batch_call"
            await _only_the_page_launches(client, scene, tool, waited[tool], opened, len(before))


async def _only_the_page_launches(
    client: Client, scene: Scene, tool: str, launch: dict[str, Any], opened: list[str], before: int
) -> None:
    """The same call, once a person has pressed the button: a no is reported once, and then it is asked again."""
    for address in opened:
        await presses(address, "decline")
    opened.clear()
    declined = await client.call_tool(tool, launch)
    assert "the answer was no" in str(declined.content)
    asked = (await client.call_tool(tool, launch)).structured_content or {}
    assert asked["result"] == "waiting_for_person"
    assert await presses(opened[-1], "approve") == "Approved"
    assert len(scene.dialled()) == before
    started = (await client.call_tool(tool, launch)).structured_content or {}
    assert started["result"] in {"started", "scheduled", "created"}
    # The dialer dials in its own time.
    assert scene.writes is None or len(scene.dialled()) > before


def _is_ours(record: logging.LogRecord) -> bool:
    """The test's own browser and vendors log too."""
    return not record.name.startswith(("httpx2", "httpcore", "uvicorn"))
