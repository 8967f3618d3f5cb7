"""Whom a retry calls: nobody who was reached since, and nobody twice in one go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from batchcall_mcp.dialer.app import EmbeddedDialer
from tests.kills.scenes import Front
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Person, dials, number, playing

ANN, BOB = (number(NEW_YORK, line) for line in (0, 1))
BUSY = number(NEW_YORK, 7)
TASKS = [{"to_number": one} for one in (ANN, BOB)]


async def test_who_was_reached_by_a_retry_that_was_renamed_since_is_not_called_again(tmp_path: Path) -> None:
    """Renamed in the vendor's own web application. The ledger knows of what it is a retry."""
    vendor = Magpipe()
    account = {"backend": "magpipe", "api_key": magpipe.KEY, "calling_hours": "00:00-24:00"}
    async with vendor.served() as url, playing("auto", Person(), url=url, data_dir=tmp_path, **account) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, name="November")
        first = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **first, trigger_timestamp="now")
        vendor.finish(first["batch_call_id"], otherwise="no_answer")
        made = await model.call("retry_batch_call", **first)
        second = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **second, trigger_timestamp="now")
        vendor.finish(second["batch_call_id"], otherwise="completed")
        vendor.batches[second["batch_call_id"]]["name"] = "November, second round"
        vendor.dialled.clear()
        made = await model.call("retry_batch_call", **first, idempotency_key="evening")
        if "batch_call" in made and made["result"] == "created":
            third = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            await model.call("start_batch_call", **third, trigger_timestamp="now")
    assert vendor.dialled == [], "both were reached by the second one"


async def test_somebody_who_is_in_a_list_twice_is_dialled_once_by_a_retry(tmp_path: Path) -> None:
    """The list was made over the dialer's REST face, which takes a number twice; the question counts it once."""
    dialer = EmbeddedDialer(tmp_path / "dialer", simulated_speed=2000, poll_seconds=0.1, daily_cap=9)
    await dialer.start()
    key, secret = dialer.credentials
    headers = {"X-API-KEY": key, "X-API-SECRET": secret}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(dialer.app), base_url="http://dialer", headers=headers
    ) as client:
        body = {
            "from_number": FROM,
            "tasks": [{"to_number": BUSY}, {"to_number": BUSY}],
            "window": {**ALWAYS, "days": list(range(7)), "timezone": "UTC"},
            "max_concurrency": 1,
            "send_now": True,
        }
        made = (await client.post("/batch-call", json=body)).json()["data"]["batch_call_id"]
        await ended(client, made)
        before = dials(tmp_path / "dialer")[BUSY]
        async with (
            listening(dialer.app) as url,
            playing(
                "auto", person := Person(), backend="batchcall", url=url, api_key=key, api_secret=secret,
                data_dir=tmp_path / "server",
            ) as model,
        ):  # fmt: skip
            told = await model.call("retry_batch_call", batch_call_id=made)
        await ended(client, made)
        after = dials(tmp_path / "dialer")[BUSY]
    await dialer.aclose()
    assert "Call 1 person " in person.questions[0], person.questions[0]
    assert "1 row is skipped: 1 duplicate." in person.questions[0], person.questions[0]
    assert after - before == 1, told["summary"]


async def ended(client: httpx2.AsyncClient, batch_call_id: str) -> None:
    """Wait until nobody is left to be called."""
    with anyio.fail_after(30):
        while (await client.get(f"/batch-call/{batch_call_id}")).json()["data"]["status"] == "sent":  # noqa: ASYNC110
            await anyio.sleep(0.01)


WITHOUT_IDS = [{"to_number": ANN, "status": "completed"}, {"to_number": BOB, "status": "failed"}]


@asynccontextmanager
async def of_the_dialect(asked: list[Any], rows: list[dict[str, str]]) -> AsyncIterator[str]:
    """A server of the dialect with one batch call, that is over, of these tasks."""
    shown = {"batch_call_id": "bc", "status": "completed", "from_number": FROM, "total": len(rows)}

    async def batch_call(_request: Request) -> JSONResponse:
        return JSONResponse({"data": shown})

    async def tasks(_request: Request) -> JSONResponse:
        return JSONResponse({"data": {"tasks": rows, "pagination": {"total_count": len(rows)}}})

    async def listed(_request: Request) -> JSONResponse:
        return JSONResponse({"data": {"batch_calls": [shown], "pagination": {"total_count": 1}}})

    async def retry(request: Request) -> JSONResponse:
        asked.append(await request.json())
        return JSONResponse({"data": shown | {"status": "sent"}})

    app = Starlette(
        routes=[
            Route("/batch-call/list", listed),
            Route("/batch-call/bc", batch_call),
            Route("/batch-call/bc/tasks", tasks),
            Route("/batch-call/bc/retry", retry, methods=["POST"]),
        ]
    )
    async with listening(app) as url:
        yield url


async def test_a_retry_that_can_name_no_task_is_not_sent(tmp_path: Path) -> None:
    """{"task_ids": []} may well mean everybody."""
    asked: list[Any] = []
    account = {"backend": "batchcall", "api_key": zudu.KEY, "api_secret": zudu.SECRET, "calling_hours": "00:00-24:00"}
    async with (
        of_the_dialect(asked, WITHOUT_IDS) as url,
        playing("auto", Person(), url=url, data_dir=tmp_path, **account) as model,
    ):
        await model.client.call_tool("retry_batch_call", {"batch_call_id": "bc"})
    assert asked == []


async def test_who_waits_in_a_later_batch_call_under_another_spelling_is_not_called_again(tmp_path: Path) -> None:
    """Somebody made the second one in the vendor's own web application, from a list without the + signs."""
    vendor = Magpipe()
    first = vendor._stored({"name": "November", "caller_id": FROM}, [ANN, BOB], "completed")["id"]
    for recipient in vendor.recipients[first]:
        recipient["status"] = "no_answer"
    spelt = [ANN.removeprefix("+"), f"+1 {BOB[2:5]} {BOB[5:8]} {BOB[8:]}"]
    vendor._stored({"name": f"November (retry of {first})", "caller_id": FROM}, spelt, "draft")
    account = {"backend": "magpipe", "api_key": magpipe.KEY, "calling_hours": "00:00-24:00"}
    async with vendor.served() as url, playing("auto", Person(), url=url, data_dir=tmp_path, **account) as model:
        told = await model.call("retry_batch_call", batch_call_id=first)
    assert told["result"] == "nothing_to_do", told["summary"]
    assert len(vendor.batches) == 2


async def test_the_rows_of_a_list_given_again_are_found_under_another_spelling(tmp_path: Path) -> None:
    vendor = zudu.Zudu()
    tasks = [zudu.Task(f"task_{at}", one.removeprefix("+"), {}, "FAILED") for at, one in enumerate((ANN, BOB))]
    tasks[1].status = "COMPLETED"
    vendor.batches["bc"] = zudu.Batch("bc", "org_first", vendor.now, {"from_number": FROM}, "COMPLETED", None, tasks)
    account = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET, "calling_hours": "00:00-24:00"}
    again = tmp_path / "files" / "again.csv"
    again.parent.mkdir()
    again.write_text(f"phone\n{ANN}\n{BOB}\n")
    async with (
        vendor.served() as url,
        playing("auto", Person(), url=url, data_dir=tmp_path, files=again.parent, **account) as model,
    ):
        made = await model.call("retry_batch_call", batch_call_id="bc", tasks_file="again.csv")
    new = vendor.batches[made["batch_call"]["batch_call_id"]]
    assert [task.to_number for task in new.tasks] == [ANN]


async def test_tasks_are_dialled_again_by_their_ids_however_their_numbers_are_spelt(tmp_path: Path) -> None:
    asked: list[Any] = []
    spelt = f"+1 {BOB[2:5]} {BOB[5:8]} {BOB[8:]}"
    account = {"backend": "batchcall", "api_key": zudu.KEY, "api_secret": zudu.SECRET, "calling_hours": "00:00-24:00"}
    rows = [{"task_id": "t2", "to_number": spelt, "status": "failed"}]
    async with (
        of_the_dialect(asked, rows) as url,
        playing("auto", Person(), url=url, data_dir=tmp_path, **account) as model,
    ):
        told = await model.call("retry_batch_call", batch_call_id="bc")
    assert told["result"] == "retried"
    assert asked == [{"task_ids": ["t2"]}]


async def test_a_retry_whose_answer_was_lost_says_so(tmp_path: Path) -> None:
    """What was looked up is known from a look, not from an answer."""
    dialer = EmbeddedDialer(tmp_path / "dialer", simulated_speed=2000, poll_seconds=0.1, daily_cap=9)
    await dialer.start()
    key, secret = dialer.credentials
    front = Front(dialer.app, lambda method, path, _body: method == "POST" and path.endswith("/retry"), lambda: None)
    account = {"backend": "batchcall", "api_key": key, "api_secret": secret, "calling_hours": "00:00-24:00"}
    async with (
        listening(front) as url,
        playing("auto", Person(), url=url, data_dir=tmp_path / "server", **account) as model,
    ):
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": BUSY}], window=ALWAYS)
        name = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
        await model.call("watch_batch_call", batch_call_id=name, timeout_seconds=15)
        front.trouble = "half answered"
        told = await model.call("retry_batch_call", batch_call_id=name)
    await dialer.aclose()
    assert told["result"] == "retried"
    assert [note for note in told["notes"] if note.startswith("The backend's answer was lost; ")]
