"""What vendors say of a call: its cost as a bare number, and what was said as a list of utterances."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from batchcall_mcp.model import Turn
from batchcall_mcp.money import Money
from batchcall_mcp.vendor_http.json_values import usd
from batchcall_mcp.vendor_http.transcripts import turns

SPEAKERS: Any = {"bot": "agent", "user": "person"}


@pytest.mark.parametrize(
    ("value", "per", "amount"),
    [(0.1234, 1, "0.1234"), (12.34, 100, "0.1234"), (0, 1, "0"), (7, 100, "0.07"), (0.00000049, 1, "0")],
)
def test_a_cost_in_dollars_or_cents_is_an_amount_of_dollars(value: float, per: int, amount: str) -> None:
    assert usd(value, per) == Money(Decimal(amount), "USD")


@pytest.mark.parametrize("value", [None, True, "0.12", -1, float("nan"), float("inf"), 1e18, {}])
def test_what_cannot_be_an_amount_is_none(value: Any) -> None:
    assert usd(value) is None


def test_only_speakers_speak_in_a_transcript() -> None:
    said = [
        {"role": "system", "message": "You remind people.", "t": 0},
        {"role": "bot", "message": "Hello.", "t": 0.5},
        {"role": "User", "message": "Yes.\u202e", "t": "soon"},
        {"role": "user", "message": "  "},
        "noise",
    ]
    expected = (Turn(speaker="agent", text="Hello.", at_seconds=0.5), Turn(speaker="person", text="Yes."))
    assert turns(said, SPEAKERS, at="t") == expected
    assert turns(said, SPEAKERS, at=lambda row: row["t"]) == expected


def test_no_list_is_no_transcript() -> None:
    assert (turns(None, SPEAKERS), turns("AI: Hello", SPEAKERS), turns([], SPEAKERS)) == (None, None, ())
