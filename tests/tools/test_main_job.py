"""The whole job of an agent, from a list to a report, over every transport and in both protocol eras."""

import csv
import io
import json
from pathlib import Path

import pytest
from mcp.types import ResourceLink, TextResourceContents

from tests.tools.desk import FROM_NUMBER, Desk, over_some_ways


@pytest.mark.sweep
@over_some_ways
def test_a_list_is_checked_called_watched_retried_and_exported(desk: Desk) -> None:
    facts = desk.call("get_backend")
    assert facts["backend"] == "dialer"
    assert ("folder" in facts) == (desk.way.transport == "stdio")

    tasks = desk.people(2) + desk.people(1, digit=6) + desk.people(1, digit=7)
    tasks[0] |= {"name": "Ada", "dynamic_variables": {"plan": "pro"}}
    checked = desk.call("check_batch_call", tasks=[*tasks, tasks[0]], from_number=FROM_NUMBER)
    assert (checked["preflight"]["calls"], checked["skipped_rows_total"]) == (4, 1)
    assert checked["skipped_rows"][0]["kind"] == "duplicate"

    batch_call_id = desk.draft(tasks, name="Reminders", max_concurrency=2)
    assert desk.status(batch_call_id) == "draft"
    updated = desk.call("update_batch_call", batch_call_id=batch_call_id, name="Reminders for December")
    assert updated["changed"] == {"name": ["Reminders", "Reminders for December"]}
    assert desk.times_dialled(tasks) == 0

    started = desk.launch("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
    assert started["result"] == "started"
    counts = desk.finished(batch_call_id)
    assert (counts["total"], counts["completed"], counts["not_reached"]) == (4, 2, 2)

    missed = desk.call("get_batch_call", batch_call_id=batch_call_id, task_status=["not_reached"])
    assert {task["to_number"] for task in missed["tasks"]} == {task["to_number"] for task in tasks[2:]}

    retried = desk.launch("retry_batch_call", batch_call_id=batch_call_id, task_status=["no_answer"])
    assert (retried["result"], retried["preflight"]["calls"]) == ("retried", 1)
    assert desk.finished(batch_call_id)["completed"] == 3
    assert desk.times_dialled(tasks) == 5, "nobody else was called again"

    rows = list(csv.DictReader(io.StringIO(exported(desk, batch_call_id, "csv"))))
    assert [row["to_number"] for row in rows] == [task["to_number"] for task in tasks]
    assert (rows[0]["name"], rows[0]["plan"], rows[0]["status"]) == ("Ada", "pro", "completed")
    lines = [json.loads(line) for line in exported(desk, batch_call_id, "jsonl").splitlines()]
    assert [line["status"] for line in lines] == ["completed", "completed", "completed", "busy"]


def exported(desk: Desk, batch_call_id: str, form: str) -> str:
    """The export: over stdio a file in the folder; over HTTP a resource that is read with the caller's own key, and a
    URL that `tests/server/test_files.py` reads.
    """
    arguments = {"batch_call_id": batch_call_id, "format": form}
    result = desk.raw("export_batch_call", arguments)
    answer = result.structured_content or {}
    links = [block for block in result.content if isinstance(block, ResourceLink)]
    if desk.way.transport == "stdio":
        assert (links, "resource" in answer) == ([], False)
        path = Path(answer["file"])
        assert path.parent == desk.home / "files" / "exports"
        return path.read_text(encoding="utf-8")
    assert answer["file"].startswith(f"{desk.url}/files/{batch_call_id}-")
    assert [str(link.uri) for link in links] == [answer["resource"]]
    read = desk.wait(lambda: desk.client.read_resource(answer["resource"]))
    (content,) = read.contents
    assert isinstance(content, TextResourceContents)
    return content.text


@pytest.mark.sweep
@over_some_ways
def test_a_running_batch_call_is_paused_resumed_and_cancelled_and_deleted(desk: Desk) -> None:
    tasks = desk.people(300, digit=5)
    batch_call_id = desk.draft(tasks, max_concurrency=1)
    desk.launch("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
    assert desk.call("pause_batch_call", batch_call_id=batch_call_id)["batch_call"]["status"] == "paused"
    assert desk.call("pause_batch_call", batch_call_id=batch_call_id)["result"] == "nothing_to_do"
    assert desk.refused("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now").startswith(
        "[illegal_transition]"
    )
    assert desk.launch("resume_batch_call", batch_call_id=batch_call_id)["result"] == "resumed"
    assert desk.call("cancel_batch_call", batch_call_id=batch_call_id)["batch_call"]["status"] == "cancelled"
    assert desk.call("cancel_batch_call", batch_call_id=batch_call_id)["result"] == "nothing_to_do"
    assert desk.times_dialled(tasks) < len(tasks)
    desk.until(lambda: desk.counts(batch_call_id)["calling"] == 0)  # the call in progress goes on to its end
    assert desk.launch("delete_batch_call", batch_call_id=batch_call_id)["result"] == "deleted"
    assert desk.refused("get_batch_call", batch_call_id=batch_call_id).startswith("[not_found]")


@over_some_ways
def test_a_scheduled_batch_call_is_moved_and_taken_back(desk: Desk) -> None:
    tasks = desk.people(1)
    batch_call_id = desk.draft(tasks)
    first = desk.launch("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="2036-01-01T09:00Z")
    assert (first["result"], first["batch_call"]["status"]) == ("scheduled", "scheduled")
    moved = desk.launch("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="2036-01-02T09:00Z")
    assert moved["batch_call"]["scheduled_at"] == "2036-01-02T09:00:00Z"
    assert any("2036-01-01 09:00 UTC: this moves it" in warning for warning in moved["preflight"]["warnings"])
    idle = desk.call("watch_batch_call", batch_call_id=batch_call_id)
    assert "nothing to watch before" in idle["summary"]
    assert desk.call("cancel_batch_call", batch_call_id=batch_call_id)["result"] == "cancelled"
    assert desk.times_dialled(tasks) == 0


@pytest.mark.sweep
def test_watching_tells_progress_that_only_rises(desk: Desk) -> None:
    tasks = desk.people(25)
    batch_call_id = desk.draft(tasks, max_concurrency=1)
    desk.launch("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
    notices: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        notices.append((progress, total, message))

    desk.raw("watch_batch_call", {"batch_call_id": batch_call_id, "timeout_seconds": 25}, progress_callback=note)
    assert notices, "at least the state at the start"
    values = [progress for progress, _, _ in notices]
    assert values == sorted(set(values))
    assert {total for _, total, _ in notices} == {25.0}
    assert desk.status(batch_call_id) == "completed"
