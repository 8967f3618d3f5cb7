"""The emergency stop in the dialer itself: nothing is dialled or launched, for any organisation, until it is lifted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from batchcall_mcp import database as databases
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import api_keys, stops
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.settings import STOP_FILE
from tests.dialer.conftest import Caller, NewCaller, body, client_of, emptied_postgresql, eventually, numbers
from tests.dialer.wired import Desk

TOMORROW = "2026-11-24T20:00:00Z"
DATABASES = pytest.mark.parametrize("database", ["sqlite", "postgresql"])


def opened(caller: Caller) -> Store:
    """The same database, as the command opens it in a process of its own."""
    found = Store.open_existing(caller.dialer._database, caller.clock)
    assert found is not None
    return found


def stop(caller: Caller) -> int:
    store = opened(caller)
    try:
        return stops.stop(store)
    finally:
        store.close()


def clear(caller: Caller) -> None:
    store = opened(caller)
    stops.clear(store)
    store.close()


async def reason(caller: Caller, batch_call_id: str) -> tuple[str, str | None]:
    found = await caller.get(batch_call_id)
    return found["status"], (found["status_reason"] or {}).get("code")


async def test_what_is_live_is_paused_with_the_reason_for_every_organisation(desk: Caller) -> None:
    pair = api_keys.new_pair()
    api_keys.add(desk.dialer.store(), pair, "another")
    live = await desk.create(numbers(3), send_now=True)
    scheduled = await desk.create(numbers(3), trigger_timestamp=TOMORROW)
    draft = await desk.create(numbers(3))
    async with client_of(desk.dialer.app, *pair) as http:
        another = Caller(desk.dialer, http, desk.clock, desk.data_dir)
        theirs = await another.create(numbers(3), send_now=True)
        assert stop(desk) == 3
        assert await reason(another, theirs) == ("paused", "stopped")
    assert await reason(desk, live) == ("paused", "stopped")
    assert await reason(desk, scheduled) == ("paused", "stopped")
    assert await reason(desk, draft) == ("draft", None)
    listed = (await desk.ask("GET", "/batch-call/list"))["batch_calls"]
    assert {one["batch_call_id"]: (one["status_reason"] or {}).get("code") for one in listed} == {
        live: "stopped",
        scheduled: "stopped",
        draft: None,
    }
    assert stop(desk) == 0, "a second stop finds nothing live"


LAUNCHES: dict[str, tuple[str, str, Any]] = {
    "create now": ("POST", "/batch-call", body(numbers(1), send_now=True)),
    "create with a time": ("POST", "/batch-call", body(numbers(1), trigger_timestamp=TOMORROW)),
    "PUT now": ("PUT", "/batch-call/{draft}", body(numbers(1), send_now=True)),
    "PATCH a time": ("PATCH", "/batch-call/{draft}", {"trigger_timestamp": TOMORROW}),
    "PATCH sent": ("PATCH", "/batch-call/{draft}", {"status": "sent"}),
    "execute": ("POST", "/batch-call/{draft}/execute", None),
    "resume": ("POST", "/batch-call/{paused}/resume", None),
    "append": ("POST", "/batch-call/{paused}/tasks", {"tasks": [{"to_number": "+13102000000"}]}),
    "retry": ("POST", "/batch-call/{done}/retry", {"task_status": ["no_answer"]}),
}


@pytest.mark.parametrize("by", ["the row", "the file", "a link that leads nowhere"])
async def test_nothing_is_launched_until_it_is_lifted_and_nothing_is_resumed_by_that(by: str, desk: Caller) -> None:
    ids = {
        "draft": await desk.create(numbers(2)),
        "paused": await desk.create(numbers(2), send_now=True),
        "done": await desk.create(numbers(2, 3), send_now=True),
    }
    await desk.ask("POST", f"/batch-call/{ids['paused']}/pause")
    if by == "the row":
        stop(desk)
    elif by == "the file":
        (desk.data_dir / STOP_FILE).touch()
    else:
        (desk.data_dir / STOP_FILE).symlink_to(desk.data_dir / "nowhere")

    for name, (method, path, content) in LAUNCHES.items():
        refused = await desk.ask(method, path.format(**ids), content, status=409)
        assert (name, refused["code"]) == (name, "emergency_stop")
        assert "Nothing was changed" in refused["error"]
        assert "stop --clear" in refused["error"]
    # What calls nobody goes on.
    await desk.create(numbers(1))
    await desk.ask("PATCH", f"/batch-call/{ids['draft']}", {"name": "renamed"})
    await desk.ask("POST", f"/batch-call/{ids['draft']}/tasks", {"tasks": [{"to_number": "+13102000000"}]})
    await desk.ask("POST", f"/batch-call/{ids['paused']}/pause")

    (desk.data_dir / STOP_FILE).unlink(missing_ok=True)
    clear(desk)
    assert (await desk.get(ids["paused"]))["status"] == "paused"
    await desk.ask("POST", f"/batch-call/{ids['paused']}/resume")
    assert await reason(desk, ids["paused"]) == ("sent", None)
    await desk.ask("POST", f"/batch-call/{ids['draft']}/execute")


async def test_a_launch_that_was_carried_out_before_is_answered_as_it_was(desk: Caller) -> None:
    once = {"Idempotency-Key": "november"}
    made = await desk.ask("POST", "/batch-call", body(numbers(1), send_now=True), headers=once)
    stop(desk)
    again = await desk.ask("POST", "/batch-call", body(numbers(1), send_now=True), headers=once)
    assert again["batch_call_id"] == made["batch_call_id"]
    assert await reason(desk, made["batch_call_id"]) == ("paused", "stopped")


async def test_one_that_waited_for_its_time_waits_again_when_it_is_resumed(desk: Caller) -> None:
    scheduled = await desk.create(numbers(2), trigger_timestamp=TOMORROW)
    stop(desk)
    clear(desk)
    await desk.ask("POST", f"/batch-call/{scheduled}/resume")
    assert await reason(desk, scheduled) == ("scheduled", None)


def place_of(database: str) -> dict[str, Any]:
    return {"database": emptied_postgresql()} if database == "postgresql" else {}


@DATABASES
async def test_when_it_returns_the_last_dial_is_over(database: str, new_caller: NewCaller) -> None:
    """The carrier's record is read at once: nobody is dialled between that and any later moment."""
    async with new_caller(simulated_speed=300.0, **place_of(database)) as caller:
        batch_call_id = await caller.create(numbers(2_000), send_now=True, max_concurrency=50)
        await eventually(lambda: len(caller.dialled()) >= 50)
        await anyio.to_thread.run_sync(stop, caller)
        dialled = len(caller.dialled())
        await caller.until(batch_call_id, lambda data: data["counts"]["calling"] == 0)
        assert len(caller.dialled()) == dialled
        assert await reason(caller, batch_call_id) == ("paused", "stopped")
        counts = (await caller.get(batch_call_id))["counts"]
        assert counts["pending"] == 2_000 - dialled


@DATABASES
async def test_a_launch_of_many_that_is_on_its_way_is_waited_for_and_calls_nobody(
    database: str, new_caller: NewCaller
) -> None:
    """30,000 people: when the stop returns, the launch is either refused or paused."""
    async with new_caller(simulated_speed=300.0, **place_of(database)) as caller, anyio.create_task_group() as group:
        many = body([f"+1213{index:07d}" for index in range(2_000_000, 2_030_000)], send_now=True, max_concurrency=50)
        answers: list[int] = []
        answered = anyio.Event()

        async def launch() -> None:
            answers.append((await caller.http.post("/batch-call", json=many, timeout=120)).status_code)
            answered.set()

        group.start_soon(launch)
        await anyio.to_thread.run_sync(partial(begun, caller, answers))
        await anyio.to_thread.run_sync(stop, caller)
        dialled = len(caller.dialled())
        with anyio.fail_after(120):
            await answered.wait()
        assert len(caller.dialled()) == dialled
        listed = (await caller.ask("GET", "/batch-call/list"))["batch_calls"]
        assert (answers, [one["status"] for one in listed]) in [([409], []), ([200], ["paused"])]


def begun(caller: Caller, answers: list[int]) -> None:
    """Until the launch is in the database, or about to be: its transaction holds others up."""
    store = opened(caller)
    try:
        while not answers:
            with store.reading() as tx:
                if store.shared:
                    at_work = "SELECT count(*) FROM pg_stat_activity WHERE starts_with(query, 'COPY tasks')"
                    if tx.exec_driver_sql(at_work).scalar_one():
                        return
                elif (Path(str(caller.dialer._database) + "-wal")).stat().st_size > 1_000_000:
                    return
    finally:
        store.close()


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["file", "link"])
@DATABASES
async def test_the_file_stops_a_dialer_that_dials(kind: str, database: str, new_caller: NewCaller) -> None:
    """All organisations and machines: it becomes the row, which `stop --clear` alone lifts."""
    async with new_caller(simulated_speed=300.0, **place_of(database)) as caller:
        batch_call_id = await caller.create(numbers(2_000), send_now=True, max_concurrency=50)
        await eventually(lambda: len(caller.dialled()) >= 50)
        stop_file = caller.data_dir / STOP_FILE
        stop_file.touch() if kind == "file" else stop_file.symlink_to("nowhere")
        data = await caller.until_status(batch_call_id, "paused")
        dialled = len(caller.dialled())
        assert data["status_reason"]["code"] == "stopped"
        stop_file.unlink()
        refused = await caller.ask("POST", f"/batch-call/{batch_call_id}/resume", status=409)
        assert refused["code"] == "emergency_stop"
        await caller.until(batch_call_id, lambda data: data["counts"]["calling"] == 0)
        assert len(caller.dialled()) == dialled < 2_000
        clear(caller)
        await caller.ask("POST", f"/batch-call/{batch_call_id}/resume")
        await eventually(lambda: len(caller.dialled()) > dialled)


async def test_a_message_says_why_it_was_paused(desk: Caller) -> None:
    await desk.ask("POST", "/webhooks", {"url": "https://203.0.114.9/hook"})
    await desk.create(numbers(1), send_now=True)
    stop(desk)
    store = opened(desk)
    with store.reading() as tx:
        told = [
            row[0] for row in tx.exec_driver_sql("SELECT payload FROM webhook_outbox WHERE event = 'batch_call.paused'")
        ]
    store.close()
    assert len(told) == 1
    assert '"status_reason":"stopped"' in told[0]


def test_nothing_is_made_where_no_dialer_ever_ran(tmp_path: Path) -> None:
    assert Store.open_existing(tmp_path / "dialer.db") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lifted", ["after the look at the file", "before the pauses"])
@DATABASES
def test_a_stop_that_is_lifted_meanwhile_does_not_come_back(
    lifted: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has seen the file, and `stop --clear` removes it and clears the row before the engine goes on.

    Where the stop was on already, what was live is paused, as by every stop.
    """
    where = tmp_path / "dialer.db" if database == "sqlite" else emptied_postgresql()
    store = Store.open(where, stop_file=tmp_path / STOP_FILE)
    desk = Desk(store)
    live = desk.running(numbers(1))

    def lift() -> None:
        (tmp_path / STOP_FILE).unlink(missing_ok=True)
        stops.clear(store)

    def lift_before(place: object, name: str) -> None:
        function = getattr(place, name)

        def lifted(*given: object) -> object:
            monkeypatch.undo()
            lift()
            return function(*given)

        monkeypatch.setattr(place, name, lifted)

    (tmp_path / STOP_FILE).touch()
    lift_before(*((stops, "is_on") if lifted == "after the look at the file" else (databases, "writing")))
    assert stops.obey_file(store) is None
    assert not stops.is_on(store)
    assert desk.record(live).status is (State.SENT if lifted == "after the look at the file" else State.PAUSED)
    store.close()


def failing_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that pauses what is live is cut off: a database that went away, a process that was killed."""
    pause = stops._pause_live

    def cut_off(*_: Any) -> int:
        monkeypatch.setattr(stops, "_pause_live", pause)
        raise sa.exc.OperationalError("UPDATE", {}, Exception("the connection was lost"))

    monkeypatch.setattr(stops, "_pause_live", cut_off)


async def test_what_the_file_could_not_pause_is_paused_at_the_next_look(
    desk: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await desk.create(numbers(1), send_now=True)
    (desk.data_dir / STOP_FILE).touch()
    failing_once(monkeypatch)
    store = desk.dialer.store()
    with pytest.raises(sa.exc.OperationalError):
        stops.obey_file(store)
    assert stops.obey_file(store) == 1
    assert await reason(desk, live) == ("paused", "stopped")
    assert stops.obey_file(store) is None


async def test_what_a_stop_could_not_pause_does_not_go_on_when_it_is_lifted(
    desk: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await desk.create(numbers(1), send_now=True)
    failing_once(monkeypatch)
    with pytest.raises(sa.exc.OperationalError):
        stop(desk)
    clear(desk)
    assert await reason(desk, live) == ("paused", "stopped")
    await desk.ask("POST", f"/batch-call/{live}/resume")
    clear(desk)
    assert await reason(desk, live) == ("sent", None), "there was no stop to lift"
