"""BATCHCALL_CONFIRM=off: what could not be checked is not passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kills.scenes import Front
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, dials, number, playing

PEOPLE = [number(NEW_YORK, line) for line in (0, 1)]
OTHER = number(NEW_YORK, 9)


async def test_a_list_that_could_not_be_compared_with_all_that_is_live_is_not_launched(tmp_path: Path) -> None:
    """The same two people wait in the oldest of 51 live batch calls."""
    vendor = Magpipe()
    vendor._stored({"name": "old", "caller_id": FROM}, PEOPLE, "scheduled")
    for at in range(50):
        vendor._stored({"name": f"{at}", "caller_id": FROM}, [OTHER], "scheduled")
    unattended: dict[str, Any] = {"confirm": "off", "max_calls_per_launch": "10", "calling_hours": "00:00-24:00"}
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with vendor.served() as url, playing("auto", url=url, data_dir=tmp_path, **account, **unattended) as model:
        launch = {"from_number": FROM, "tasks": [{"to_number": one} for one in PEOPLE], "trigger_timestamp": "now"}
        await model.client.call_tool("create_batch_call", launch)
    assert vendor.dialled == []


async def test_people_whose_launch_has_an_unknown_outcome_are_not_launched_again_by_a_new_key(tmp_path: Path) -> None:
    """A scheduler that runs the job once more with its next key, while the first request is still on its way."""
    vendor = Magpipe()
    front = Front(
        vendor.recording,
        lambda _method, path, body: path == "/batch-calls" and body["action"] == "create",
        lambda: None,
    )
    unattended: dict[str, Any] = {"confirm": "off", "max_calls_per_launch": "10", "calling_hours": "00:00-24:00"}
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with listening(front) as url, playing("auto", url=url, data_dir=tmp_path, **account, **unattended) as model:
        launch = {"from_number": FROM, "tasks": [{"to_number": one} for one in PEOPLE], "trigger_timestamp": "now"}
        front.trouble = "carried out later"
        await model.refused("create_batch_call", "outcome_unknown", **launch, idempotency_key="run-1")
        await model.client.call_tool("create_batch_call", launch | {"idempotency_key": "run-2"})
        await front.catch_up()
    assert sorted(vendor.dialled) == PEOPLE


UNATTENDED: dict[str, Any] = {"confirm": "off", "max_calls_per_launch": "50", "calling_hours": "00:00-24:00"}
TWENTY = [number(NEW_YORK, line) for line in range(20, 40)]


def launch_of(people: list[str]) -> dict[str, Any]:
    return {"from_number": FROM, "tasks": [{"to_number": one} for one in people], "trigger_timestamp": "now"}


async def test_somebody_who_is_in_another_live_batch_call_is_skipped_and_the_others_are_called(tmp_path: Path) -> None:
    vendor = Magpipe()
    other = vendor._stored({"name": "old", "caller_id": FROM}, TWENTY[:2], "scheduled")
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with (
        vendor.served() as url,
        playing("auto", None, url=url, data_dir=tmp_path, **account, **UNATTENDED) as model,
    ):
        made = await model.call("create_batch_call", **launch_of(TWENTY))
    assert sorted(vendor.dialled) == TWENTY[2:]
    assert "18 of 20 rows" in made["summary"]
    assert [(row["line"], row["to_number"], row["kind"]) for row in made["skipped_rows"]] == [
        (1, TWENTY[0], "concern"),
        (2, TWENTY[1], "concern"),
    ]
    assert any("2 people are skipped" in note and "in another live batch call" in note for note in made["notes"])
    assert vendor.batches[other["id"]]["status"] == "scheduled"


async def test_more_people_than_the_operator_allows_are_not_skipped_but_the_launch_is_refused(tmp_path: Path) -> None:
    vendor = Magpipe()
    vendor._stored({"name": "old", "caller_id": FROM}, TWENTY[:3], "scheduled")
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with vendor.served() as url:
        async with playing("auto", None, url=url, data_dir=tmp_path, **account, **UNATTENDED) as model:
            text = await model.refused("create_batch_call", "not_confirmed", **launch_of(TWENTY))
        assert vendor.dialled == []
        assert "3 of 20 people would be skipped, and BATCHCALL_SKIP_PEOPLE_MAX allows 10 %." in text
        assert "3 of the numbers are in another live batch call" in text
        allowed: dict[str, Any] = UNATTENDED | {"skip_people_max": "15%"}
        async with playing("auto", None, url=url, data_dir=tmp_path, **account, **allowed) as model:
            await model.call("create_batch_call", **launch_of(TWENTY))
    assert sorted(vendor.dialled) == TWENTY[3:]


async def test_what_concerns_the_whole_launch_still_refuses_it(tmp_path: Path) -> None:
    vendor = Magpipe()
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with (
        vendor.served() as url,
        playing("auto", None, url=url, data_dir=tmp_path, **account, **UNATTENDED) as model,
    ):
        late = launch_of(TWENTY) | {"trigger_timestamp": "2024-01-01T10:00:00Z"}
        text = await model.refused("create_batch_call", "not_confirmed", **late)
    assert "so this means now" in text
    assert vendor.dialled == []


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_backend_that_cannot_be_stopped_is_used_unattended_where_the_operator_accepts_that(
    accepted: bool, tmp_path: Path
) -> None:
    vendor = Zudu()
    account: dict[str, Any] = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    settings: dict[str, Any] = UNATTENDED | account | {"accept_no_stop": str(accepted).lower()}
    async with vendor.served() as url, playing("auto", None, url=url, data_dir=tmp_path, **settings) as model:
        tasks = [{"to_number": one, "dynamic_variables": {"name": "Ann"}} for one in TWENTY]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks)
        start = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        result = await model.client.call_tool("start_batch_call", start)
    assert result.is_error is not accepted, result.content
    assert sorted(vendor.dialled) == (TWENTY if accepted else [])


async def test_the_dialer_skips_people_of_a_list_that_it_holds_when_it_is_started(tmp_path: Path) -> None:
    """They came onto the do-not-call list, or into another live batch call, after the draft was made."""
    never = tmp_path / "never.txt"
    never.write_text("")
    settings: dict[str, Any] = UNATTENDED | {"do_not_call": never, "simulated_speed": "5000", "skip_people_max": "20 %"}
    async with playing("auto", None, data_dir=tmp_path, **settings) as model:
        tasks = [{"to_number": one} for one in TWENTY]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks)
        later = await model.call("create_batch_call", from_number=FROM, tasks=tasks[1:2])
        other = later["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=other, trigger_timestamp="2099-01-01T12:00:00Z")
        never.write_text(f"{TWENTY[0]}\n")
        start = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        started = await model.call("start_batch_call", **start)
        assert [(row["to_number"], row["kind"]) for row in started["skipped_rows"]] == [
            (TWENTY[0], "do_not_call"),
            (TWENTY[1], "concern"),
        ]
        await model.call("watch_batch_call", batch_call_id=start["batch_call_id"], timeout_seconds=30)
        skipped = await model.call("get_batch_call", batch_call_id=start["batch_call_id"], task_status=["skipped"])
    assert [(task["to_number"], task["error"]) for task in skipped["tasks"]] == [
        (TWENTY[0], "the number is on the do-not-call list"),
        (TWENTY[1], "the number is in another live batch call, or in a launch of the last minutes"),
    ]
    assert sorted(dials(tmp_path)) == TWENTY[2:]
