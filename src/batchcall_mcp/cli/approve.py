"""`batchcall-mcp approve`: a person's answer in a terminal, where the MCP client cannot show a question."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from batchcall_mcp.guard.approval import LONGEST_READ, meaning_of
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.server.startup import load_settings_of_init
from batchcall_mcp.text import printable, shortened

if TYPE_CHECKING:
    from batchcall_mcp.guard.approval import Approval
    from batchcall_mcp.guard.ledger.codes import Approvals

_SHORT: Final = 100
_CALLER_LENGTH: Final = 6


@click.command()
@click.argument("question", required=False)
def approve(question: str | None) -> None:
    """List the open questions, and answer one of them.

    QUESTION is an id from the list. Run this with the data directory or database of the server that asks
    (BATCHCALL_DATA_DIR, BATCHCALL_DATABASE_URL), and at a terminal, so no program answers for a person by accident.
    To approve, type the number of people who would be called. This command sends nothing: the tool call that asked
    acts on the answer when it is repeated.
    """
    settings = load_settings_of_init()
    if not sys.stdin.isatty():
        raise click.ClickException(
            "approve needs a person at a terminal, and this is not a terminal. Nothing was approved; nothing was sent."
        )
    from batchcall_mcp.guard.ledger.ledger import Ledger

    with closing(Ledger.open(settings)) as ledger:
        approvals = ledger.codes.approvals
        chosen = _chosen(approvals.waiting(), question)
        if chosen is not None:
            _answer(approvals, chosen, Audit(settings.data_dir))


def _chosen(waiting: Sequence[Approval], short_id: str | None) -> Approval | None:
    if not waiting and short_id is None:
        click.echo(
            "No question waits for an answer. A question waits for ten minutes; the same tool call asks it again. If "
            "the server has BATCHCALL_DATA_DIR or BATCHCALL_DATABASE_URL set, set the same here."
        )
        return None
    by_id = {one.short_id: one for one in waiting}
    if short_id is None and len(waiting) > 1:
        click.echo(f"{len(waiting)} questions wait:")
        for one in waiting:
            click.echo(_listed(one))
        short_id = click.prompt("Which one (its id)?", default="", show_default=False)
    if short_id is None:
        return waiting[0]
    found = by_id.get(short_id.strip().upper())
    if found is None:
        raise click.ClickException(
            "This question is not open: it was answered, replaced by a later one, or is older than ten minutes. "
            "Nothing was approved; nothing was sent. `batchcall-mcp approve` lists what waits."
        )
    return found


def _listed(one: Approval) -> str:
    minutes = int((datetime.now(UTC) - one.asked_at).total_seconds() // 60)
    age = "just now" if minutes < 1 else f"{minutes} min ago"
    asked = shortened(one.shown.question, _SHORT)
    return f"  {one.short_id}  {age}  {one.tool}, caller {one.caller[:_CALLER_LENGTH]}: {asked}"


def _answer(approvals: Approvals, chosen: Approval, audit: Audit) -> None:
    shown = chosen.shown
    click.echo(f"{chosen.short_id} ({chosen.tool}), open until {chosen.expires_at:%H:%M:%S UTC}:")
    if not shown.is_readable:
        _decline_unread(approvals, chosen, audit)
        return
    click.echo(printable(shown.question))
    for title, lines in (("Some of the people", shown.samples), ("Skipped rows", shown.skipped)):
        if lines:
            click.echo(f"{title}: " + "; ".join(map(printable, lines)))
    for line in shown.concerns:
        click.echo(f"- {printable(line)}")
    wanted = "the number of people who would be called" if shown.word.isdecimal() else f"the word {shown.word}"
    typed = click.prompt(
        f"To approve exactly this, once, type {wanted}. To decline: no", default="", show_default=False
    )
    meant = meaning_of(typed, shown.word)
    if meant == "neither":
        click.echo(
            "This input neither approves nor declines. Nothing was approved or declined; the question still waits."
        )
        raise SystemExit(1)
    _write_down(approvals, chosen, audit, yes=meant == "approve")


def _decline_unread(approvals: Approvals, chosen: Approval, audit: Audit) -> None:
    click.echo(
        f"It has more than {LONGEST_READ:,} characters, and nobody can approve a part of it. Have the assistant ask "
        "about fewer people or rows at a time."
    )
    if meaning_of(click.prompt("To decline: no", default="", show_default=False), "") == "decline":
        _write_down(approvals, chosen, audit, yes=False)
    click.echo("Nothing was approved or declined; the question still waits.")
    raise SystemExit(1)


def _write_down(approvals: Approvals, chosen: Approval, audit: Audit, *, yes: bool) -> None:
    counted = approvals.approve(chosen.approval_id) if yes else approvals.decline(chosen.approval_id)
    outcome = ("approved" if yes else "declined") if counted else "too_late"
    audit.note(Event(event="approved", caller=chosen.caller, tool=chosen.tool, outcome=outcome))
    if not counted:
        click.echo("This question was answered, was replaced or has expired. Nothing was approved or declined.")
        raise SystemExit(1)
    if not yes:
        click.echo("Declined. Nothing was sent.")
        raise SystemExit(1)
    click.echo(f"Approved. The same tool call launches now, if it is repeated before {chosen.expires_at:%H:%M:%S UTC}.")
