"""The report as one HTML file: no scripts, nothing from elsewhere, every text from outside escaped. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element

from batchcall_mcp.batch_calls.report import words
from batchcall_mcp.batch_calls.report.charts import (
    Bar,
    Part,
    bar_table,
    bars_over_time,
    columns,
    percent,
    span_words,
    stacked_bar,
)
from batchcall_mcp.batch_calls.report.markup import Child, outside, tag, written
from batchcall_mcp.batch_calls.report.style import STYLE
from batchcall_mcp.batch_calls.report.tally import Missed, Tally
from batchcall_mcp.batch_calls.report.words import OUTCOMES, About, amount, duration, moment, short_moment
from batchcall_mcp.clock import from_ms
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.model import NOT_REACHED, TaskStatus
from batchcall_mcp.text import shortened

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"
_MOST_CHOICES_SHOWN: Final = 12
_LONGEST_TITLE: Final = 100
_COLUMN_CLASSES: Final = {"Number": "tel", "Calls": "number dials", "Last call": "when"}


def report_page(tally: Tally, about: About) -> str:
    """The whole file."""
    tally.complete_from(about.batch_call.results)
    headline = words.headline(tally, about.batch_call)
    name = shortened(about.batch_call.name or about.batch_call.batch_call_id, _LONGEST_TITLE)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="robots", content="noindex"),
        # A phone must not make links of the numbers: nobody is called by accident.
        tag("meta", name="format-detection", content="telephone=no"),
        tag("title", f"{name}: {headline}"),
        tag("style", STYLE),
    )
    main = tag("main", _top(tally, about, headline, name), *_sections(tally, about), _footer(about))
    return written(tag("html", head, tag("body", main), lang="en"))


def _top(tally: Tally, about: About, headline: str, name: str) -> Element:
    parts = [
        Part(label="Reached", count=tally.reached, kind="reached"),
        Part(label="Not reached", count=tally.not_reached, kind="missed"),
        Part(label=words.rest(tally), count=tally.people - tally.reached - tally.not_reached, kind="rest"),
    ]
    lead = words.lead(tally, about.batch_call)
    simulated = "Simulated: no phone rang. These figures show what a report looks like."
    return tag(
        "header",
        tag("p", tag("span", "Call report"), outside(name), class_="name"),
        tag("h1", headline),
        tag("p", lead, class_="lead") if lead else None,
        _when_and_who(tally, about),
        tag("p", simulated, class_="note") if about.batch_call.simulated else None,
        *([stacked_bar(parts), _legend(parts)] if tally.people else []),
        _figures(tally),
    )


def _when_and_who(tally: Tally, about: About) -> Element | None:
    """One line: when people were called, from which number, by which agent."""
    called, batch_call = _called(tally, about), about.batch_call
    agent = about.agent_name or batch_call.agent_id
    parts: list[list[Child]] = [
        [f"Called {called} ({about.zone.key})"] if called else [],
        ["from " if called else "Called from ", outside(batch_call.from_number)] if batch_call.from_number else [],
        ["by ", outside(agent)] if agent else [],
    ]
    given = [tag("span", *part) for part in parts if part]
    for one in given[:-1]:
        one.tail = " "
    return tag("p", *given, class_="who") if given else None


def _legend(parts: list[Part]) -> Element:
    return tag(
        "ul",
        *(
            tag(
                "li",
                tag("svg", tag("rect", class_=one.kind, width=10, height=10), viewBox="0 0 10 10", aria_hidden="true"),
                one.label,
                f" {one.count:,}",
            )
            for one in parts
            if one.count
        ),
        class_="legend",
    )


def _figures(tally: Tally) -> Element | None:
    """A few large figures, each only where it was reported."""
    found = list(_each_figure(tally))
    return tag("dl", *found, class_="figures") if len(found) > 1 else None  # the first alone is the headline again


def _each_figure(tally: Tally) -> Iterator[Element]:
    if tally.reached or tally.not_reached:
        yield _figure(
            "Reached",
            percent(tally.reached, tally.people),
            f"{tally.reached:,} of {counted(tally.people, 'person', 'people')}",
        )
    if tally.dials.people and tally.dials.total:
        each = f"{tally.dials.total / tally.dials.people:.1f} a person".replace(".0 ", " ")
        yield _figure("Calls dialled", f"{round(tally.dials.total):,}", f"{each} on average")
    if talk := tally.talk_seconds.people:
        total = tally.talk_seconds.total
        yield _figure("Talk time", duration(total), f"{duration(total / talk)} a call on average")
    for currency, cost in sorted(tally.costs.items()):
        is_all = len(tally.costs) == 1 and tally.costs_known >= tally.called
        for_each = f"{amount(cost / tally.reached, currency, 2)} a person reached" if tally.reached and is_all else None
        yield _figure("Cost", amount(cost, currency), for_each)
    if tally.answered_by.total():
        yield _figure(
            "Answered",
            f"{tally.answered_by.total():,}",
            f"{tally.answered_by['human']:,} by a person, {tally.answered_by['machine']:,} by a machine",
        )


def _figure(what: str, value: str, more: str | None) -> Element:
    return tag("div", tag("dt", what), tag("dd", value), tag("dd", more) if more else None)


def _sections(tally: Tally, about: About) -> Iterator[Element]:
    if tally.people:
        yield _outcomes(tally)
    if tally.choices_known:
        yield _choices(tally)
    over_time = _over_time(tally, about)
    if over_time is not None:
        yield over_time
    unknown = list(words.not_known(tally, about))
    if unknown:
        yield _section("What is not known", None, tag("ul", *(tag("li", one) for one in unknown)), class_="unknown")
    yield _facts(tally, about)
    if tally.missed:
        yield _missed(tally, about)


def _section(title: str, hint: Child, *children: Child, class_: str | None = None) -> Element:
    return tag("section", tag("h2", title), tag("p", hint, class_="hint") if hint else None, *children, class_=class_)


def _outcomes(tally: Tally) -> Element:
    parts = [Part(label=label, count=tally.statuses[one], kind=_kind(one)) for one, label in OUTCOMES.items()]
    return _section(
        "Outcomes", "How the last call to each person ended.", bar_table("Outcomes", "Outcome", parts, tally.people)
    )


def _kind(status: TaskStatus) -> str:
    return "reached" if status is TaskStatus.COMPLETED else "missed" if status in NOT_REACHED else "rest"


def _choices(tally: Tally) -> Element:
    shown = tally.choices.most_common(_MOST_CHOICES_SHOWN)
    parts = [Part(label=outside(choice), count=count, kind="reached") for choice, count in shown]
    others = tally.choices_known - sum(count for _, count in shown)
    parts.append(Part(label="Other choices", count=others, kind="rest"))
    hint = f"As reported of {counted(tally.choices_known, 'person', 'people')}."
    return _section("What people chose", hint, bar_table("Choices", "Choice", parts, tally.choices_known))


def _over_time(tally: Tally, about: About) -> Element | None:
    bars, width = bars_over_time(tally.reached_at_ms, tally.others_at_ms, about.zone)
    if len(bars) < 2:  # noqa: PLR2004 - one column shows what the line at the top says
        return None
    calls = len(tally.reached_at_ms) + len(tally.others_at_ms)
    most = max(bars, key=lambda bar: bar.reached + bar.others)
    label = (
        f"Column chart: {counted(calls, 'call')} from {_begin_of(bars[0])} on; "
        f"most in the column of {_begin_of(most)}, {most.reached + most.others:,}. The figures are in the table below."
    )
    again = tally.dials.total > tally.dials.people
    hint = f"The last call to each person; a column is {span_words(width)}. Times: {about.zone.key}."
    rows = [
        tag(
            "tr",
            tag("th", _begin_of(bar), scope="row"),
            tag("td", f"{bar.reached:,}", class_="number"),
            tag("td", f"{bar.others:,}", class_="number"),
        )
        for bar in bars
    ]
    head = tag(
        "tr",
        *(
            tag("th", one, scope="col", class_="number" if at else None)
            for at, one in enumerate(("From", "Reached", "Not reached"))
        ),
    )
    table = tag("table", tag("caption", "Calls over time"), tag("thead", head), tag("tbody", *rows))
    legend = _legend(
        [
            Part(label="Reached", count=len(tally.reached_at_ms), kind="reached"),
            Part(label="Not reached", count=len(tally.others_at_ms), kind="missed"),
        ]
    )
    hint += " Earlier calls to the same person are not in it." if again else ""
    return _section(
        "Calls over time",
        hint,
        columns(bars, width, label),
        legend,
        tag("details", tag("summary", "Show as a table"), table),
    )


def _begin_of(bar: Bar) -> str:
    return f"{bar.begins:%a} {bar.begins.day} {bar.begins:%b %Y, %H:%M}"


def _missed(tally: Tally, about: About) -> Element:
    """The people who were not reached, by name; a column that nobody has a word for is not there."""
    named = any(one.name for one in tally.missed)
    dialled = any(one.attempts is not None for one in tally.missed)
    timed = any(one.at for one in tally.missed)
    titles = ("Number", *["Name"] * named, "Outcome", *["Calls"] * dialled, *["Last call"] * timed)
    head = tag("tr", *(tag("th", one, scope="col", class_=_COLUMN_CLASSES.get(one)) for one in titles))

    def row(one: Missed) -> Element:
        why = tag("span", outside(one.error), class_="why") if one.error else None
        cells = [tag("th", outside(one.to_number), scope="row", class_=_COLUMN_CLASSES["Number"])]
        if named:
            cells.append(tag("td", outside(one.name)))
        cells.append(tag("td", OUTCOMES[one.status], why))
        if dialled:
            cells.append(
                tag("td", "" if one.attempts is None else f"{one.attempts:,}", class_=_COLUMN_CLASSES["Calls"])
            )
        if timed:
            cells.append(tag("td", short_moment(one.at, about) if one.at else "", class_=_COLUMN_CLASSES["Last call"]))
        return tag("tr", *cells)

    whole = tally.not_reached
    hint = f"{counted(whole, 'person', 'people')}, in the order of the list."
    if whole > len(tally.missed):
        hint = (
            f"The first {len(tally.missed):,} of {whole:,} people, in the order of the list. The CSV export of this "
            'batch call has all of them (export_batch_call with format "csv" and task_status ["not_reached"]).'
        )
    if timed:
        hint += f" Times: {about.zone.key}."
    table = tag(
        "table",
        tag("caption", "People not reached"),
        tag("thead", head),
        tag("tbody", *map(row, tally.missed)),
        class_="people",
    )
    return _section("People not reached", hint, table)


def _facts(tally: Tally, about: About) -> Element:
    batch_call, zone, called = about.batch_call, about.zone, _called(tally, about)
    agent: list[Child] = [outside(one) for one in (about.agent_name, batch_call.agent_id) if one]
    if len(agent) > 1:
        agent = [agent[0], " (", agent[1], ")"]
    given: tuple[tuple[str, list[Child]], ...] = (
        ("Name", [outside(batch_call.name)] if batch_call.name else []),
        ("Batch call", [outside(batch_call.batch_call_id)]),
        ("State", [str(batch_call.status)]),
        ("Called from", [outside(batch_call.from_number)] if batch_call.from_number else []),
        ("Agent", agent),
        ("Planned for", [moment(batch_call.scheduled_at, zone)] if batch_call.scheduled_at else []),
        ("Began", [moment(batch_call.started_at, zone)] if batch_call.started_at else []),
        ("Last calls", [called] if called else []),
        ("Ended", [moment(batch_call.completed_at, zone)] if batch_call.completed_at else []),
        ("Calls again those of", [outside(batch_call.retry_of)] if batch_call.retry_of else []),
        ("Times", [f"{zone.key}"]),
    )
    rows = [element for what, value in given if value for element in (tag("dt", what), tag("dd", *value))]
    return _section("About this batch call", None, tag("dl", *rows, class_="facts"))


def _called(tally: Tally, about: About) -> str | None:
    """From the first to the last of the last calls to each person."""
    found = [(min(moments), max(moments)) for moments in (tally.reached_at_ms, tally.others_at_ms) if moments]
    if not found:
        return None
    first, last = min(first for first, _ in found), max(last for _, last in found)
    return words.span(from_ms(first), from_ms(last), about.zone)


def _footer(about: About) -> Element:
    made = moment(about.made_at, about.zone)
    return tag(
        "footer",
        tag(
            "p",
            f"Made by batchcall-mcp on {made} ({about.zone.key}), from what the backend {about.backend} reported then.",
        ),
        tag("p", "This file holds names and phone numbers. Send it only to people who may see them."),
    )
