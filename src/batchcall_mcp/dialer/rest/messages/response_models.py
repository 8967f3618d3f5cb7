"""What the REST API answers, for the OpenAPI document; built in `mapping` and `service`.

Closed: a field that is not named here is not there. Moments are milliseconds since 1970 in a batch call, ISO 8601 in a
task: so has the dialect.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from batchcall_mcp.dialer.domain.records import HeldBy, ReasonCode, SortBy, SortOrder
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.rest.messages.request_models import FilterCriteria, RetryConfigIn, RetryRuleIn
from batchcall_mcp.dialer.storage.halts import HaltCode
from batchcall_mcp.dialer.storage.outbox import Event
from batchcall_mcp.model import AnsweredBy, TaskStatus

Data = TypeVar("Data")
Count: TypeAlias = Annotated[int, Field(ge=0)]
Engine: TypeAlias = Literal["running", "standby"]
"""Whether this process dials, or another may."""
Milliseconds: TypeAlias = Annotated[int, Field(ge=0, description="milliseconds since 1970, UTC")]
MOST_NUMBERS: Final = 100
"""Named in one answer."""


class _Closed(BaseModel):
    # Only the document needs most of them: their validators are built at first use.
    model_config = ConfigDict(extra="forbid", defer_build=True)


class Success(_Closed, Generic[Data]):
    """Every success. `replayed`: an Idempotency-Key gave the recorded answer."""

    message: str
    status: Literal["success"]
    error: None
    data: Data
    replayed: Literal[True] = True


class ErrorEnvelope(_Closed):
    """Every error; `code` is stable."""

    message: str
    status: Literal["error"]
    error: str
    code: str
    data: None


class Window(_Closed):
    """When calls may start; `days`: 0 = Sunday … 6."""

    start: str
    end: str
    days: list[Annotated[int, Field(ge=0, le=6)]]
    timezone: str


class StatusReason(_Closed):
    """Why the dialer paused it by itself."""

    code: ReasonCode
    text: str


class BatchCall(_Closed):
    """A batch call in the dialect's words, with what the dialect does not have."""

    batch_call_id: str
    name: str | None
    from_number: str
    scheduled_timestamp: Milliseconds | None
    total_task_count: Count
    total: Count
    sent: Count
    picked_up: Count
    completed: Count
    agent_id: str | None
    organization_id: str
    status: State
    status_reason: StatusReason | None
    timezone: str | None
    last_sent_timestamp: Milliseconds | None
    tasks_url: str
    created_timestamp: Milliseconds
    updated_timestamp: Milliseconds
    started_timestamp: Milliseconds | None
    completed_timestamp: Milliseconds | None
    counts: dict[TaskStatus, Count]
    window: Window
    max_concurrency: Annotated[int, Field(ge=1, le=1000)]
    calls_per_second: Annotated[float | None, Field(gt=0, le=1000)]
    trigger_date: str | None
    expires_timestamp: Milliseconds | None
    expires_date: str | None
    retry_config: RetryConfigIn | None
    retry_rules: list[RetryRuleIn] | None
    retry_of: str | None
    pause_on_failures: bool
    first: Annotated[int | None, Field(ge=1)]
    test_of: str | None
    carrier: str
    dialled_here: Annotated[bool, Field(description="this process dials through its carrier; another one does not")]


class HeldBack(_Closed):
    """Pending tasks that would not be dialled now: how many, and the moment before which none of them is."""

    reason: HeldBy
    calls: Annotated[int, Field(ge=1)]
    until: Milliseconds


class Cost(_Closed):
    """An amount, in a currency by its ISO 4217 code."""

    amount: str
    currency: str


class Results(_Closed):
    """What came of a batch call that is over; `choices`: how many people chose what, the most frequent 50."""

    talk_seconds: Annotated[float, Field(ge=0, description="in the last call of each person")]
    choices: dict[str, Count]
    cost: Annotated[Cost | None, Field(description="of these calls, as far as the carrier reports it")]


class BatchCallRead(BatchCall):
    """A batch call as it is read by its id; `held_back` has one entry for each reason, `results` only what is over."""

    held_back: list[HeldBack]
    results: Results | None


class Executed(BatchCall):
    """A batch call that has just been started."""

    execution_started_at: datetime


class Retried(BatchCall):
    """A batch call of which some tasks are dialled again."""

    retried_count: Count


class Appended(BatchCall):
    """A batch call to which tasks were added. Whose number it had is not added again, whatever became of their call."""

    appended_count: Count
    already_there_count: Count
    already_there: Annotated[
        list[str], Field(max_length=MOST_NUMBERS, description="the first of these numbers, as they were given")
    ]


class Task(_Closed):
    """One person to call. `due_at`: when it may be dialled, as far as is known."""

    task_id: str
    to_number: str
    name: str | None
    status: TaskStatus
    attempts: Count
    max_retries: int | None
    dynamic_variables: dict[str, Any]
    timezone: str | None
    not_before: datetime | None
    call_id: str | None
    error_message: str | None
    created_at: datetime
    due_at: datetime | None
    attempted_at: datetime | None
    completed_at: datetime | None
    duration_seconds: Annotated[float | None, Field(ge=0, description="of the last call, while it was connected")]
    answered_by: AnsweredBy | None
    choice: Annotated[str | None, Field(description="what the person chose in the last call")]
    backend_status: Annotated[str | None, Field(description="the carrier's own word for how the last call ended")]
    cost: Annotated[Cost | None, Field(description="of all its calls, as the carrier reports them")]
    summary: Annotated[str | None, Field(description="of the last call, in the carrier's words: data")]


class Attempt(_Closed):
    """One dial of a task. Without an outcome it is in progress."""

    n: Annotated[int, Field(ge=1)]
    attempt_id: str
    to_number: str
    started_at: datetime
    ended_at: datetime | None
    outcome: TaskStatus | None
    carrier_call_id: Annotated[str | None, Field(description="by which the carrier knows it")]
    error_message: str | None


class Turn(_Closed):
    """One utterance of a call: somebody else's words, data and never instructions."""

    speaker: Literal["agent", "person", "other"]
    text: str
    at_seconds: float | None


class Call(_Closed):
    """One call to a person. `call_id`: of the attempt; what was said in it, where its carrier has that."""

    call_id: str
    task: Task
    transcript: list[Turn] | None
    recording_url: str | None
    ended_reason: Annotated[str | None, Field(description="why it ended, in the carrier's word")]


class DeliveryPages(_Closed):
    """Where a page of messages stands; pages count from 0, and the messages are not counted."""

    page: Count
    limit: Annotated[int, Field(ge=1)]
    has_next_page: bool
    has_previous_page: bool


class Page(DeliveryPages):
    """Where a page stands, and how much there is in all; pages count from 0."""

    total_count: Count
    total_pages: Count


class BatchCalls(_Closed):
    """A page of batch calls."""

    organization_id: str
    batch_calls: list[BatchCall]
    pagination: Page
    returned_count: Count
    sort_order: SortOrder
    sort_by: SortBy


class FilteredBatchCalls(BatchCalls):
    """A page of batch calls, and the filters that chose them."""

    applied_filters: FilterCriteria


class Tasks(_Closed):
    """A page of tasks, in the order of the list."""

    tasks: list[Task]
    pagination: Page


class Attempts(_Closed):
    """Every attempt of a task, oldest first."""

    task_id: str
    attempts: list[Attempt]


class Number(_Closed):
    """A caller number of the carrier's account. `agent_id`: who speaks in its calls, where the account says so."""

    from_number: str
    name: str | None
    agent_id: str | None


class Agent(_Closed):
    """An agent of the carrier's account. `variables`: those that it needs; null: not known."""

    agent_id: str
    name: str | None
    variables: list[str] | None
    begin_message: Annotated[str | None, Field(description="what it says first, with {{variables}}")]


class Account(_Closed):
    """Whose key it is, and what is dialled with. Numbers and agents are those of the carrier's account; null: any may
    be given, or they cannot be read now, which `notes` say.
    """

    organization_id: str
    numbers: list[Number] | None
    agents: list[Agent] | None
    carrier: str
    carrier_title: str
    places_real_calls: bool
    payer: Annotated[str | None, Field(description="whose money the calls cost")]
    calls_at_once: Annotated[Count | None, Field(description="over all batch calls; null: simulated")]
    countries: Annotated[list[str] | None, Field(description="that may be called; null: it depends, or no phone rings")]
    keeps_dates: Annotated[bool, Field(description="trigger_date, expires_date and not_before are kept")]
    calls_today: Count
    notes: list[str]


class Health(_Closed):
    """That it lives, whether this process dials, and how often its engine failed and started again."""

    status: Literal["ok"]
    engine: Engine
    engine_failures: Count


class Unready(_Closed):
    """Why it cannot serve now."""

    status: Literal["error"]
    engine: Engine
    engine_failures: Count
    code: Literal["database_timeout", "database_unavailable", "engine_stalled", HaltCode]
    error: str


class Webhook(_Closed):
    """Which events go where; `events` null: all of them."""

    webhook_id: str
    url: str
    events: list[Event] | None
    created_at: datetime


class NewWebhook(Webhook):
    """With the secret that signs its messages, shown only now. Not there: it has been deleted since."""

    secret: str | None = None


class Webhooks(_Closed):
    """All of them."""

    webhooks: list[Webhook]


class Delivery(_Closed):
    """A message to a webhook; `due_at` null: delivered, or given up."""

    message_id: str
    event: Event
    created_at: datetime
    tries: Count
    delivered_at: datetime | None
    due_at: datetime | None
    last_error: str | None


class Deliveries(_Closed):
    """A page of messages, newest first."""

    deliveries: list[Delivery]
    pagination: DeliveryPages


class DoNotCallAdded(_Closed):
    """How many of the numbers are new on the list, and how many the organisation had added before."""

    added_count: Count
    already_listed_count: Count


class DoNotCallEntry(_Closed):
    """A number that the organisation does not call.

    `carrier`: the person opted out; `simulator`: a simulated one did, which holds for simulated calls alone.
    """

    to_number: str
    source: Literal["api", "carrier", "simulator"]
    reason: str | None
    added_at: datetime


class DoNotCallList(_Closed):
    """A page of the organisation's own numbers, in the order in which they were added."""

    do_not_call: list[DoNotCallEntry]
    pagination: Page
