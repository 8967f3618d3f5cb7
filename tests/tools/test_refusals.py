"""What is wrong with a call is said in words a model can act on, and nothing is sent."""

import json
from typing import Any

import pytest

from tests.tools.desk import FROM_NUMBER, Desk, over_some_ways

PERSON = {"to_number": "+14155550101"}

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("create_batch_call", {"from_number": FROM_NUMBER, "tasks": [PERSON], "limt": 3}, "limt: unknown argument"),
    ("create_batch_call", {"from_number": FROM_NUMBER, "tasks": [PERSON], "send_now": True}, "send_now: unknown"),
    ("create_batch_call", {"from_number": FROM_NUMBER, "tasks": [PERSON | {"numbr": "1"}]}, "tasks[0].numbr: unknown"),
    ("create_batch_call", {"tasks": [PERSON]}, "from_number: is required"),
    ("create_batch_call", {"from_number": FROM_NUMBER, "tasks": "everybody"}, "tasks: must be a list"),
    ("create_batch_call", {"from_number": FROM_NUMBER, "tasks": [{}]}, "tasks[0].to_number: is required"),
    ("create_batch_call", {"from_number": FROM_NUMBER, "tasks": []}, ""),
    ("create_batch_call", {"from_number": FROM_NUMBER}, "The people to call are missing"),
    ("create_batch_call", {"from_number": "the blue one", "tasks": [PERSON]}, "from_number: "),
    ("create_batch_call", {"from_number": FROM_NUMBER, "tasks": [{"to_number": "12"}]}, "None of the 1 rows"),
    (
        "create_batch_call",
        {"from_number": FROM_NUMBER, "tasks": [PERSON], "max_concurrency": "a few"},
        "max_concurrency: must be a whole number",
    ),
    ("create_batch_call", {"from_number": FROM_NUMBER, "tasks": [PERSON], "max_concurrency": 0}, "at least 1"),
    (
        "create_batch_call",
        {"from_number": FROM_NUMBER, "tasks": [PERSON], "window": {"start": "9", "end": "17:00"}},
        "window",
    ),
    (
        "create_batch_call",
        {"from_number": FROM_NUMBER, "tasks": [PERSON], "timezone": "PST"},
        "America/Los_Angeles",
    ),
    ("get_batch_call", {"batch_call_id": "b", "task_status": ["missed"]}, "task_status[0]: must be "),
    ("get_batch_call", {"batch_call_id": "b", "limit": 201}, "limit: must be at most 200"),
    ("get_batch_call", {"batch_call_id": "b", "limit": True}, "limit: must be a whole number"),
    ("get_batch_call", {"batch_call_id": "b", "include_variables": "yes"}, "include_variables: must be true or false"),
    ("get_batch_call", {}, "batch_call_id: is required"),
    ("list_batch_calls", {"status": "done"}, "status: must be "),
    ("export_batch_call", {"batch_call_id": "b", "format": "xlsx"}, "format: must be "),
    ("watch_batch_call", {"batch_call_id": "b", "until": "over"}, "until: must be "),
    ("start_batch_call", {"batch_call_id": "b"}, "trigger_timestamp: is required"),
    ("start_batch_call", {"batch_call_id": "b", "trigger_timestamp": "soon"}, "is not a time"),
    ("check_batch_call", {"tasks": [PERSON], "trigger_timestamp": "2036-01-01T09:00"}, "has no offset"),
    ("check_batch_call", {"tasks": [PERSON], "batch_call_id": "b"}, "exactly one"),
    ("dial_everybody", {}, "There is no tool"),
]


@pytest.mark.sweep
def test_a_wrong_call_is_refused_in_words_and_nothing_is_made(desk: Desk) -> None:
    before = (desk.known(), desk.dialled())
    for tool, arguments, expected in WRONG:
        text = desk.refused(tool, **arguments)
        assert text.startswith("[invalid_input] "), text
        assert expected in text
        assert "Nothing was sent" in text, text
        assert "pydantic" not in text, text
    assert (desk.known(), desk.dialled()) == before


@pytest.mark.parametrize(
    "tool",
    ["get_batch_call", "pause_batch_call", "resume_batch_call", "cancel_batch_call", "delete_batch_call",
     "watch_batch_call", "export_batch_call", "retry_batch_call"],
)  # fmt: skip
@over_some_ways
def test_an_unknown_id_is_not_found(desk: Desk, tool: str) -> None:
    assert desk.refused(tool, batch_call_id="batch_call_of_nobody").startswith("[not_found] ")


@pytest.mark.parametrize("name", ["..", ".", "../../healthz", "a/../../b"])
def test_an_id_leads_nowhere_else(either: Desk, name: str) -> None:
    assert either.refused("get_batch_call", batch_call_id=name).startswith("[not_found] ")


@over_some_ways
def test_a_null_for_what_is_optional_is_the_same_as_leaving_it_out(desk: Desk) -> None:
    tasks = [task | {"name": None, "dynamic_variables": None} for task in desk.people(1)]
    batch_call_id = desk.draft(tasks, name=None, window=None, agent_id=None, retry=None)
    answer = desk.call("get_batch_call", batch_call_id=batch_call_id, task_status=None, cursor=None, limit=None)
    assert [task["to_number"] for task in answer["tasks"]] == [task["to_number"] for task in tasks]


@over_some_ways
def test_lists_and_objects_may_come_as_json_text(desk: Desk) -> None:
    tasks = desk.people(2)
    window = {"start": "09:00", "end": "17:00", "days": ["mon"], "timezone": "Europe/Berlin"}
    made = desk.call("create_batch_call", from_number=FROM_NUMBER, tasks=json.dumps(tasks), window=json.dumps(window))
    assert made["batch_call"]["counts"]["total"] == 2
    assert made["batch_call"]["window"] == window
    text = desk.refused("create_batch_call", from_number=FROM_NUMBER, tasks='[{"to_number": ')
    assert text.startswith("[invalid_input] tasks: must be a list")


@pytest.mark.sweep
def test_over_http_no_file_of_the_server_can_be_named(shared: Desk) -> None:
    before = shared.known()
    text = shared.refused("create_batch_call", from_number=FROM_NUMBER, tasks_file="/etc/passwd")
    assert text.startswith('[invalid_input] tasks_file: "/etc/passwd" is not a list that you have uploaded.')
    for tool in ("check_batch_call", "create_batch_call", "update_batch_call", "retry_batch_call"):
        assert "root:" not in shared.refused(tool, batch_call_id="b", from_number="+1", tasks_file="/etc/passwd")
    assert shared.known() == before
