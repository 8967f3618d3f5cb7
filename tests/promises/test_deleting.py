"""Deleting a batch call that has results is confirmed, and the question says that they are lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.batch_calls.writes.launch import has_results, what_is_lost
from batchcall_mcp.model import BatchCall, BatchStatus, Counts
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Model, Person, numbers, playing

PEOPLE = numbers(3)
THEN = datetime(2026, 1, 1, tzinfo=UTC)
LOST = (
    'Delete "November" (bc_done) for good? Results of 3 calls are lost: export_batch_call saves them first. This '
    "cannot be undone."
)


def called() -> Zudu:
    """Zudu with a batch call that is over (bc_done) and a draft that was never dialled (bc_draft)."""
    vendor = Zudu()
    for name, status, task in (("bc_done", "COMPLETED", "COMPLETED"), ("bc_draft", "DRAFT", "PENDING")):
        tasks = [zudu.Task(f"task_{at}", one, {}, task) for at, one in enumerate(PEOPLE)]
        body = {"from_number": FROM, "name": "November"}
        vendor.batches[name] = zudu.Batch(name, "org_first", vendor.now, body, status, None, tasks)
    return vendor


@asynccontextmanager
async def at(vendor: Zudu, home: Path, person: Person | None = None, **more: str | Path) -> AsyncIterator[Model]:
    account: dict[str, Any] = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET} | more
    async with vendor.served() as url, playing("auto", person, url=url, data_dir=home, **account) as model:
        yield model


async def test_a_person_is_asked_and_reads_what_is_lost(tmp_path: Path) -> None:
    vendor, person = called(), Person("yes")
    async with at(vendor, tmp_path, person) as model:
        deleted = await model.call("delete_batch_call", batch_call_id="bc_done")
    assert person.questions == [LOST]
    assert deleted["result"] == "deleted"
    assert vendor.batches.keys() == {"bc_draft"}


@pytest.mark.parametrize("answer", ["no", "dismiss"])
async def test_without_a_yes_it_stays(answer: Any, tmp_path: Path) -> None:
    vendor = called()
    async with at(vendor, tmp_path, Person(answer)) as model:
        text = await model.refused("delete_batch_call", "not_confirmed", batch_call_id="bc_done")
    assert "Nothing was sent" in text
    assert vendor.writes == []


async def test_where_the_client_cannot_ask_a_person_answers_elsewhere(tmp_path: Path) -> None:
    vendor = called()
    async with at(vendor, tmp_path, approval_page="off") as model:
        waits = await model.call("delete_batch_call", batch_call_id="bc_done")
    assert waits["result"] == "waiting_for_person"
    assert LOST in waits["summary"]
    assert "preflight" not in waits
    assert vendor.writes == []


async def test_a_code_deletes_once_where_codes_are_taken(tmp_path: Path) -> None:
    vendor = called()
    async with at(vendor, tmp_path, confirm="code") as model:
        asked = await model.call("delete_batch_call", batch_call_id="bc_done")
        code = {"confirmation_code": asked["confirmation_code"]}
        assert vendor.writes == []
        await model.refused("delete_batch_call", "not_confirmed", batch_call_id="bc_done", confirmation_code="AAAAAAAA")
        deleted = await model.call("delete_batch_call", batch_call_id="bc_done", **code)
    assert LOST in asked["summary"]
    assert deleted["result"] == "deleted"


async def test_where_nobody_is_asked_it_is_refused(tmp_path: Path) -> None:
    vendor = called()
    async with at(vendor, tmp_path, confirm="off", max_calls_per_launch="9") as model:
        text = await model.refused("delete_batch_call", "not_confirmed", batch_call_id="bc_done")
        assert (await model.call("delete_batch_call", batch_call_id="bc_draft"))["result"] == "deleted"
    assert "nobody is asked" in text
    assert vendor.batches.keys() == {"bc_done"}


async def test_a_draft_that_was_never_dialled_is_deleted_without_a_question(tmp_path: Path) -> None:
    vendor, person = called(), Person("no")
    async with at(vendor, tmp_path, person) as model:
        assert (await model.call("delete_batch_call", batch_call_id="bc_draft"))["result"] == "deleted"
    assert person.questions == []


async def test_neither_the_emergency_stop_nor_a_limit_of_calls_is_in_its_way(tmp_path: Path) -> None:
    vendor = called()
    (tmp_path / "STOP").touch()
    limits = {"max_calls_per_launch": "1", "max_calls_per_day": "1"}
    async with at(vendor, tmp_path, Person("yes"), **limits) as model:
        for name in ("bc_done", "bc_draft"):
            assert (await model.call("delete_batch_call", batch_call_id=name))["result"] == "deleted"
    assert vendor.batches == {}


async def test_what_cannot_be_recorded_is_not_deleted(tmp_path: Path) -> None:
    """A stop goes on without the ledger; a deletion is none."""
    (tmp_path / "owners").write_text("")  # in place of the folder of locks
    vendor = called()
    async with at(vendor, tmp_path, Person("yes")) as model:
        await model.refused("delete_batch_call", "configuration_error", batch_call_id="bc_draft")
    assert vendor.writes == []


@pytest.mark.parametrize(("mode", "refused"), [("read-only", True), ("draft", False)])
async def test_the_mode_decides_as_before(mode: str, refused: bool, tmp_path: Path) -> None:
    vendor = called()
    async with at(vendor, tmp_path, Person("yes"), mode=mode) as model:
        assert ("delete_batch_call" not in await model.tools()) == refused
        if not refused:
            assert (await model.call("delete_batch_call", batch_call_id="bc_done"))["result"] == "deleted"


@pytest.mark.parametrize(
    ("status", "more", "has"),
    [
        (BatchStatus.DRAFT, {}, False),
        (BatchStatus.SCHEDULED, {"counts": Counts(total=3, sent=0)}, False),
        (BatchStatus.DRAFT, {"counts": Counts(total=3, sent=1)}, True),
        (BatchStatus.DRAFT, {"counts": Counts(total=3, completed=1)}, True),
        (BatchStatus.DRAFT, {"last_sent_at": THEN}, True),
        (BatchStatus.SCHEDULED, {"started_at": THEN}, True),
        (BatchStatus.DRAFT, {"completed_at": THEN}, True),
        *((status, {}, True) for status in sorted(set(BatchStatus) - {BatchStatus.DRAFT, BatchStatus.SCHEDULED})),
    ],
)
def test_whatever_may_have_been_dialled_has_results(status: BatchStatus, more: dict[str, Any], has: bool) -> None:
    assert has_results(BatchCall(batch_call_id="bc", status=status, **more)) == has


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ({"counts": Counts(total=3, sent=1)}, "Delete bc for good? Results of 1 call are lost:"),
        ({"counts": Counts(total=300)}, "Delete bc for good? Its list and its results are lost:"),
        ({"name": 'No "results"\nare lost'}, "Delete \"No 'results' are lost\" (bc) for good? Its list"),
    ],
)
def test_the_question_claims_no_more_than_the_backend_said(more: dict[str, Any], lost: str) -> None:
    assert what_is_lost(BatchCall(batch_call_id="bc", status=BatchStatus.COMPLETED, **more)).startswith(lost)
