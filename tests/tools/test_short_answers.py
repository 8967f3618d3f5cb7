"""An answer says each thing once: a page of batch calls is small, and a draft does not repeat what its check showed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, number, numbers, playing, write_csv

MOST_OF_A_LIST = 6_000
ENDED, SCHEDULED = "2026 spring reminders for the clinic in Springfield", "2099-01-01T09:00Z"


def size(answer: dict[str, Any]) -> int:
    return len(json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode())


async def twenty(model: Model, *, full: bool) -> dict[str, Any]:
    """The page that lists twenty batch calls, each with all that its backend keeps of one."""
    more: dict[str, Any] = {"window": ALWAYS, "max_concurrency": 5, "agent_id": "a" * 36} if full else {}
    more |= {"retry": {"max_retries": 2, "after_minutes": 30}, "timezone": "America/New_York"} if full else {}
    for at in range(20):
        tasks = [{"to_number": one} for one in numbers(3 * 20)[3 * at : 3 * at + 3]]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, name=f"{ENDED} {at:02}", **more)
        if full and at % 2:
            one = made["batch_call"]["batch_call_id"]
            await model.call("start_batch_call", batch_call_id=one, trigger_timestamp=SCHEDULED)
    return await model.call("list_batch_calls")


async def test_twenty_batch_calls_of_the_dialer_fit_six_kilobytes(tmp_path: Path) -> None:
    async with playing("auto", Person(), data_dir=tmp_path) as model:
        page = await twenty(model, full=True)
    assert len(page["batch_calls"]) == 20
    assert size(page) <= MOST_OF_A_LIST
    for one in page["batch_calls"]:
        assert {"batch_call_id", "status", "name", "created_at", "counts"} <= one.keys()
        assert one["counts"]["total"] == 3
        assert ("scheduled_at" in one) == (one["status"] == "scheduled")


@pytest.mark.parametrize("opened", [Zudu, Magpipe])
async def test_twenty_batch_calls_of_a_vendor_fit_six_kilobytes(opened: type[Zudu | Magpipe], tmp_path: Path) -> None:
    vendor = opened()
    account: dict[str, Any] = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    if isinstance(vendor, Magpipe):
        account = {"backend": "magpipe", "api_key": magpipe.KEY}
    async with vendor.served() as url, playing("auto", Person(), url=url, data_dir=tmp_path, **account) as model:
        page = await twenty(model, full=False)
    assert len(page["batch_calls"]) == 20
    assert size(page) <= MOST_OF_A_LIST


async def test_a_draft_counts_the_skipped_rows_that_its_check_showed(tmp_path: Path) -> None:
    rows = [[f"not a number {line}"] for line in range(15)] + [[number(NEW_YORK, line)] for line in range(3)]
    write_csv(tmp_path / "people.csv", ["phone"], rows)
    async with playing("auto", Person(), data_dir=tmp_path / "data", files=tmp_path) as model:
        request = {"tasks_file": "people.csv", "from_number": FROM}
        checked = await model.call("check_batch_call", **request)
        made = await model.call("create_batch_call", **request)
    assert len(checked["skipped_rows"]) == 15
    assert "skipped_rows" not in made
    assert made["preflight"]["skipped_rows"] == {"invalid": 15}
    assert "15 rows are skipped: 15 invalid." in made["summary"]
    assert any("check_batch_call" in note for note in made["notes"])
    assert size(made) <= 2_000


async def test_a_count_of_zero_is_said_once(tmp_path: Path) -> None:
    """In the counts, where it differs from one that the backend does not report; not in the sentence again."""
    async with playing("auto", Person(), data_dir=tmp_path) as model:
        people = [{"to_number": number(NEW_YORK, 0)}]
        checked = await model.call("check_batch_call", from_number=FROM, tasks=people)
        made = await model.call("create_batch_call", from_number=FROM, tasks=people)
        seen = await model.call("get_batch_call", batch_call_id=made["batch_call"]["batch_call_id"])
    assert seen["batch_call"]["counts"]["not_reached"] == 0
    assert seen["summary"].endswith(" is draft: 1 tasks, 1 pending.")
    assert checked["summary"].startswith("1 of 1 rows can be called. ")
    assert checked["skipped_rows_total"] == 0
