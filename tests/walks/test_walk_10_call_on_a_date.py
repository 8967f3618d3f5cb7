"""Walk 9: tomorrow, nine to five their time, on two continents; who is promised a call-back; what Zudu cannot hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.server.app import build_server
from tests.server.transports import Way, client_of, served
from tests.vendors import zudu
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, Person, dials, number, playing, settings_of

NINE_TO_FIVE = {"start": "09:00", "end": "17:00"}
LONDON, TOKYO = "+442079460000", "+81312340000"
HERE = number(NEW_YORK, 0)


class Clock:
    """The dialer's; the server's own goes on as it does."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def show(self, zone: str, day: date, hour: int) -> None:
        """Move to when clocks there show this."""
        self.now = datetime(day.year, day.month, day.day, hour, tzinfo=ZoneInfo(zone)).astimezone(UTC)


@asynccontextmanager
async def team(way: str, folder: Path, person: Person, clock: Clock) -> AsyncIterator[Model]:
    """A model at a server whose dialer runs elsewhere, over stdio or over HTTP."""
    dialer = EmbeddedDialer(folder / "dialer", simulated_speed=2000, clock=clock, late_after=None, poll_seconds=0.1)
    await dialer.start()
    try:
        key, secret = dialer.credentials
        async with listening(dialer.app) as url:
            if way == "stdio":
                account: dict[str, str | Path] = {
                    "backend": "batchcall",
                    "url": url,
                    "api_key": key,
                    "api_secret": secret,
                }
                async with playing("auto", person, data_dir=folder / "data", **account) as model:
                    yield model
                return
            over = Way("http", "auto")
            settings = settings_of({"BACKEND": "batchcall", "URL": url, "DATA_DIR": str(folder / "data")})
            server = build_server(settings, transport="http")
            headers = {"X-API-KEY": key, "X-API-SECRET": secret}
            async with (
                served(server, settings, way=over, authenticate=server.authenticate) as address,
                client_of(address, over, headers=headers, elicitation_callback=person) as client,
            ):
                yield Model(client)
    finally:
        await dialer.aclose()


async def sent(model: Model, batch_call_id: str, people: int) -> dict[str, Any]:
    with anyio.fail_after(30):
        while True:
            found: dict[str, Any] = (await model.call("get_batch_call", batch_call_id=batch_call_id))["batch_call"]
            if found["counts"]["sent"] >= people:
                return found
            await anyio.sleep(0.03)


@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_tomorrow_nine_to_five_on_two_continents(way: str, tmp_path: Path) -> None:
    person, clock = Person("yes"), Clock()
    # A day on which nobody's date has begun.
    day = (datetime.now(UTC) + timedelta(days=3)).date()
    promised = datetime(day.year, day.month, day.day, 15, tzinfo=ZoneInfo("Europe/London"))
    tasks = [
        {"to_number": LONDON, "not_before": f"{day}T15:00", "timezone": "Europe/London"},
        {"to_number": HERE},
        {"to_number": TOKYO},
    ]
    async with team(way, tmp_path, person, clock) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=NINE_TO_FIVE, name="Autumn")
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        started = await model.call("start_batch_call", **one, trigger_timestamp=str(day))
        assert started["result"] == "scheduled"
        assert started["batch_call"]["scheduled_on"] == started["batch_call"]["expires_on"] == str(day)
        [question] = person.questions
        assert f" on {day:%a} {day.day} {day:%b}" in question
        assert "9:00 to 17:00 their time" in question
        assert "Who is not dialled on that day is not called." in question
        assert "1 of them has a promised call-back" in question
        task = (await model.call("get_batch_call", **one))["tasks"][0]
        assert datetime.fromisoformat(task["not_before"]) == promised

        clock.show("Asia/Tokyo", day, 8)
        clock.show("Asia/Tokyo", day, 9)
        await sent(model, one["batch_call_id"], 1)
        clock.show("Europe/London", day, 10)
        assert set(dials(tmp_path / "dialer")) == {TOKYO}, "a call-back waits for its time"
        clock.show("Europe/London", day, 15)
        found = await sent(model, one["batch_call_id"], 3)
        assert set(dials(tmp_path / "dialer")) == {TOKYO, LONDON, HERE}
        assert found["counts"]["total"] == 3

        # On the next day nobody is called on that one any more.
        clock.show("America/New_York", day + timedelta(days=1), 9)
        late = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": HERE}], name="Late")
        refused = await model.refused(
            "start_batch_call",
            "invalid_input",
            batch_call_id=late["batch_call"]["batch_call_id"],
            trigger_timestamp=str(day),
        )
        assert "nobody can be called" in refused


async def test_a_date_whose_day_is_over_for_some_is_counted_in_the_question(tmp_path: Path) -> None:
    """Somewhere it is always a day later: of Kiritimati and Pago Pago, a day apart, one has no such date any more."""
    person = Person("yes")
    ahead = ZoneInfo("Pacific/Kiritimati")
    # Of the two zones where a date ends last, one in which it does not end while this test runs.
    last = ("Pacific/Pago_Pago", "Etc/GMT+12")
    behind = next(zone for zone in last if datetime.now(ZoneInfo(zone)).hour < 23)
    today = datetime.now(ZoneInfo(behind)).date()
    assert today < datetime.now(ahead).date()
    always = {"start": "00:00", "end": "24:00"}
    tasks = [
        {"to_number": HERE, "timezone": "Pacific/Kiritimati"},
        {"to_number": number(NEW_YORK, 1), "timezone": behind},
    ]
    async with playing("auto", person, data_dir=tmp_path, simulated_speed="2000") as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=always, name="Today")
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **one, trigger_timestamp=str(today))
        assert "where 1 of them is: that person is not called." in person.questions[0]
        await sent(model, one["batch_call_id"], 1)
        assert set(dials(tmp_path)) == {number(NEW_YORK, 1)}
        gone = await model.call("create_batch_call", from_number=FROM, tasks=tasks[:1], window=always, name="Gone")
        text = await model.refused(
            "start_batch_call",
            "invalid_input",
            batch_call_id=gone["batch_call"]["batch_call_id"],
            trigger_timestamp=str(today),
        )
        assert "nobody would be called" in text
        assert len(person.questions) == 1


async def test_zudu_holds_one_moment_and_says_which_one_to_give(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        account = {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
        async with playing("auto", Person("yes"), data_dir=tmp_path, **account) as model:
            made = await model.call(
                "create_batch_call", from_number=FROM, tasks=[{"to_number": HERE}], timezone="America/New_York"
            )
            one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            text = await model.refused("start_batch_call", "not_supported", **one, trigger_timestamp="2099-11-27")
            assert "one moment for all tasks" in text
            assert "America/New_York, so give trigger_timestamp=2099-11-27T09:00-05:00" in text
            assert "ends_at" not in await model.schema("start_batch_call")
            later = await model.call("start_batch_call", **one, trigger_timestamp="2099-11-27T09:00")
            assert later["batch_call"]["scheduled_at"] == "2099-11-27T14:00:00Z"
