"""Answers are small, complete in text and structure alike, and pages lose and repeat nothing."""

import json

import pytest

from tests.tools.desk import Desk, over_some_ways, text_of


@over_some_ways
def test_every_task_is_on_exactly_one_page(desk: Desk) -> None:
    tasks = desk.people(45)
    batch_call_id = desk.draft(tasks)
    seen: list[str] = []
    sizes = []
    cursor = None
    while True:
        page = desk.call("get_batch_call", batch_call_id=batch_call_id, limit=20, cursor=cursor)
        seen += [task["to_number"] for task in page["tasks"]]
        sizes.append(len(page["tasks"]))
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert seen == [task["to_number"] for task in tasks]
    assert sizes == [20, 20, 5]


def test_every_batch_call_is_on_exactly_one_page_newest_first(either: Desk) -> None:
    made = [either.draft(either.people(1), name=f"one of seven, {number}") for number in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = either.call("list_batch_calls", name_contains="one of seven", limit=3, cursor=cursor)
        seen += [one["batch_call_id"] for one in page.get("batch_calls", [])]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize("cursor", ["elsewhere", "-1", "20; drop"])
def test_a_cursor_that_nobody_gave_is_refused(either: Desk, cursor: str) -> None:
    result = either.raw("get_batch_call", {"batch_call_id": either.draft(either.people(1)), "cursor": cursor})
    assert result.is_error
    assert text_of(result).startswith("[invalid_input] cursor: not one that this tool gave")


def test_a_batch_call_of_5000_answers_as_briefly_as_one_of_100(either: Desk) -> None:
    sizes = {}
    for count in (100, 5000):
        batch_call_id = either.draft(either.people(count), name="Large")
        for arguments in ({}, {"limit": 0}):
            text = text_of(either.raw("get_batch_call", {"batch_call_id": batch_call_id, **arguments}))
            sizes[count, bool(arguments)] = len(text.encode())
    assert abs(sizes[5000, False] - sizes[100, False]) <= 64
    assert abs(sizes[5000, True] - sizes[100, True]) <= 64


@pytest.mark.sweep
def test_text_and_structure_are_the_same_for_every_kind_of_answer(desk: Desk) -> None:
    """`Desk.call` compares the two and validates against the published schema; here every reading tool goes by."""
    tasks = [desk.people(1)[0] | {"name": "Zoë 日本", "dynamic_variables": {"note": 'say "hello"\nthen stop'}}]
    batch_call_id = desk.draft(tasks, name="Grüße")
    desk.call("get_backend", name_contains="x", limit=1)
    desk.call("check_batch_call", batch_call_id=batch_call_id)
    desk.call("list_batch_calls", limit=1)
    desk.call("watch_batch_call", batch_call_id=batch_call_id, timeout_seconds=0)
    read = desk.call("get_batch_call", batch_call_id=batch_call_id, include_variables=True)
    assert read["batch_call"]["name"] == "Grüße"
    assert read["tasks"][0]["name"] == "Zoë 日本"
    assert "dynamic_variables" not in desk.call("get_batch_call", batch_call_id=batch_call_id)["tasks"][0]


def test_what_the_backend_does_not_say_is_left_out_not_zero_or_null(either: Desk) -> None:
    result = either.raw("get_batch_call", {"batch_call_id": either.draft(either.people(1))})
    answer = result.structured_content or {}
    assert not {"agent_id", "started_at", "completed_at", "retry_of"} & answer["batch_call"].keys()
    assert "null" not in json.dumps(answer)


def test_a_page_of_long_variables_ends_before_60_kb(either: Desk) -> None:
    tasks = [task | {"dynamic_variables": {"story": "x" * 2000}} for task in either.people(100)]
    batch_call_id = either.draft(tasks)
    page = either.call("get_batch_call", batch_call_id=batch_call_id, limit=100, include_variables=True)
    assert 1 < len(page["tasks"]) < 100
    following = either.call(
        "get_batch_call", batch_call_id=batch_call_id, limit=100, include_variables=True, cursor=page["next_cursor"]
    )
    assert following["tasks"][0]["to_number"] == tasks[len(page["tasks"])]["to_number"]


def test_variables_that_are_not_shown_take_no_place_on_a_page(either: Desk) -> None:
    tasks = [task | {"dynamic_variables": {"story": "x" * 2000}} for task in either.people(100)]
    page = either.call("get_batch_call", batch_call_id=either.draft(tasks), limit=100)
    assert len(page["tasks"]) == 100
    assert "next_cursor" not in page
