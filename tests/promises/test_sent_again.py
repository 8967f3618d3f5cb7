"""An open write that was sent again, and a call that was cancelled at the wrong moment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.errors import BatchCallError, OutcomeUnknown, RateLimited
from batchcall_mcp.guard.delivery.write_sender import Resend, Sender, Ticket
from batchcall_mcp.guard.write_record import Intent, WriteState
from batchcall_mcp.model import BatchCall
from tests.guard.test_sending import desk
from tests.kills.scenes import Front
from tests.vendors.serving import listening
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Person, dials, number, playing

BUSY = number(NEW_YORK, 7)


async def test_a_no_to_the_second_request_is_no_word_about_the_first(tmp_path: Path) -> None:
    """The first was on its way for a minute; the second met a 429, or nobody who listened."""

    async def busy(_ticket: Ticket) -> BatchCall:
        raise RateLimited("the backend takes no more requests for the moment")

    async with desk(tmp_path) as at:
        at.vendor.lost = 1
        await at.unknown()
        at.restart()
        at.clock.move(seconds=50)
        earlier = await at.sender.earlier(at.intent, None)
        assert isinstance(earlier, Resend)
        with pytest.raises(RateLimited):
            await at.sender.send(at.intent, busy, again=earlier)
        assert [one.state for one in at.ledger.history.unsettled()] == [WriteState.UNKNOWN], "the first may yet arrive"


@pytest.mark.parametrize("error", [OutcomeUnknown("lost"), BatchCallError("no")])
async def test_a_call_that_is_cancelled_as_its_answer_comes_is_not_in_hand_for_ever(
    error: BatchCallError, tmp_path: Path
) -> None:
    """Else `ledger resolve` says "is being sent now" until the server is restarted."""
    async with desk(tmp_path) as at:
        scope = anyio.CancelScope()

        async def send(_ticket: Ticket) -> BatchCall:
            scope.cancel()
            raise error

        with scope, suppress(BatchCallError):
            await at.sender.send(at.intent, send)
        for entry in at.ledger.history.unsettled():
            assert not at.ledger.writes.is_in_hand(entry)
            assert entry.state is WriteState.UNKNOWN


async def test_what_another_process_sends_again_between_two_looks_is_not_sent_as_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the lost retry and may send it again; one does, and the ledger shows the other nothing open."""
    dialer = EmbeddedDialer(tmp_path / "dialer", simulated_speed=2000, poll_seconds=0.1, daily_cap=9)
    await dialer.start()
    key, secret = dialer.credentials
    front = Front(dialer.app, lambda method, path, _body: method == "POST" and path.endswith("/retry"), lambda: None)
    account = {"backend": "batchcall", "api_key": key, "api_secret": secret, "calling_hours": "00:00-24:00"}
    account["data_dir"] = str(tmp_path / "server")
    looks: list[object] = []
    look = Sender.earlier

    async with (
        listening(front) as url,
        playing("auto", Person(), url=url, **account) as one,
        playing("auto", Person(), url=url, **account) as other,
    ):
        made = await one.call("create_batch_call", from_number=FROM, tasks=[{"to_number": BUSY}], window=ALWAYS)
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await one.call("start_batch_call", **name, trigger_timestamp="now")
        await one.call("watch_batch_call", **name, timeout_seconds=15)
        front.trouble = "carried out later"
        await one.refused("retry_batch_call", "outcome_unknown", **name)

        async def watched(self: Sender, intent: Intent, current: BatchCall | None) -> object:
            if len(looks) == 3:  # the second look after the answer: meanwhile the other process sends it
                monkeypatch.setattr(Sender, "earlier", look)
                await other.call("retry_batch_call", **name)
                await other.call("watch_batch_call", **name, timeout_seconds=15)
            looks.append(await look(self, intent, current))
            return looks[-1]

        monkeypatch.setattr(Sender, "earlier", watched)
        told = await one.call("retry_batch_call", **name)
        await one.call("watch_batch_call", **name, timeout_seconds=15)
    await dialer.aclose()
    assert [type(found) for found in looks[:3]] == [Resend] * 3
    assert told["replayed"] is True
    assert dials(tmp_path / "dialer")[BUSY] == 2, "once by the launch, and once by the retry"
