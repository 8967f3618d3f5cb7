"""What the report says of a batch call: each figure only where it was reported, and the rest by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.batch_calls.report import words
from batchcall_mcp.batch_calls.report.charts import bars_over_time, percent
from batchcall_mcp.batch_calls.report.markup import outside, tag, written
from batchcall_mcp.batch_calls.report.tally import MOST_LISTED, Tally
from batchcall_mcp.clock import to_ms
from batchcall_mcp.model import BatchStatus, CallTask, Results, TaskStatus
from batchcall_mcp.money import Money
from batchcall_mcp.text import shortened
from tests.batch_calls.report.scenes import BEGAN, everything, finished, little, page_of

NEW_YORK = ZoneInfo("America/New_York")


def tallied(tasks: Iterable[CallTask]) -> Tally:
    tally = Tally()
    for task in tasks:
        tally.add(task)
    return tally


def task(status: TaskStatus = TaskStatus.COMPLETED, **more: object) -> CallTask:
    return replace(CallTask(to_number="+12125550101", status=status), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "status", "line"),
    [
        ([], BatchStatus.DRAFT, "There is nobody on this list"),
        ([TaskStatus.PENDING] * 3, BatchStatus.SCHEDULED, "Nobody has been called yet"),
        ([TaskStatus.COMPLETED] * 2, BatchStatus.COMPLETED, "2 of 2 people were reached"),
        ([TaskStatus.COMPLETED, TaskStatus.BUSY], BatchStatus.COMPLETED, "1 of 2 people was reached"),
        ([TaskStatus.COMPLETED], BatchStatus.COMPLETED, "1 of 1 person was reached"),
        ([TaskStatus.BUSY], BatchStatus.COMPLETED, "The person was not reached"),
        ([TaskStatus.COMPLETED, TaskStatus.PENDING], BatchStatus.RUNNING, "So far, 1 of 2 people was reached"),
        ([TaskStatus.COMPLETED, TaskStatus.PENDING], BatchStatus.CANCELLED, "1 of 2 people was reached"),
    ],
)
def test_the_headline_says_what_came_of_it(states: list[TaskStatus], status: BatchStatus, line: str) -> None:
    assert words.headline(tallied(map(task, states)), finished(status=status)) == line


def test_what_is_not_reported_has_no_figure_and_is_named() -> None:
    page = page_of(
        little(),
        finished(agent_id=None, timezone=None),
        reported=frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED}),
        carried=frozenset({"cost"}),
        zone="UTC",
        backend="zudu",
    )
    for figure in ("<dt>Talk time</dt>", "<dt>Cost</dt>", "<dt>Calls dialled</dt>", "<dt>Answered</dt>"):
        assert figure not in page
    assert "What people chose</h2>" not in page
    assert "Calls over time" not in page
    assert "Not reported by zudu: how long the calls lasted, what people chose, how often people were dialled" in page
    assert "Reported of none of these calls: what they cost." in page
    assert "Outcomes that zudu does not report: no answer, busy, voicemail." in page


def test_a_figure_that_is_zero_is_not_one_that_is_absent() -> None:
    page = page_of([task(duration_seconds=0.0, cost=Money(Decimal(0), "USD"), attempts=1)], finished())
    assert "<dt>Talk time</dt><dd>0 s</dd>" in page
    assert "<dt>Cost</dt><dd>0.00 USD</dd>" in page


def test_what_is_reported_of_some_calls_says_of_how_many() -> None:
    page = page_of(
        [task(duration_seconds=60.0, cost=Money(Decimal("0.1"), "USD")), task(), task(TaskStatus.BUSY)], finished()
    )
    assert "Talk time is that of 1 call: it is not known of the others." in page
    assert "The cost is that of the calls to 1 of 3 people: it is not known of the others." in page


def test_amounts_are_added_exactly_and_never_across_currencies() -> None:
    tally = tallied(task(cost=Money(Decimal("0.1"), currency)) for currency in ["USD"] * 3 + ["EUR"])
    assert tally.costs == {"USD": Decimal("0.3"), "EUR": Decimal("0.1")}
    assert words.amount(tally.costs["USD"], "USD") == "0.30 USD"
    assert words.amount(Decimal("1234567.00125"), "USD") == "1,234,567.0012 USD"


def test_a_cost_that_only_the_batch_call_has_is_its_cost() -> None:
    page = page_of([task()], finished(results=Results(cost=Money(Decimal("4.2"), "EUR"))))
    assert "<dt>Cost</dt><dd>4.20 EUR</dd>" in page


@pytest.mark.parametrize("absurd", [float("nan"), float("inf"), -1.0])
def test_a_figure_that_cannot_be_is_not_counted(absurd: float) -> None:
    tally = tallied([task(duration_seconds=absurd, cost=Money(Decimal("NaN"), "USD"))])
    assert (tally.talk_seconds.people, tally.costs_known) == (0, 0)


def test_a_machine_that_counts_as_reached_is_said() -> None:
    page = page_of([task(answered_by="machine"), task(answered_by="human")], finished())
    assert "A machine answered 1 call that counts as reached." in page


def test_a_simulated_batch_call_says_that_no_phone_rang() -> None:
    assert "no phone rang" in page_of([task()], finished(simulated=True))
    assert "no phone rang" not in page_of([task()], finished())


def test_of_many_people_not_reached_the_first_are_listed_and_the_file_stays_small() -> None:
    people = 100_000
    page = page_of(
        (
            task(
                TaskStatus.NO_ANSWER,
                to_number=f"+1212{at:07}",
                name="N" * 300,
                error="e" * 300,
                attempts=2,
                choice=f"choice {at}",
                attempted_at=BEGAN + timedelta(seconds=at),
            )
            for at in range(people)
        ),
        finished(),
    )
    assert page.count('class="tel"') == MOST_LISTED + 1
    assert f"The first {MOST_LISTED:,} of 100,000 people" in page
    assert 'task_status ["not_reached"]' in page
    assert len(page.encode()) < 1_500_000


def test_times_are_on_the_named_clock() -> None:
    page = page_of([task(TaskStatus.BUSY, attempted_at=datetime(2026, 7, 1, 3, 30, tzinfo=UTC))], finished())
    assert "<dd>Tue 30 Jun 2026, 23:30</dd>" in page
    assert "30 Jun, 23:30" in page
    assert "(America/New_York)" in page


@pytest.mark.parametrize(
    ("count", "whole", "said"), [(0, 9, "0 %"), (1, 999, "< 1 %"), (998, 999, "> 99 %"), (9, 9, "100 %"), (0, 0, "0 %")]
)
def test_a_share_is_all_or_none_only_if_it_is(count: int, whole: int, said: str) -> None:
    assert percent(count, whole) == said


moments = st.datetimes(datetime(1971, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC))


@given(st.lists(moments, max_size=30), st.lists(moments, max_size=30), st.sampled_from(["UTC", "America/New_York"]))
def test_every_call_is_in_a_bar_and_the_bars_are_few(
    reached: list[datetime], others: list[datetime], zone: str
) -> None:
    bars, _ = bars_over_time(map(to_ms, reached), map(to_ms, others), ZoneInfo(zone))
    assert len(bars) <= 25
    assert (sum(bar.reached for bar in bars), sum(bar.others for bar in bars)) == (len(reached), len(others))
    assert not bars or (bars[0].reached + bars[0].others and bars[-1].reached + bars[-1].others)


def test_bars_begin_at_round_times_of_the_clock() -> None:
    at = datetime(2026, 11, 26, 14, 7, tzinfo=UTC)
    bars, width = bars_over_time([to_ms(at), to_ms(at + timedelta(hours=3))], [], NEW_YORK)
    assert (width, bars[0].begins) == (timedelta(minutes=10), datetime(2026, 11, 26, 9, 0))


class Read(HTMLParser):
    """What a browser would find."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_whatever_a_text_holds_it_stays_text(text: str, attribute: str) -> None:
    shown = shortened(attribute, 200)
    page = written(tag("p", outside(text), aria_label=shown))
    page.encode()
    read = Read(page)
    assert read.tags == [("p", {"aria-label": shown}), ("bdi", {})]
    assert read.text.strip("\n") == shortened(text, 200)


def test_the_whole_scene_adds_up() -> None:
    tally = tallied(everything())
    assert tally.people == 240 == tally.reached + tally.not_reached + tally.not_called + tally.waiting + tally.unknown
    assert len(tally.reached_at_ms) + len(tally.others_at_ms) == tally.people - tally.not_called


def test_calls_of_one_minute_are_no_chart() -> None:
    tasks = [task(TaskStatus.BUSY, attempted_at=BEGAN), task(attempted_at=BEGAN)]
    assert "Calls over time" not in page_of(tasks, finished())
    assert "Calls over time" in page_of([*tasks, task(attempted_at=BEGAN + timedelta(minutes=2))], finished())
