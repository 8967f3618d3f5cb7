"""Over stdio a list may be a file, and only one of the folders that the operator named."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from tests.server.transports import Way
from tests.tools.desk import FROM_NUMBER, Desk, Person, opened

LIST = "phone,name,plan\n+14155550101,Ada,pro\n+14155550102,Ben,basic\n+14155550101,Ada again,pro\n12,Cy,pro\n"


@pytest.fixture(scope="module", params=[Way("stdio", "auto"), Way("stdio", "legacy")], ids=str)
def local(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    with opened(portal, request.param, tmp_path_factory.mktemp("local"), Person()) as desk:
        (desk.home / "outside.csv").write_text(LIST)
        files = desk.home / "files"
        (files / "people.csv").write_text(LIST)
        (files / "leads-away.csv").symlink_to(desk.home / "outside.csv")
        (files / "broken.xlsx").write_bytes(b"PK\x03\x04 this is no workbook")
        (files / "folder.csv").mkdir()
        os.mkfifo(files / "pipe.csv")
        yield desk


def test_a_file_becomes_a_draft_with_its_columns_as_variables(local: Desk) -> None:
    facts = local.call("get_backend")
    assert "people.csv" in [file["name"] for file in facts["files"]]
    checked = local.call("check_batch_call", tasks_file="people.csv", from_number=FROM_NUMBER)
    assert checked["columns"]["to_number"] == "phone"
    assert [(row["line"], row["kind"]) for row in checked["skipped_rows"]] == [(4, "duplicate"), (5, "invalid")]
    made = local.call("create_batch_call", tasks_file="people.csv", from_number=FROM_NUMBER)
    assert made["preflight"]["skipped_rows"] == {"duplicate": 1, "invalid": 1}
    assert "skipped_rows" not in made
    read = local.call("get_batch_call", batch_call_id=made["batch_call"]["batch_call_id"], include_variables=True)
    assert [(task["to_number"], task["dynamic_variables"]["plan"]) for task in read["tasks"]] == [
        ("+14155550101", "pro"),
        ("+14155550102", "basic"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "calls"),
    [("bare.csv", "phone\n+14155550101\n", 1), ("broken.jsonl", "broken\n", 0)],
    ids=["numbers alone", "no line that can be read"],
)
def test_a_list_without_any_variable_is_judged_like_any_other(local: Desk, name: str, text: str, calls: int) -> None:
    (local.home / "files" / name).write_text(text)
    checked = local.call("check_batch_call", tasks_file=name, from_number=FROM_NUMBER)
    assert checked["preflight"]["calls"] == calls
    assert "variables" not in checked["columns"]


def test_only_the_rows_named_are_read(local: Desk) -> None:
    checked = local.call("check_batch_call", tasks_file="people.csv", rows="2", from_number=FROM_NUMBER)
    assert [task["to_number"] for task in checked["sample"]] == ["+14155550102"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "outside the allowed folders"),
        ("../outside.csv", "outside the allowed folders"),
        ("{home}/outside.csv", "outside the allowed folders"),
        ("{home}/files/../outside.csv", "outside the allowed folders"),
        ("leads-away.csv", "outside the allowed folders"),
        ("~/outside.csv", "outside the allowed folders"),
        ("/proc/self/environ", "outside the allowed folders"),
        ("nobody.csv", "does not exist"),
        ("folder.csv", "is a folder"),
        ("pipe.csv", "is not a regular file"),
        ("broken.xlsx", "broken.xlsx"),
    ],
)
def test_what_cannot_be_read_is_refused_and_nothing_is_made(local: Desk, name: str, reason: str) -> None:
    before = local.known()
    for tool in ("check_batch_call", "create_batch_call"):
        text = local.refused(tool, tasks_file=name.format(home=local.home), from_number=FROM_NUMBER)
        assert text.startswith("[invalid_input] ")
        assert reason in text
        assert "nothing was sent" in text.lower()
        assert "+14155550101" not in text, "nothing of the file is told"
    assert local.known() == before


def test_a_path_error_lists_the_files_that_are_there(local: Desk) -> None:
    assert "people.csv" in local.refused("create_batch_call", tasks_file="persons.csv", from_number=FROM_NUMBER)


def test_tasks_and_a_file_together_are_refused(local: Desk) -> None:
    text = local.refused("create_batch_call", tasks_file="people.csv", tasks=local.people(1), from_number=FROM_NUMBER)
    assert text == "[invalid_input] Give tasks or tasks_file, not both. Nothing was sent."


def test_an_export_may_hold_only_some_states(local: Desk) -> None:
    tasks = local.people(2) + local.people(1, digit=9)
    batch_call_id = local.draft(tasks)
    local.launch("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
    local.finished(batch_call_id)
    told = local.call("export_batch_call", batch_call_id=batch_call_id, task_status=["not_reached"])
    assert told["rows"] == 1
    assert tasks[2]["to_number"] in Path(told["file"]).read_text(encoding="utf-8").splitlines()[1]


def test_an_export_never_overwrites_a_file(local: Desk) -> None:
    batch_call_id = local.draft(local.people(1))
    first = local.call("export_batch_call", batch_call_id=batch_call_id)
    second = local.call("export_batch_call", batch_call_id=batch_call_id)
    assert first["file"] != second["file"]
    assert Path(first["file"]).read_text() == Path(second["file"]).read_text()
