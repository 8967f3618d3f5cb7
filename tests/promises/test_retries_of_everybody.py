"""Where the backend takes no list of whom to call again: everybody is counted, and nobody is called by mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.model import TaskStatus
from tests.promises.test_creates_that_dial import ANN, BOB, CY, TASKS, using
from tests.vendors.talking import COMES, MACHINE, NO_ANSWER
from tests.vendors.varied import Varied, able
from tests.walks.stage import ALWAYS, FROM, Model, Person

MISSED = {ANN: COMES, BOB: NO_ANSWER, CY: MACHINE}


async def ended(model: Model, vendor: Varied, said: Any = None) -> str:
    """A batch call that is over: Bob did not answer, and Cy's machine did."""
    made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, window=ALWAYS)
    name = str(made["batch_call"]["batch_call_id"])
    await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
    vendor.finish(name, said or MISSED)
    return name


async def test_the_question_counts_everybody_whom_the_backend_calls_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch)
    vendor, person = Varied(), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await ended(model, vendor)
        retried = await model.call("retry_batch_call", batch_call_id=first)
    assert "Call 2 people (United States) now" in person.questions[-1]
    assert retried["result"] == "retried"
    assert vendor.dialled == [ANN, BOB, CY, BOB, CY]


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["no_answer", "busy", "failed"], "those who are expired or interrupted or voicemail too"),
        (["no_answer"], "Leave task_status out, or give"),
        (["not_reached", "cancelled"], "cannot be given people who are cancelled"),
        (["completed"], "is not a state of people who were not reached"),
    ],
)
async def test_fewer_or_other_people_are_refused_with_what_to_pass(
    states: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch)
    vendor = Varied()
    async with using(tmp_path, vendor) as model:
        first = await ended(model, vendor)
        sent = len(vendor.writes)
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first, task_status=states)
        assert said in text
        assert len(vendor.writes) == sent
        whole = await model.call("retry_batch_call", batch_call_id=first, task_status=["not_reached"])
    assert whole["result"] == "retried"


async def test_while_it_runs_nobody_is_queued_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    able(monkeypatch)
    vendor = Varied()
    async with using(tmp_path, vendor) as model:
        first = await ended(model, vendor)
        await model.call("retry_batch_call", batch_call_id=first)
        text = await model.refused("retry_batch_call", "illegal_transition", batch_call_id=first)
    assert "is running: a retry now could call people twice" in text
    assert vendor.dialled == [ANN, BOB, CY, BOB, CY]


async def test_people_whom_a_later_batch_call_has_cannot_be_kept_out_so_it_is_refused_with_who_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch)
    vendor = Varied()
    async with using(tmp_path, vendor) as model:
        first = await ended(model, vendor)
        missed = {"batch_call_id": first, "task_status": ["no_answer"]}
        made = await model.call("create_batch_call", from_number=FROM, tasks_from=missed)
        second = made["batch_call"]["batch_call_id"]
        sent = len(vendor.writes)
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first)
    assert "1 person of the 2 not reached must not be called again" in text
    assert f"{BOB}: waits to be called by {second}" in text
    assert f'create_batch_call with tasks_from={{"batch_call_id": "{first}"' in text
    assert len(vendor.writes) == sent


async def test_who_is_on_the_do_not_call_list_by_now_cannot_be_kept_out_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch)
    vendor = Varied()
    (tmp_path / "never.csv").write_text("phone\n")
    async with using(tmp_path, vendor, do_not_call=str(tmp_path / "never.csv")) as model:
        first = await ended(model, vendor)
        (tmp_path / "never.csv").write_text(f"phone\n{CY}\n")
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first)
    assert CY in text
    assert vendor.dialled == [ANN, BOB, CY]


async def test_a_retry_that_makes_a_draft_dials_nobody_and_its_start_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, retry="child_draft", tasks_reported="dialled_only")
    vendor, person = Varied(retries="child_draft", shows="dialled_only", counts=False), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await ended(model, vendor)
        asked = len(person.questions)
        made = await model.call("retry_batch_call", batch_call_id=first)
        child = made["batch_call"]["batch_call_id"]
        assert (made["result"], made["batch_call"]["status"], made["batch_call"]["retry_of"]) == (
            "created",
            "draft",
            first,
        )
        assert made["summary"].startswith(f"New draft {child} of the 2 people not reached by {first}.")
        assert (len(person.questions), vendor.dialled) == (asked, [ANN, BOB, CY])
        again = await model.call("retry_batch_call", batch_call_id=first)
        assert again["batch_call"]["batch_call_id"] == child, "the same retry is not made twice"
        await model.call("start_batch_call", batch_call_id=child, trigger_timestamp="now")
    assert "Call 2 people (United States) now" in person.questions[-1]
    assert (
        "lists people only once they are dialled: these 2 were checked when the list was sent" in person.questions[-1]
    )
    assert vendor.dialled == [ANN, BOB, CY, BOB, CY]


async def test_a_draft_is_counted_as_the_backend_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that could not be placed are not reached either, but not every backend takes them into the draft."""
    able(monkeypatch, retry="child_draft", retry_outcomes=("no_answer", "busy"))
    vendor = Varied(retries="child_draft")
    async with using(tmp_path, vendor) as model:
        first = await ended(model, vendor)
        for task in vendor.tasks[first]:
            task["status"] = "failed"
        sent = len(vendor.writes)
        nobody = await model.call("retry_batch_call", batch_call_id=first)
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first, task_status=["failed"])
    assert nobody["result"] == "nothing_to_do"
    assert "busy or no answer" in text
    assert len(vendor.writes) == sent


async def test_a_draft_that_a_retry_made_and_whose_answer_was_lost_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, retry="child_draft", tasks_reported="dialled_only")
    vendor = Varied(retries="child_draft", shows="dialled_only")
    async with using(tmp_path, vendor) as model:
        first = await ended(model, vendor)
        vendor.recording.swallow_next_write = True
        made = await model.call("retry_batch_call", batch_call_id=first)
    assert made["batch_call"]["batch_call_id"] == "talk_2"
    assert list(vendor.batches) == ["talk_1", "talk_2"], "it was sent once"


async def test_a_call_whose_outcome_is_not_reported_counts_as_called_and_is_never_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = (TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.PLACED, TaskStatus.NO_ANSWER)
    able(monkeypatch, retry="named", outcomes=outcomes)
    vendor = Varied()
    async with using(tmp_path, vendor) as model:
        first = await ended(model, vendor)
        for task in vendor.tasks[first]:
            task["status"] = "placed"
        shown = await model.call("get_batch_call", batch_call_id=first)
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first, task_status=["placed"])
        nobody = await model.call("retry_batch_call", batch_call_id=first)
        await model.call("export_batch_call", batch_call_id=first, format="report")
        await model.call("export_batch_call", batch_call_id=first)
    assert {task["status"] for task in shown["tasks"]} == {"placed"}
    assert shown["batch_call"]["results"].get("not_reached", {}) == {}
    assert "how these calls went is not reported" in text
    assert nobody["result"] == "nothing_to_do"
    (report,) = (tmp_path / "files").rglob("*.html")
    assert "3 people were called; how the calls went is not reported" in report.read_text()
    (table,) = (tmp_path / "files").rglob("*.csv")
    assert table.read_text().count(",placed,") == 3
