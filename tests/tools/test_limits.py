"""What the operator allows a day, and what a model is told of it."""

from __future__ import annotations

from pathlib import Path

from anyio.from_thread import BlockingPortal

from batchcall_mcp.settings import STOP_FILE
from tests.server.transports import Way
from tests.tools.desk import FROM_NUMBER, opened


def test_a_day_has_so_many_calls_and_get_backend_tells_what_is_left(portal: BlockingPortal, tmp_path: Path) -> None:
    limits = {"BATCHCALL_CONFIRM": "off", "BATCHCALL_MAX_CALLS_PER_LAUNCH": "3", "BATCHCALL_MAX_CALLS_PER_DAY": "4"}
    with opened(portal, Way("stdio", "auto"), tmp_path, None, limits) as desk:
        assert desk.call("get_backend")["calls_left_today"] == 4
        first, second, third = desk.draft(desk.people(3)), desk.draft(desk.people(2)), desk.draft(desk.people(1))
        desk.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        assert desk.call("get_backend")["calls_left_today"] == 1

        text = desk.refused("start_batch_call", batch_call_id=second, trigger_timestamp="now")
        assert text.startswith("[invalid_input] ")
        assert "BATCHCALL_MAX_CALLS_PER_DAY=4" in text
        assert "Nothing was sent" in text
        judged = desk.call("check_batch_call", batch_call_id=second)["preflight"]
        assert "BATCHCALL_MAX_CALLS_PER_DAY=4" in judged["blocks"][0]
        desk.call("start_batch_call", batch_call_id=third, trigger_timestamp="now")
        assert desk.call("get_backend")["calls_left_today"] == 0
        tomorrow = desk.call("check_batch_call", batch_call_id=second, trigger_timestamp="2099-01-01T12:00Z")
        assert "blocks" not in tomorrow["preflight"]


def test_during_an_emergency_stop_a_model_reads_and_drafts_and_is_told(portal: BlockingPortal, tmp_path: Path) -> None:
    with opened(portal, Way("stdio", "auto"), tmp_path) as desk:
        batch_call_id = desk.draft(desk.people(1))
        (tmp_path / "data" / STOP_FILE).touch()
        told = desk.call("get_backend")
        assert "The emergency stop is on since" in told["notes"][0]
        assert desk.status(desk.draft(desk.people(1))) == "draft"
        text = desk.refused("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
        assert "emergency stop" in text
        assert "`batchcall-mcp stop --clear`" in text
        assert "confirmation_code" not in text
        (tmp_path / "data" / STOP_FILE).unlink()
        asked = desk.call("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
        assert asked["result"] == "confirmation_required"


def test_a_number_in_another_live_batch_call_is_named_in_the_question(portal: BlockingPortal, tmp_path: Path) -> None:
    with opened(portal, Way("stdio", "auto"), tmp_path) as desk:
        both, alone = desk.people(1), desk.people(1)
        first = desk.draft(both)
        later = {"trigger_timestamp": "2099-01-01T12:00Z"}
        desk.launch("start_batch_call", batch_call_id=first, **later)
        second = desk.call("create_batch_call", from_number=FROM_NUMBER, tasks=[*both, *alone])["batch_call"]
        asked = desk.call("start_batch_call", batch_call_id=second["batch_call_id"], trigger_timestamp="now")
        assert f"1 of the numbers is in another live batch call ({first})." in asked["summary"]
        desk.call("cancel_batch_call", batch_call_id=first)
        asked = desk.call("start_batch_call", batch_call_id=second["batch_call_id"], trigger_timestamp="now")
        assert "another live batch call" not in asked["summary"]
