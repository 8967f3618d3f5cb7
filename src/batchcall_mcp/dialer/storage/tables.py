"""The dialer's tables. Moments are integers: milliseconds since 1970, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

metadata = sa.MetaData()
"""As the newest migration leaves them (`tests/dialer/test_migrations.py` compares)."""


def _partial(name: str, *columns: str, where: str) -> sa.Index:
    """The migrations make it, on PostgreSQL with the same condition: naming that here would import its dialect."""
    return sa.Index(name, *columns, sqlite_where=sa.text(where))


batch_calls = sa.Table(
    "batch_calls",
    metadata,
    sa.Column("batch_call_id", sa.String, primary_key=True),
    sa.Column("organization_id", sa.String, nullable=False),
    sa.Column("name", sa.String),
    sa.Column("from_number", sa.String, nullable=False),
    sa.Column("agent_id", sa.String),
    sa.Column("timezone", sa.String),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("total_task_count", sa.Integer, nullable=False),
    sa.Column("max_concurrency", sa.Integer, nullable=False),
    sa.Column("calls_per_second", sa.Float),
    sa.Column("window", sa.JSON, nullable=False),
    sa.Column("retry_config", sa.JSON(none_as_null=True)),
    sa.Column("retry_rules", sa.JSON(none_as_null=True)),
    sa.Column("retry_of", sa.String),
    # When the first of its people may be called, where it is scheduled for a date.
    sa.Column("scheduled_at", sa.BigInteger),
    # The date, as text, on each called person's clock; `expires_date` is the last one.
    sa.Column("trigger_date", sa.String),
    # When it is over for everybody, where it ends with a date.
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("expires_date", sa.String),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("completed_at", sa.BigInteger),
    sa.Column("last_sent_at", sa.BigInteger),
    # One more with each change of its status, list or settings, and not with a dial: see `REVISED`.
    sa.Column("revision", sa.Integer, nullable=False, server_default="0"),
    # Why it has its status, where nobody asked for it (records.ReasonCode), and the same in words.
    sa.Column("status_reason", sa.String),
    sa.Column("status_reason_text", sa.String),
    # When somebody last asked that it dials, now or at its time: what happened before that is approved.
    sa.Column("launched_at", sa.BigInteger),
    # Whether it is paused when most of its last attempts failed.
    sa.Column("pause_on_failures", sa.Boolean, nullable=False, server_default=sa.true()),
    # After so many people were dialled it pauses by itself (`first_people`); null: it calls everybody.
    sa.Column("first", sa.Integer),
    # The batch call that this one, of one task, lets somebody hear before it starts.
    sa.Column("test_of", sa.String),
    # Who dials it, from its creation on: a rehearsal never rings, and no simulation "calls" a real list.
    sa.Column("carrier", sa.String, nullable=False, server_default="simulated"),
    # When its people were erased because it had been over for long enough (`dialer.erasure`).
    sa.Column("erased_at", sa.BigInteger),
    sa.Index("batch_calls_of_organization", "organization_id", "created_at"),
    sa.Index("batch_calls_by_status", "status"),
)

REVISED: Final[Mapping[str, Any]] = {"revision": batch_calls.c.revision + 1}
"""Part of every update that changes what people decide by: status, list or settings. `test_etags` holds that."""

_GREATEST: Final = 2**63 - 1


def is_no_number(value: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether SQLite keeps text where a number belongs, which it sorts after all numbers. PostgreSQL never does."""
    return value > sa.literal(_GREATEST, sa.BigInteger)


UNEXPLAINED: Final[Mapping[str, Any]] = {"status_reason": None, "status_reason_text": None}
"""Part of every update of a status for which somebody asked."""

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("task_id", sa.String, primary_key=True),
    sa.Column(
        "batch_call_id", sa.String, sa.ForeignKey(batch_calls.c.batch_call_id, ondelete="CASCADE"), nullable=False
    ),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("to_number", sa.String, nullable=False),
    sa.Column("name", sa.String),
    sa.Column("dynamic_variables", sa.String),
    sa.Column("max_retries", sa.Integer),
    sa.Column("timezone", sa.String),
    # A call-back that was promised: this person is not dialled earlier.
    sa.Column("not_before", sa.BigInteger),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("answered", sa.Boolean, nullable=False),
    sa.Column("last_outcome", sa.String),
    sa.Column("due_at", sa.BigInteger),
    # Why `due_at` is later than the moment at which it could be dialled (records.HeldBy); null where nothing holds it.
    sa.Column("held_by", sa.String),
    sa.Column("call_id", sa.String),
    sa.Column("error_message", sa.String),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("attempted_at", sa.BigInteger),
    sa.Column("completed_at", sa.BigInteger),
    # What came of its last call, as the carrier says; null where it does not.
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("answered_by", sa.String),
    sa.Column("choice", sa.String),
    # The carrier's own word, and what it says of the call; the cost as `money.Money` writes it.
    sa.Column("backend_status", sa.String),
    sa.Column("cost", sa.String),
    sa.Column("summary", sa.String),
    sa.UniqueConstraint("batch_call_id", "position"),
    # Everything that is asked again and again is answered from this one without touching the rows.
    sa.Index("tasks_by_status", "batch_call_id", "status", "due_at", "position", "attempts", "answered"),
    _partial("tasks_held", "batch_call_id", "held_by", "due_at", where="held_by IS NOT NULL"),
)

NOT_DUE: Final[Mapping[str, Any]] = {"due_at": None, "held_by": None}
"""Part of every update of a task that does not wait any more."""

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("task_id", sa.String, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    # No foreign keys: deleting a batch call must not let its people be called beyond the daily cap.
    sa.Column("batch_call_id", sa.String, nullable=False),
    sa.Column("organization_id", sa.String, nullable=False),
    sa.Column("to_number", sa.String, nullable=False),
    # Who dials it: when that process dies, its open attempts are `interrupted`. Null: begun by the first version.
    sa.Column("worker_id", sa.String),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    # From when on a request for the call may have left, of carriers over a wire; null: none has.
    sa.Column("asked_at", sa.BigInteger),
    # When the carrier had been asked; kept where calls per second are limited, and of real carriers.
    sa.Column("placed_at", sa.BigInteger),
    sa.Column("carrier", sa.String, nullable=False, server_default="simulated"),
    # The call's id at the carrier, by which its outcome is read.
    sa.Column("carrier_call_id", sa.String),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("outcome", sa.String),
    sa.Column("error_message", sa.String),
    sa.Index("attempts_of_number", "organization_id", "to_number", "started_at"),
    sa.Index("attempts_of_day", "organization_id", "started_at"),
    sa.Index("attempts_of_batch_call", "batch_call_id", "placed_at"),
    # For /metrics, which counts outcomes again and again without touching the rows.
    sa.Index("attempts_by_outcome", "organization_id", "outcome", "ended_at"),
    # The last ones of a batch call, for the circuit breaker.
    _partial("attempts_ended", "batch_call_id", "ended_at", where="outcome IS NOT NULL"),
    # Calls in progress, and those that a dead process left.
    _partial("attempts_open", "worker_id", where="outcome IS NULL"),
    # What a carrier reports of a call by itself.
    _partial("attempts_at_carrier", "carrier_call_id", where="carrier_call_id IS NOT NULL"),
)

do_not_call = sa.Table(
    "do_not_call",
    metadata,
    sa.Column("entry_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("to_number", sa.String, nullable=False),
    # Whose callers may not call it; null: nobody's, it is from the operator's files, or was forgotten.
    sa.Column("organization_id", sa.String),
    # `api`, `carrier`, `forgotten`, or `file:` and the path of a file.
    sa.Column("source", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("added_at", sa.BigInteger, nullable=False),
    # Of the operator's rows nothing is unique here: they are replaced as a whole.
    sa.UniqueConstraint("to_number", "organization_id", "source"),
    sa.Index("do_not_call_of_organization", "organization_id", "entry_id"),
)

recorded_answers = sa.Table(
    "recorded_answers",
    metadata,
    sa.Column("organization_id", sa.String, primary_key=True),
    sa.Column("idempotency_key", sa.String, primary_key=True),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Column("answer", sa.JSON, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_hash", sa.String, primary_key=True),
    sa.Column("secret_hash", sa.String, nullable=False),
    sa.Column("organization_id", sa.String, nullable=False),
    # The key's first characters, by which it is named in `dialer keys list`; null in keys of the first version.
    sa.Column("hint", sa.String),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    # The row stays: a pair that is set in the environment must not come back as the first one of an empty table.
    sa.Column("revoked_at", sa.BigInteger),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("worker_id", sa.String, primary_key=True),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("capacity", sa.Integer, nullable=False),
    # Counted up while it lives. A worker that sees no change over several beats of its own takes its work over: no
    # clock is compared with another machine's.
    sa.Column("beats", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("webhook_id", sa.String, primary_key=True),
    sa.Column("organization_id", sa.String, nullable=False, index=True),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("secret", sa.String, nullable=False),
    # Null: every event.
    sa.Column("events", sa.JSON(none_as_null=True)),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

webhook_outbox = sa.Table(
    "webhook_outbox",
    metadata,
    sa.Column("message_id", sa.String, primary_key=True),
    sa.Column("webhook_id", sa.String, sa.ForeignKey(webhooks.c.webhook_id, ondelete="CASCADE"), nullable=False),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("payload", sa.String, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    # When it is to be sent (again). Null: delivered, or given up.
    sa.Column("due_at", sa.BigInteger),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("delivered_at", sa.BigInteger),
    sa.Column("last_error", sa.String),
    # What a webhook is owed is found without passing what another one that does not answer is owed.
    _partial("webhook_outbox_due", "webhook_id", "due_at", where="due_at IS NOT NULL"),
    sa.Index("webhook_outbox_of_webhook", "webhook_id", "created_at"),
)

dialer_stops = sa.Table(
    "dialer_stops",
    metadata,
    sa.Column("stop_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("cleared_at", sa.BigInteger),
)
"""Emergency stops. While one is not cleared, nothing is dialled or launched, for no organisation."""

carriers = sa.Table(
    "carriers",
    metadata,
    sa.Column("carrier", sa.String, primary_key=True),
    # When an engine with it last said that it runs: once a minute. Null: never.
    sa.Column("engine_ran_at", sa.BigInteger),
    # The last time in which none ran for longer than is allowed.
    sa.Column("away_from", sa.BigInteger),
    sa.Column("away_until", sa.BigInteger),
    # No call of the account begins earlier: its pace, and how long the vendor asked to be left alone.
    sa.Column("next_call_at", sa.BigInteger),
)
"""Each carrier that dials, or dialled, from here. Whoever begins a call holds its row."""

installation = sa.Table(
    "installation",
    metadata,
    # There is one row.
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    # When an engine of any carrier last said that it runs; a back-up from before that is known by it.
    sa.Column("engine_ran_at", sa.BigInteger),
    # How often an engine failed and started again.
    sa.Column("engine_failures", sa.BigInteger, nullable=False, server_default="0"),
    # Whether each call is asked about at a gate before it is dialled. Null: no process with a gate has dialled from it.
    sa.Column("gated", sa.Boolean),
    # Where the SQLite file was when it was last opened, so that a copy of it notices that it is one.
    sa.Column("path", sa.String),
    sa.Column("inode", sa.String),
)
