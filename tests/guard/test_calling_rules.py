"""The calling rules are the same in the code that keeps them, in the settings and on the page for operators."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta

from batchcall_mcp.dialer.app import DAILY_CAP, EmbeddedDialer
from batchcall_mcp.guard.preflight.calling_rules import ATTEMPTS_PER_DAY, CALLING_HOURS, LATE_BY, RULES
from batchcall_mcp.guard.preflight.preflight import Limits
from batchcall_mcp.guard.preflight.schedule import CALL_LASTS
from batchcall_mcp.settings import Settings
from tests.server.transports import ROOT

PAGE = (ROOT / "docs" / "calling-rules.md").read_text(encoding="utf-8")


def test_the_settings_and_the_dialer_have_the_same_hours() -> None:
    """The dialer lies below the guard, and cannot ask it."""
    assert Settings.model_fields["calling_hours"].default == CALLING_HOURS
    assert inspect.signature(EmbeddedDialer).parameters["calling_hours"].default == CALLING_HOURS


def test_the_dialer_and_the_preflight_count_the_same_attempts() -> None:
    assert DAILY_CAP == ATTEMPTS_PER_DAY
    assert inspect.signature(Limits).parameters["attempts_per_day"].default == ATTEMPTS_PER_DAY


def test_the_page_has_every_rule_as_it_is_held() -> None:
    table = re.search(r"begin -->\n(.*?)\n<!--", PAGE, re.DOTALL)
    assert table is not None
    rows = [f"| {rule.rule} | {rule.dialer} | {rule.others} | {rule.changed_by} |" for rule in RULES]
    assert table[1].splitlines()[2:] == rows


def test_the_rules_name_the_numbers_that_are_held() -> None:
    told = " ".join(rule.rule for rule in RULES)
    for number in (CALLING_HOURS, f"{ATTEMPTS_PER_DAY} attempts", f"{LATE_BY // timedelta(minutes=1)} minutes"):
        assert number in told


def test_the_page_names_the_assumption_the_settings_and_what_it_is_not() -> None:
    assert f"**{CALL_LASTS // timedelta(minutes=1)} minutes a call**" in PAGE
    assert "not legal advice" in PAGE
    named = set(re.findall(r"BATCHCALL_[A-Z_]+", PAGE))
    assert named <= {f"BATCHCALL_{field.upper()}" for field in Settings.model_fields}
    assert {"BATCHCALL_CALLING_HOURS", "BATCHCALL_DO_NOT_CALL"} <= named
