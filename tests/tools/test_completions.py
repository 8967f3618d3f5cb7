"""What is completed while a person types: the caller's own, a bounded number, and nothing where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from anyio.from_thread import BlockingPortal
from mcp.types import Completion, PromptReference, ResourceTemplateReference

from batchcall_mcp.server import completions
from batchcall_mcp.sockets import bound_socket
from tests.server.transports import HTTP_WAYS, PAIR, Way, client_of
from tests.tools.desk import SOME_WAYS, Desk, environment_of, headers_of, opened, settings_of

PROMPT = PromptReference(type="ref/prompt", name="call_back_missed")
RESOURCE = ResourceTemplateReference(type="ref/resource", uri="batchcall://batch-calls/{batch_call_id}")


def completed(
    desk: Desk, name: str, typed: str, ref: PromptReference | ResourceTemplateReference = PROMPT
) -> Completion:
    return desk.wait(lambda: desk.client.complete(ref, {"name": name, "value": typed})).completion


@pytest.mark.parametrize("way", SOME_WAYS, ids=str)
def test_ids_states_and_zones_are_completed(portal: BlockingPortal, way: Way, tmp_path: Path) -> None:
    with opened(portal, way, tmp_path) as desk:
        older = desk.draft(desk.people(1), name="Renewals of May")
        newer = desk.draft(desk.people(1), name="Reminders")
        for ref in (PROMPT, RESOURCE):
            assert completed(desk, "batch_call_id", "", ref).values == [newer, older]
        assert completed(desk, "batch_call_id", older[:-1] + older[-1].upper()).values == [older]
        assert completed(desk, "batch_call_id", "renewals").values == [older]
        assert completed(desk, "batch_call_id", "nobody").values == []
        assert completed(desk, "task_status", "no").values == ["not_reached", "no_answer"]
        assert completed(desk, "timezone", "new york").values == ["America/New_York"]
        assert "EST" not in completed(desk, "timezone", "est").values
        zones = completed(desk, "timezone", "")
        assert (len(zones.values), zones.has_more) == (100, True)
        assert zones.total is not None
        assert zones.total > 400
        for name, typed in (("somebody", ""), ("timezone", "x" * 10_000), ("batch_call_id", "\0")):
            assert completed(desk, name, typed).values == []


def test_over_stdio_the_lists_of_the_operators_folders_are_completed(portal: BlockingPortal, tmp_path: Path) -> None:
    with opened(portal, Way("stdio", "auto"), tmp_path) as desk:
        for name in ("people.csv", "more people.xlsx", "notes.txt", ".hidden.csv"):
            (tmp_path / "files" / name).write_text("phone\n+14155550123\n", encoding="utf-8")
        assert completed(desk, "tasks_file", "PEOP").values == ["people.csv", "more people.xlsx"]


@pytest.mark.sweep
@pytest.mark.parametrize("way", HTTP_WAYS, ids=str)
def test_over_http_only_what_this_caller_has_uploaded_is_completed(
    portal: BlockingPortal, way: Way, tmp_path: Path
) -> None:
    pairs = [headers_of(settings_of(environment_of(tmp_path))) for _ in range(2)]
    with opened(portal, way, tmp_path, None, {}, pairs[0]) as desk:
        assert desk.url is not None
        (tmp_path / "files" / "on-the-server.csv").write_text("phone\n+14155550123\n", encoding="utf-8")
        names = [
            httpx2.post(
                f"{desk.url}/files?name=list-of-{owner}.csv",
                content=b"phone\n+14155550123\n",
                headers=pair,
                trust_env=False,
            ).json()["tasks_file"]
            for owner, pair in enumerate(pairs)
        ]
        assert completed(desk, "tasks_file", "").values == [names[0]]
        with portal.wrap_async_context_manager(client_of(desk.url, way, headers=pairs[1])) as client:
            other = Desk(way, portal, client, None, tmp_path, desk.url)
            assert completed(other, "tasks_file", "").values == [names[1]]


def test_a_caller_whom_the_backend_does_not_know_gets_nothing(portal: BlockingPortal, tmp_path: Path) -> None:
    """Also where the server cannot know by itself who is real: a backend elsewhere, that answers nobody here."""
    nobody = {"BATCHCALL_BACKEND": "batchcall", "BATCHCALL_URL": "http://127.0.0.1:9"}
    with opened(portal, Way("http", "legacy"), tmp_path, None, nobody, PAIR) as desk:
        assert completed(desk, "batch_call_id", "").values == []
        assert completed(desk, "tasks_file", "").values == []


def test_a_backend_that_does_not_answer_is_not_waited_for(
    portal: BlockingPortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "_LONGEST_WAIT_S", 0.05)
    with bound_socket("127.0.0.1", 0) as silent:
        silent.listen()
        port = silent.getsockname()[1]
        settings = {"BATCHCALL_BACKEND": "batchcall", "BATCHCALL_URL": f"http://127.0.0.1:{port}"}
        with opened(portal, Way("http", "auto"), tmp_path, None, settings, PAIR) as desk:
            assert completed(desk, "batch_call_id", "").values == []
