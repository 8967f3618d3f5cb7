"""The `timezones` argument selects people by zone, and never somebody who may be elsewhere, nor anybody twice."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.calling_hours import zones_of
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import CallTask
from batchcall_mcp.recipients.validation import ReadOptions, Recipients, SkipReason, read_inline
from batchcall_mcp.recipients.zones import canonical

NEW_YORK, CHICAGO, DENVER, LONDON = "America/New_York", "America/Chicago", "America/Denver", "Europe/London"
IN_NEW_YORK, IN_CHICAGO, ANYWHERE, IN_LONDON = "+12125550141", "+13125550164", "+18005550100", "+442079460106"
IN_INDIA = "+912222740000"


def selected(people: list[CallTask | str], *zones: str, **options: Any) -> Recipients:
    tasks = [one if isinstance(one, CallTask) else CallTask(to_number=one) for one in people]
    return read_inline(tasks, ReadOptions(timezones=zones, **options))


def test_people_are_selected_by_prefix_or_by_their_own_zone() -> None:
    moved = CallTask(to_number="+13125550165", timezone="America/New_York")
    found = selected([IN_NEW_YORK, IN_CHICAGO, moved, IN_LONDON], NEW_YORK)
    assert [task.to_number for task in found.tasks] == [IN_NEW_YORK, "+13125550165"]
    assert (found.rows_read, found.skipped_rows) == (2, ())
    assert found.remarks == ("timezones selects 2 of 4 people.",)


def test_a_number_that_may_be_in_several_zones_is_selected_only_by_all_of_them() -> None:
    found = selected([IN_NEW_YORK, ANYWHERE], NEW_YORK, CHICAGO, DENVER)
    assert [task.to_number for task in found.tasks] == [IN_NEW_YORK]
    assert "1 who may be in several zones were not selected" in found.remarks[0]
    assert [task.to_number for task in selected([ANYWHERE], *zones_of(ANYWHERE)).tasks] == [ANYWHERE]


def test_former_names_of_a_zone_are_the_zone_and_neighbours_are_not() -> None:
    assert canonical("Asia/Calcutta") == canonical("Asia/Kolkata") == "Asia/Kolkata"
    assert canonical("US/Eastern") == NEW_YORK
    assert canonical("Europe/Oslo") == "Europe/Oslo", "it shares its clock with Berlin, and its people do not"
    for name in ("Asia/Calcutta", "Asia/Kolkata"):
        assert [task.to_number for task in selected([IN_INDIA, IN_LONDON], name).tasks] == [IN_INDIA]


@pytest.mark.parametrize(
    ("zones", "says"),
    [
        (("PST",), "timezones: .PST. is not the IANA name of a time zone; did you mean America/Los_Angeles"),
        (("+02:00",), "timezones: .*not the IANA name"),
        ((), "timezones: the list is empty"),
        (
            ("Europe/Berlin",),
            r"nobody of the list is in Europe/Berlin alone.*zones: America/New_York \(2\), Europe/London \(1\)\.",
        ),
    ],
)
def test_what_selects_nobody_is_refused_with_the_zones_of_the_list(zones: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        selected([IN_NEW_YORK, "+12125550142", IN_LONDON], *zones)


def test_skipped_people_are_reported_with_their_own_zone_only() -> None:
    people: list[CallTask | str] = ["n/a", IN_NEW_YORK, IN_NEW_YORK, IN_LONDON, IN_CHICAGO]
    found = selected(people, NEW_YORK, do_not_call=frozenset({IN_LONDON}))
    assert [(row.line, row.kind) for row in found.skipped_rows] == [(1, SkipReason.INVALID), (3, SkipReason.DUPLICATE)]
    found = selected(people, LONDON, do_not_call=frozenset({IN_LONDON}))
    assert [row.kind for row in found.skipped_rows] == [SkipReason.INVALID, SkipReason.DO_NOT_CALL]
    assert found.tasks == ()


@given(
    people=st.lists(
        st.tuples(
            st.sampled_from([IN_NEW_YORK, IN_CHICAGO, ANYWHERE, IN_LONDON, IN_INDIA, "+13125550165", "+12125550142"]),
            st.sampled_from([None, NEW_YORK, CHICAGO, "US/Eastern"]),
        ),
        min_size=1,
    ),
    parts=st.permutations([NEW_YORK, CHICAGO, LONDON, "Asia/Kolkata"]),
    cut=st.integers(1, 3),
)
def test_of_parts_by_zone_nobody_is_in_two(people: list[tuple[str, str | None]], parts: list[str], cut: int) -> None:
    """Also if a number stands in the list twice, in different zones."""
    tasks: list[CallTask | str] = [CallTask(to_number=number, timezone=zone) for number, zone in people]
    called: list[str] = []
    for zones in (parts[:cut], parts[cut:]):
        with suppress(InvalidInput):  # nobody is in these
            called += [task.to_number for task in selected(tasks, *zones).tasks]
    assert len(called) == len(set(called))
    assert {number for number, _ in people} - set(called) <= {ANYWHERE}
