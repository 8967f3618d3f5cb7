"""One organisation's figures in Prometheus's text format, all of them read from the database.

So any of several processes gives the same answer, and a restart sets no counter back. Counters count `attempts`, whose
rows are never removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from batchcall_mcp import __version__
from batchcall_mcp.dialer.domain.records import HeldBy, ReasonCode
from batchcall_mcp.dialer.domain.rules import ANSWERED, REDIALABLE, State
from batchcall_mcp.dialer.storage import tables as t
from batchcall_mcp.dialer.storage.do_not_call import Source
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.model import TaskStatus

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
OPEN: Final = (State.DRAFT, State.SCHEDULED, State.SENT, State.PAUSED)
REASONS: Final = get_args(ReasonCode)
HELD_BY: Final = get_args(HeldBy)
SOURCES: Final = get_args(Source)
OUTCOMES: Final = sorted(REDIALABLE | ANSWERED)
"""What can become of a call."""
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_PREFIX: Final = "batchcall_dialer_"


@dataclass(frozen=True, slots=True)
class Figures:
    """What is shown; `ended_lately` are the outcomes of the last hour."""

    active: int
    outcomes: Mapping[str, int]
    ended_lately: Mapping[str, int]
    started_last_minute: int
    due: int
    lag_s: float
    batch_calls: Mapping[str, int]
    paused_because: Mapping[str, int]
    held_back: Mapping[str, int]
    do_not_call: Mapping[str, int]
    webhook_messages_due: int
    workers: int
    engine_failures: int


def exposition(store: Store, organization_id: str) -> bytes:
    """The organisation's figures as they are now, in Prometheus's text format. Blocks for a few queries."""
    registry = CollectorRegistry()
    registry.register(_Collector(figures(store, organization_id)))
    return generate_latest(registry)


def figures(store: Store, organization_id: str) -> Figures:
    """One consistent look."""
    now = store.now()
    with store.reading() as tx:
        calls = _outcomes(tx, organization_id, since=None)
        due, oldest = _due(tx, organization_id, now)
        return Figures(
            active=calls.pop(None, 0),
            outcomes=_named(calls),
            ended_lately=_named(_outcomes(tx, organization_id, since=now - _HOUR_MS)),
            started_last_minute=_started(tx, organization_id, now - _MINUTE_MS, now),
            due=due,
            lag_s=0.0 if oldest is None else (now - oldest) / 1000,
            batch_calls=_open_batch_calls(tx, organization_id),
            paused_because=_paused_because(tx, organization_id),
            held_back=_held_back(tx, organization_id, now),
            do_not_call=_do_not_call(tx, organization_id),
            webhook_messages_due=_messages_due(tx, organization_id, now),
            workers=tx.execute(sa.select(sa.func.count()).select_from(t.workers)).scalar_one(),
            engine_failures=tx.scalar(sa.select(t.installation.c.engine_failures)) or 0,
        )


def _outcomes(tx: sa.Connection, organization_id: str, since: int | None) -> dict[str | None, int]:
    """How many attempts ended how; None: not yet. With `since`, those that ended after it."""
    query = sa.select(t.attempts.c.outcome, sa.func.count()).where(t.attempts.c.organization_id == organization_id)
    if since is not None:
        # The outcomes are named so that the index leads straight to the end of each of them.
        query = query.where(t.attempts.c.outcome.in_(OUTCOMES), t.attempts.c.ended_at > since)
    return dict(tx.execute(query.group_by(t.attempts.c.outcome)).all())


def _started(tx: sa.Connection, organization_id: str, after: int, until: int) -> int:
    mine = t.attempts.c.organization_id == organization_id
    in_time = (t.attempts.c.started_at > after) & (t.attempts.c.started_at <= until)
    return tx.execute(sa.select(sa.func.count()).where(mine, in_time)).scalar_one()


def _messages_due(tx: sa.Connection, organization_id: str, now: int) -> int:
    due = (t.webhooks.c.organization_id == organization_id) & (t.webhook_outbox.c.due_at <= now)
    query = sa.select(sa.func.count()).select_from(t.webhook_outbox.join(t.webhooks)).where(due)
    return tx.execute(query).scalar_one()


def _open_batch_calls(tx: sa.Connection, organization_id: str) -> dict[str, int]:
    status = t.batch_calls.c.status
    mine = t.batch_calls.c.organization_id == organization_id
    query = sa.select(status, sa.func.count()).where(mine, status.in_(OPEN)).group_by(status)
    return _named(dict(tx.execute(query).all()))


def _paused_because(tx: sa.Connection, organization_id: str) -> dict[str, int]:
    """How many batch calls the dialer has paused by itself, by reason."""
    reason = t.batch_calls.c.status_reason
    paused = (t.batch_calls.c.organization_id == organization_id) & (t.batch_calls.c.status == State.PAUSED)
    query = sa.select(reason, sa.func.count()).where(paused, reason.is_not(None)).group_by(reason)
    return _named(dict(tx.execute(query).all()))


def _held_back(tx: sa.Connection, organization_id: str, now: int) -> dict[str, int]:
    """Tasks of running batch calls that the dialer has tried and put off, by reason."""
    reason = t.tasks.c.held_by
    query = (
        sa.select(reason, sa.func.count())
        .select_from(t.batch_calls.join(t.tasks))
        .where(
            t.batch_calls.c.organization_id == organization_id,
            t.batch_calls.c.status == State.SENT,
            reason.is_not(None),
            t.tasks.c.due_at > now,
        )
    )
    return _named(dict(tx.execute(query.group_by(reason)).all()))


def _do_not_call(tx: sa.Connection, organization_id: str) -> dict[str, int]:
    """The organisation's own numbers, by where they come from."""
    source = t.do_not_call.c.source
    mine = t.do_not_call.c.organization_id == organization_id
    return _named(dict(tx.execute(sa.select(source, sa.func.count()).where(mine).group_by(source)).all()))


def _due(tx: sa.Connection, organization_id: str, now: int) -> tuple[int, int | None]:
    """Tasks of running batch calls that wait to be dialled now, and since when the oldest of them does."""
    query = (
        sa.select(sa.func.count(), sa.func.min(t.tasks.c.due_at))
        .select_from(t.batch_calls.join(t.tasks))
        .where(
            t.batch_calls.c.organization_id == organization_id,
            t.batch_calls.c.status == State.SENT,
            t.tasks.c.status == TaskStatus.PENDING,
            t.tasks.c.due_at <= now,
        )
    )
    count, oldest = tx.execute(query).one()
    return count, oldest


def _named(counted: Mapping[str | None, int]) -> dict[str, int]:
    return {str(name): number for name, number in counted.items()}


class _Collector(Collector):
    """Makes metrics of figures."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        found = self._figures
        ended = sum(found.outcomes.values())
        ended_lately = sum(found.ended_lately.values())
        answered = sum(found.ended_lately.get(outcome, 0) for outcome in ANSWERED)
        yield InfoMetricFamily(_PREFIX + "build", "This version of batchcall-mcp.", {"version": __version__})
        yield _gauge("active_calls", "Calls in progress.", found.active)
        yield CounterMetricFamily(_PREFIX + "calls_started", "Calls started since ever.", ended + found.active)
        yield _by("outcome", OUTCOMES, found.outcomes, CounterMetricFamily, "calls_ended", "Calls ended, by outcome.")
        yield _gauge("dials_per_second", "Calls started a second, over 60 s.", found.started_last_minute / 60)
        if ended_lately:
            # Without a call there is no rate: 0 would say that nobody answers.
            yield _gauge("answer_ratio", "Answered of those ended within 1 h.", answered / ended_lately)
        yield _gauge("tasks_due", "Tasks of running batch calls that wait to be dialled now.", found.due)
        yield _gauge("queue_lag_seconds", "How long the longest of them has waited.", found.lag_s)
        yield _by("status", OPEN, found.batch_calls, GaugeMetricFamily, "batch_calls", "Open batch calls, by status.")
        says = "Batch calls that the dialer paused by itself, by reason."
        yield _by("reason", REASONS, found.paused_because, GaugeMetricFamily, "batch_calls_paused", says)
        says = "Tasks of running batch calls that were put off, by reason."
        yield _by("reason", HELD_BY, found.held_back, GaugeMetricFamily, "tasks_held_back", says)
        says = "Numbers that the organisation does not call, by source."
        yield _by("source", SOURCES, found.do_not_call, GaugeMetricFamily, "do_not_call_numbers", says)
        yield _gauge("webhook_messages_due", "Webhook messages that wait to be sent.", found.webhook_messages_due)
        yield _gauge("workers", "Processes that dial from this database.", found.workers)
        failures = "How often an engine on this database failed and started again."
        yield CounterMetricFamily(_PREFIX + "engine_failures", failures, found.engine_failures)


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, says, value)


def _by(
    label: str,
    names: Sequence[str],
    counted: Mapping[str, int],
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    says: str,
) -> Metric:
    """One sample for each of `names`, 0 too: no alarm can rest on a series that comes and goes."""
    metric = family(_PREFIX + name, says, labels=[label])
    for value in (*names, *sorted(counted.keys() - set(names))):
        metric.add_metric([value], counted.get(value, 0))
    return metric
