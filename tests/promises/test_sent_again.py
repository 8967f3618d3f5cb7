"""An open write that was sent again, and a call that was cancelled at the wrong moment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from batchcall_mcp.errors import BatchCallError, OutcomeUnknown, RateLimited
from batchcall_mcp.guard.delivery.write_sender import Resend, Ticket
from batchcall_mcp.guard.write_record import WriteState
from batchcall_mcp.model import BatchCall
from tests.guard.test_sending import desk


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
