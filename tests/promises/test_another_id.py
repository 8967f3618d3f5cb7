"""An answer about another batch call is not followed: paths are made from the id that was asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchcall_mcp.backends.rest_api.batchcall import BatchCallBackend
from batchcall_mcp.backends.vendors.magpipe import MagpipeBackend
from batchcall_mcp.errors import UnexpectedResponse
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, TaskQuery
from tests.backends.recorder import CREDENTIALS, Asked, Vendor
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import Recorded, Recording, listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, Person, number, playing, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in (0, 1)]
OTHERS = [number(NEW_YORK, line) for line in (5, 6)]
NAMED_ANOTHER = "answered about another batch call"


class LyingZudu(Zudu):
    """Shows what belongs to one id under another id, and to which address each request went."""

    def __init__(self, status: str = "DRAFT", says: str | None = "bc_2") -> None:
        super().__init__()
        self.says: dict[str, str | None] = {"bc_1": says}
        for name, people in (("bc_1", PEOPLE), ("bc_2", OTHERS)):
            tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(people)]
            trigger = int(tomorrow_at(9).timestamp() * 1000)
            self.batches[name] = zudu.Batch(name, "org_first", self.now, {"from_number": FROM}, status, trigger, tasks)

    def _shown(self, batch: zudu.Batch, told: tuple[str, ...] | None = None) -> dict[str, Any]:
        shown = super()._shown(batch, told)
        return shown | {"batch_call_id": self.says.get(batch.batch_call_id, batch.batch_call_id)}

    def changed(self) -> list[str]:
        """The paths of the requests that change something."""
        return [one.path for one in self.writes]


class LyingMagpipe(Magpipe):
    """The same; its one address names the batch call in the body."""

    def __init__(self, status: str = "draft") -> None:
        super().__init__()
        self.first = self._stored({"name": "first", "caller_id": FROM}, PEOPLE, status)["id"]
        self.second = self._stored({"name": "second", "caller_id": FROM}, OTHERS, status)["id"]
        self.says = {self.first: self.second}

    def _row(self, batch: Any) -> dict[str, Any]:
        return super()._row(batch) | {"id": self.says.get(batch["id"], batch["id"])}

    def changed(self) -> list[str]:
        """The ids of the requests that change something."""
        return [one.json["batch_id"] for one in self.writes]


class LyingDialect:
    """A server of our dialect: bc_1 is read as bc_2; what a write to bc_1 answers is `writes`."""

    def __init__(self, status: str = "sent", reads: str = "bc_2", writes: str | None = None) -> None:
        self.status = status
        self.reads = reads
        self.answers_writes = writes or reads
        one = Route("/batch-call/{id}", self._read, methods=["GET"])
        write = Route("/batch-call/{id}/{action}", self._write, methods=["POST"])
        tasks = Route("/batch-call/{id}/tasks", self._tasks, methods=["GET"])
        self.recording = Recording(
            Starlette(routes=[tasks, one, write]),
            lambda asked: asked.method != "GET" and asked.path.startswith("/batch-call"),
        )

    @property
    def writes(self) -> list[Recorded]:
        """The requests that change something."""
        return self.recording.writes

    async def _read(self, _request: Request) -> Response:
        return JSONResponse({"data": {"batch_call_id": self.reads, "status": self.status, "from_number": FROM}})

    async def _tasks(self, _request: Request) -> Response:
        tasks = [{"task_id": one, "to_number": one, "status": "pending"} for one in PEOPLE]
        return JSONResponse({"data": {"tasks": tasks}})

    async def _write(self, request: Request) -> Response:
        self.status = {"pause": "paused", "cancel": "cancelled"}.get(request.path_params["action"], "sent")
        return JSONResponse({"data": {"batch_call_id": self.answers_writes, "status": self.status}})


@asynccontextmanager
async def at_zudu(vendor: Zudu, home: Path, person: Person | None = None) -> AsyncIterator[Model]:
    account: dict[str, Any] = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with vendor.served() as url, playing("auto", person, url=url, data_dir=home, **account) as model:
        yield model


@asynccontextmanager
async def at_magpipe(vendor: Magpipe, home: Path, person: Person | None = None) -> AsyncIterator[Model]:
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with vendor.served() as url, playing("auto", person, url=url, data_dir=home, **account) as model:
        yield model


@asynccontextmanager
async def at_the_dialect(server: LyingDialect, home: Path, person: Person | None = None) -> AsyncIterator[Model]:
    account: dict[str, Any] = {"backend": "batchcall", "api_key": "k", "api_secret": "s"}
    async with listening(server.recording) as url, playing("auto", person, url=url, data_dir=home, **account) as model:
        yield model


LAUNCHES_AND_CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("start_batch_call", {"trigger_timestamp": "now"}),
    ("update_batch_call", {"name": "Another name"}),
]


@pytest.mark.parametrize(("tool", "arguments"), LAUNCHES_AND_CHANGES, ids=str)
async def test_no_launch_and_no_change_follows_zudu_to_another_batch_call(
    tool: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    vendor, person = LyingZudu(), Person()
    async with at_zudu(vendor, tmp_path, person) as model:
        text = await model.refused(tool, "unexpected_response", batch_call_id="bc_1", **arguments)
    assert NAMED_ANOTHER in text
    assert "Nothing was sent" in text
    assert (vendor.changed(), vendor.dialled, person.questions) == ([], [], [])


@pytest.mark.parametrize(("tool", "arguments"), LAUNCHES_AND_CHANGES, ids=str)
async def test_no_launch_and_no_change_follows_magpipe_to_another_batch_call(
    tool: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    vendor, person = LyingMagpipe(), Person()
    async with at_magpipe(vendor, tmp_path, person) as model:
        text = await model.refused(tool, "unexpected_response", batch_call_id=vendor.first, **arguments)
    assert NAMED_ANOTHER in text
    assert (vendor.changed(), vendor.dialled, person.questions) == ([], [], [])


async def test_a_deletion_does_not_follow_zudu_to_another_batch_call(tmp_path: Path) -> None:
    vendor = LyingZudu()
    async with at_zudu(vendor, tmp_path) as model:
        text = await model.refused("delete_batch_call", "unexpected_response", batch_call_id="bc_1")
    assert NAMED_ANOTHER in text
    assert vendor.changed() == []


@pytest.mark.parametrize("tool", ["get_batch_call", "watch_batch_call", "export_batch_call"])
async def test_a_read_says_that_the_answer_is_about_another_batch_call(tool: str, tmp_path: Path) -> None:
    more: dict[str, dict[str, Any]] = {
        "get_batch_call": {},
        "watch_batch_call": {"timeout_seconds": 1},
        "export_batch_call": {"path": "out.csv"},
    }
    async with at_zudu(LyingZudu(), tmp_path) as model:
        arguments = {name: value for name, value in more[tool].items() if name in await model.schema(tool)}
        text = await model.refused(tool, "unexpected_response", batch_call_id="bc_1", **arguments)
    assert NAMED_ANOTHER in text


@pytest.mark.parametrize("tool", ["pause_batch_call", "cancel_batch_call"])
async def test_a_stop_goes_to_the_id_that_was_asked_for_whatever_the_read_says(tool: str, tmp_path: Path) -> None:
    server = LyingDialect(reads="bc_2", writes="bc_1")
    async with at_the_dialect(server, tmp_path) as model:
        stopped = await model.call(tool, batch_call_id="bc_1")
    action = tool.partition("_")[0]
    assert [one.path for one in server.writes] == [f"/batch-call/bc_1/{action}"]
    assert stopped["batch_call"]["batch_call_id"] == "bc_1"


async def test_a_cancel_goes_to_the_id_that_was_asked_for_at_zudu_and_magpipe(tmp_path: Path) -> None:
    """Neither backend confirms it for the right batch call: the outcome is unknown, and nothing else is touched."""
    scheduled, running = LyingZudu("SCHEDULED"), LyingMagpipe("running")
    async with at_zudu(scheduled, tmp_path / "zudu") as model:
        await model.refused("cancel_batch_call", "outcome_unknown", batch_call_id="bc_1")
    async with at_magpipe(running, tmp_path / "magpipe") as model:
        await model.refused("cancel_batch_call", "outcome_unknown", batch_call_id=running.first)
    assert scheduled.changed() == ["/batch-call/bc_1"]
    assert [one.status for one in scheduled.batches.values()] == ["DRAFT", "SCHEDULED"]
    assert running.changed() == [running.first]
    assert running.batches[running.first]["status"] == "cancelled"
    assert running.batches[running.second]["status"] == "running"


async def test_an_answer_of_a_launch_about_another_batch_call_is_not_its_state(tmp_path: Path) -> None:
    """The execute went to bc_1, and its answer speaks of bc_2: bc_1 is read, and its own state is reported."""
    server = LyingDialect("draft", reads="bc_1", writes="bc_2")
    async with at_the_dialect(server, tmp_path, Person()) as model:
        started = await model.call("start_batch_call", batch_call_id="bc_1", trigger_timestamp="now")
    assert [one.path for one in server.writes] == ["/batch-call/bc_1/execute"]
    assert (started["batch_call"]["batch_call_id"], started["batch_call"]["status"]) == ("bc_1", "running")


async def test_a_launch_after_which_only_another_batch_call_is_shown_has_an_unknown_outcome(tmp_path: Path) -> None:
    server = LyingDialect("draft", reads="bc_1", writes="bc_2")
    write = server._write

    async def turns(request: Request) -> Response:
        answer = await write(request)
        server.reads = "bc_2"
        return answer

    server.recording.app = Starlette(
        routes=[
            Route("/batch-call/{id}/tasks", server._tasks, methods=["GET"]),
            Route("/batch-call/{id}", server._read, methods=["GET"]),
            Route("/batch-call/{id}/{action}", turns, methods=["POST"]),
        ]
    )
    async with at_the_dialect(server, tmp_path, Person()) as model:
        text = await model.refused("start_batch_call", "outcome_unknown", batch_call_id="bc_1", trigger_timestamp="now")
    assert NAMED_ANOTHER in text
    assert [one.path for one in server.writes] == ["/batch-call/bc_1/execute"]


@pytest.mark.parametrize("says", ["BC_1", None], ids=["another letter case", "no id"])
async def test_an_answer_in_another_letter_case_or_without_an_id_tells_of_nobody(
    says: str | None, tmp_path: Path
) -> None:
    """The ledger knows a batch call by one spelling of its id."""
    vendor = LyingZudu(says=says)
    async with at_zudu(vendor, tmp_path, Person()) as model:
        await model.refused("get_batch_call", "unexpected_response", batch_call_id="bc_1")
        await model.refused("start_batch_call", "unexpected_response", batch_call_id="bc_1", trigger_timestamp="now")
    assert vendor.dialled == []


async def test_an_id_that_the_backend_writes_as_a_number_is_the_same_id() -> None:
    seen = {"data": {"batch_call_id": 123, "status": "draft"}}
    vendor = Vendor({"GET /batch-call/123": seen, "GET /batch-call/124": seen})
    async with vendor.http() as http:
        backend = BatchCallBackend(http, CREDENTIALS)
        assert (await backend.get("123")).batch_call_id == "123"
        with pytest.raises(UnexpectedResponse, match=NAMED_ANOTHER):
            await backend.get("124")


async def test_tasks_of_another_batch_call_are_not_taken_for_this_ones() -> None:
    listed = {"data": {"batch_call_id": "bc_2", "tasks": [{"to_number": OTHERS[0]}]}}
    vendor = Vendor({"GET /batch-call/bc_1/tasks": listed})
    rows = [{"id": "r1", "batch_id": "m_2", "phone_number": OTHERS[0], "status": "pending"}]
    whole = {"batch": {"id": "m_1", "status": "draft"}, "recipients": rows, "runs": None}
    async with vendor.http() as http:
        with pytest.raises(UnexpectedResponse, match=NAMED_ANOTHER):
            await BatchCallBackend(http, CREDENTIALS).tasks("bc_1", TaskQuery())
    async with Vendor({"POST /batch-calls": whole}).http() as http:
        with pytest.raises(UnexpectedResponse, match=NAMED_ANOTHER):
            await MagpipeBackend(http, CREDENTIALS).tasks("m_1", TaskQuery())


async def test_an_answer_of_a_change_about_another_batch_call_is_read_back() -> None:
    own, other = ({"id": name, "name": name, "status": "draft"} for name in ("m_1", "m_2"))

    def answer(asked: Asked) -> Any:
        return {"batch": other if asked.body["action"] == "update" else own, "recipients": [], "runs": None}

    async with Vendor({"POST /batch-calls": answer}).http() as http:
        current = BatchCall(batch_call_id="m_1", status=BatchStatus.DRAFT)
        updated = await MagpipeBackend(http, CREDENTIALS).update(current, BatchCallRequest(name="m_1"))
    assert (updated.batch_call_id, updated.name) == ("m_1", "m_1")
