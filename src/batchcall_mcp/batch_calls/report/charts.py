"""Charts as inline SVG that take their colours from the style sheet and stretch with the page. Pure.

An SVG holds bars alone, and its words are HTML: they keep their size on a phone and on paper, and can be read aloud.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final
from xml.etree.ElementTree import Element

from batchcall_mcp.batch_calls.report.markup import Child, tag
from batchcall_mcp.clock import from_ms

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_WIDTHS: Final = (
    *(_MINUTE * count for count in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * count for count in (1, 2, 3, 6, 12)),
    *(_DAY * count for count in (1, 2, 7, 14, 28)),
)
_MOST_BARS: Final = 24
_MOST_LABELS: Final = 6
_FEWEST_SLOTS: Final = 8
"""So that two columns do not look like two walls."""
_MINUTE_MS: Final = 60_000
_EPOCH: Final = datetime(1970, 1, 5)
_NICE: Final = (1, 2, 4, 6, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a whole; `kind` is a colour of the style sheet: reached, missed or rest."""

    label: Child
    count: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Calls in one span of time, which begins at `begins` on the report's clock."""

    begins: datetime
    reached: int
    others: int


def percent(count: int, whole: int) -> str:
    """`78 %`; 0 % and 100 % only where it is exactly that."""
    share = round(100 * count / whole) if whole else 0
    if count and share < 1:
        return "< 1 %"
    return "> 99 %" if share == 100 and count < whole else f"{share} %"  # noqa: PLR2004 - percent


def stacked_bar(parts: Sequence[Part]) -> Element:
    """One bar of the whole, cut into its parts; what it says stands next to it in words."""
    whole = sum(part.count for part in parts) or 1
    bar = tag("svg", class_="whole", viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")
    x = 0.0
    for part in parts:
        width = 100 * part.count / whole
        bar.append(tag("rect", class_=part.kind, x=x, y=0, width=width, height=10))
        x += width
    return bar


def bar_table(caption: str, what: str, parts: Sequence[Part], whole: int) -> Element:
    """A table whose rows have a bar each: the chart is its own table. Parts of nobody have no row."""
    most = max((part.count for part in parts), default=0) or 1
    rows = [
        tag(
            "tr",
            tag("th", part.label, scope="row"),
            tag("td", _bar(100 * part.count / most, part.kind), class_="bar", aria_hidden="true"),
            tag("td", f"{part.count:,}", class_="number"),
            tag("td", percent(part.count, whole), class_="number share"),
        )
        for part in parts
        if part.count
    ]
    head = tag(
        "tr",
        tag("th", what, scope="col"),
        tag("td", aria_hidden="true"),
        tag("th", "People", scope="col", class_="number"),
        tag("th", "Share", scope="col", class_="number"),
    )
    return tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *rows), class_="bars")


def _bar(width: float, kind: str) -> Element:
    rect = tag("rect", class_=kind, width=max(width, 0.6), height=10, rx=0)
    return tag("svg", rect, viewBox="0 0 100 10", preserveAspectRatio="none", focusable="false")


def bars_over_time(reached_ms: Iterable[int], others_ms: Iterable[int], zone: tzinfo) -> tuple[list[Bar], timedelta]:
    """Calls by the time of a clock, from the first bar that has some to the last, and how long a bar is.

    Where the clock is put back, an hour that it shows twice is one.
    """
    reached, others = _local_minutes(reached_ms, zone), _local_minutes(others_ms, zone)
    moments = {*reached, *others}
    if not moments:
        return [], _MINUTE
    first, last = min(moments), max(moments)
    width = next((one for one in _WIDTHS if _floor(last, one) - _floor(first, one) < one * _MOST_BARS), None)
    width = width or _DAY * (((last - first) // _DAY) // (_MOST_BARS - 1) + 1)
    in_reached, in_others = _by(reached, width), _by(others, width)
    begins, bars = _floor(first, width), []
    while begins <= last:
        bars.append(Bar(begins=begins, reached=in_reached[begins], others=in_others[begins]))
        begins += width
    return bars, width


def _local_minutes(moments_ms: Iterable[int], zone: tzinfo) -> Counter[datetime]:
    """How many of the moments are in which minute of the clock."""
    found: Counter[datetime] = Counter()
    for minute, count in Counter(moment // _MINUTE_MS for moment in moments_ms).items():
        local = from_ms(minute * _MINUTE_MS).astimezone(zone)
        found[local.replace(tzinfo=None, fold=0, second=0, microsecond=0)] += count
    return found


def _floor(moment: datetime, width: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % width


def _by(counts: Counter[datetime], width: timedelta) -> Counter[datetime]:
    found: Counter[datetime] = Counter()
    for moment, count in counts.items():
        found[_floor(moment, width)] += count
    return found


def columns(bars: Sequence[Bar], width: timedelta, label: str) -> Element:
    """The bars as columns with a scale and a few times below. `label` says the same to who does not see it."""
    top = _nice_top(max(bar.reached + bar.others for bar in bars))
    step = -(-len(bars) // _MOST_LABELS)
    groups = max(-(-len(bars) // step), -(-_FEWEST_SLOTS // step))
    plot = tag(
        "svg",
        viewBox=f"0 0 {groups * step * 10} 100",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="columns",
    )
    for line in (0, 50, 100):
        plot.append(tag("line", x1=0, x2=groups * step * 10, y1=line, y2=line, vector_effect="non-scaling-stroke"))
    for at, bar in enumerate(bars):
        high, low = 100 * bar.reached / top, 100 * bar.others / top
        for kind, y, height in (("reached", 100 - high, high), ("missed", 100 - high - low, low)):
            if height:
                plot.append(tag("rect", class_=kind, x=at * 10 + 1, y=y, width=8, height=height))
    scale = tag("div", *(tag("span", f"{top * part // 2:,}") for part in (2, 1, 0)), class_="scale", aria_hidden="true")
    labels = [
        _below(bars[at].begins, bars[at - step].begins if at else None, width) for at in range(0, len(bars), step)
    ]
    labels.extend(tag("span") for _ in range(groups - len(labels)))
    below = tag("div", *labels, class_="below", aria_hidden="true")
    return tag("div", scale, plot, below, class_="plot")


def _nice_top(most: int) -> int:
    """The top of the scale: even, so that its half is a number of calls."""
    power = 1
    while True:
        for nice in _NICE:
            if nice * power >= most and nice * power % 2 == 0:
                return nice * power
        power *= 10


def _below(begins: datetime, before: datetime | None, width: timedelta) -> Element:
    """A time; its day only where it is another one than before."""
    day = f"{begins.day} {begins:%b}"
    if width >= _DAY:
        return tag("span", day)
    return tag(
        "span",
        f"{begins:%H:%M}",
        tag("br"),
        tag("small", day if before is None or before.date() != begins.date() else ""),
    )


def span_words(width: timedelta) -> str:
    """How long a bar is: `5 minutes`, `an hour`, `a day`."""
    for unit, name, one in ((_DAY, "days", "a day"), (_HOUR, "hours", "an hour"), (_MINUTE, "minutes", "a minute")):
        if width >= unit:
            return one if width == unit else f"{width // unit} {name}"
    return "a minute"
