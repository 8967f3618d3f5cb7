"""What the operator forbids cannot be called, whatever a model tries."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from tests.server.transports import Way
from tests.tools.desk import FROM_NUMBER, SOME_WAYS, Desk, Person, opened

READS = {"get_backend", "check_batch_call", "get_batch_call", "list_batch_calls", "watch_batch_call"}
DIALS = {"start_batch_call", "resume_batch_call", "retry_batch_call"}


@contextmanager
def in_mode(portal: BlockingPortal, way: Way, home: Path, mode: str) -> Iterator[Desk]:
    with opened(portal, way, home, Person(), {"BATCHCALL_MODE": mode}) as desk:
        yield desk


@pytest.mark.parametrize("way", SOME_WAYS, ids=str)
def test_read_only_offers_and_takes_nothing_that_changes(portal: BlockingPortal, way: Way, tmp_path: Path) -> None:
    with in_mode(portal, way, tmp_path, "read-only") as desk:
        assert set(desk.schemas()) == READS
        text = desk.refused("create_batch_call", from_number=FROM_NUMBER, tasks=desk.people(1))
        assert text.startswith("[invalid_input] There is no tool 'create_batch_call'")
        assert desk.call("get_backend")["mode"] == "read-only"
        assert desk.call("check_batch_call", tasks=desk.people(2), from_number=FROM_NUMBER)["preflight"]["calls"] == 2


@pytest.mark.parametrize("way", SOME_WAYS, ids=str)
def test_draft_mode_makes_drafts_and_lets_nothing_ring(portal: BlockingPortal, way: Way, tmp_path: Path) -> None:
    with in_mode(portal, way, tmp_path, "draft") as desk:
        assert not set(desk.schemas()) & DIALS
        batch_call_id = desk.draft(desk.people(1))
        for when in ({"send_now": True}, {"status": "scheduled", "trigger_timestamp": "2036-01-01T09:00Z"}):
            text = desk.refused("update_batch_call", batch_call_id=batch_call_id, **when)
            assert text.startswith("[permission_denied] ")
            assert "BATCHCALL_MODE=draft" in text
        assert desk.status(batch_call_id) == "draft"
        assert desk.call("update_batch_call", batch_call_id=batch_call_id, name="Still a draft")["result"] == "updated"
        assert desk.call("delete_batch_call", batch_call_id=batch_call_id)["result"] == "deleted"
        assert (desk.dialled(), desk.person and desk.person.questions) == ([], [])


def test_without_confirmation_a_limit_stops_a_wrong_list(portal: BlockingPortal, tmp_path: Path) -> None:
    limits = {"BATCHCALL_CONFIRM": "off", "BATCHCALL_MAX_CALLS_PER_LAUNCH": "2"}
    with opened(portal, Way("http", "auto"), tmp_path, None, limits) as desk:
        small, large = desk.draft(desk.people(2)), desk.draft(desk.people(3))
        text = desk.refused("start_batch_call", batch_call_id=large, trigger_timestamp="now")
        assert text.startswith("[invalid_input] ")
        assert "BATCHCALL_MAX_CALLS_PER_LAUNCH=2" in text
        late = desk.refused("start_batch_call", batch_call_id=small, trigger_timestamp="2020-01-01T00:00Z")
        assert late.startswith("[not_confirmed] ")
        assert desk.dialled() == []
        started = desk.call("start_batch_call", batch_call_id=small, trigger_timestamp="now")
        assert started["result"] == "started"


def test_where_only_a_person_may_confirm_no_code_is_given(portal: BlockingPortal, tmp_path: Path) -> None:
    with opened(portal, Way("http", "auto"), tmp_path, None, {"BATCHCALL_CONFIRM": "person"}) as desk:
        told = desk.call("start_batch_call", batch_call_id=desk.draft(desk.people(1)), trigger_timestamp="now")
        assert told["result"] == "waiting_for_person"
        assert "`batchcall-mcp approve`" in str(told["notes"])
        assert "confirmation_code" not in told
        assert "next" not in told
        assert desk.dialled() == []


def test_where_codes_are_wanted_nobody_is_asked(portal: BlockingPortal, tmp_path: Path) -> None:
    person = Person()
    with opened(portal, Way("http", "auto"), tmp_path, person, {"BATCHCALL_CONFIRM": "code"}) as desk:
        asked = desk.call("start_batch_call", batch_call_id=desk.draft(desk.people(1)), trigger_timestamp="now")
        assert (asked["result"], person.questions) == ("confirmation_required", [])


def test_an_error_says_which_tool_that_it_names_is_not_offered(portal: BlockingPortal, tmp_path: Path) -> None:
    with opened(portal, Way("http", "auto"), tmp_path, Person()) as desk:
        ended = desk.draft(desk.people(1))
        desk.launch("start_batch_call", batch_call_id=ended, trigger_timestamp="now")
        desk.finished(ended)
        there = desk.refused("update_batch_call", batch_call_id=ended, add_tasks=desk.people(2)[1:])
    with in_mode(portal, Way("http", "auto"), tmp_path, "draft") as desk:
        here = desk.refused("update_batch_call", batch_call_id=ended, add_tasks=desk.people(2)[1:])
    assert "retry_batch_call" in there
    assert "not offered" not in there
    assert here.endswith(" (retry_batch_call: not offered by this server.)")
