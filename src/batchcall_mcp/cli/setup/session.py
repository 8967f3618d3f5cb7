"""What `batchcall-mcp init` does: ask for the backend, check it, show what would change in which file, and write that.

Nothing is written before the yes, and nothing at all if one of the files is not as it should be.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import click

from batchcall_mcp.cli.account.doctor import examine
from batchcall_mcp.cli.setup import entry as entries
from batchcall_mcp.cli.setup import env_file, files
from batchcall_mcp.cli.setup.answers import OF_AN_ACCOUNT, Answers, Flags, collect
from batchcall_mcp.cli.setup.clients import BY_NAME, CLIENTS, Client, Machine, server_command
from batchcall_mcp.cli.setup.entry import Entry
from batchcall_mcp.cli.setup.problems import FileProblem
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.recipients.files.sample import NAME, make_first_folder
from batchcall_mcp.server import log
from batchcall_mcp.settings import Settings, own_environment, settings_file
from batchcall_mcp.text import printable


@dataclass(frozen=True, slots=True)
class Change:
    """One file, before and after; `before` and `after` as they may be shown."""

    title: str
    original: files.Original
    text: str
    before: str
    after: str
    private: bool = False
    stays: tuple[str, ...] = ()
    """Variables of ours that an earlier entry has and that are stronger than the file of settings."""

    @property
    def changes_something(self) -> bool:
        return self.text != self.original.text or (self.private and self.original.mode not in {None, files.PRIVATE})


def run(flags: Flags, names: Sequence[str], *, remove: bool, dry_run: bool, yes: bool) -> None:
    """Everything from the first question to the last file.

    Raises:
        ConfigurationError: the settings do not work.
        click.ClickException: a file cannot be changed; nothing was written.
        SystemExit: the account, or the person, does not agree.
    """
    asks = sys.stdin.isatty() and not yes
    machine = Machine.this()
    clients = _clients(machine, names)
    if remove:
        changes, folders = _planned(machine, clients, None), []
    else:
        answers = _answers(flags, choices=asks)
        settings = Settings.of(answers.values)
        _check_start(settings)
        _check(settings, asks=asks)
        changes = _planned(machine, clients, answers)
        folders = [folder for folder in settings.files[:1] if not folder.exists()]
    changes = [change for change in changes if change.changes_something]
    _show(changes, folders)
    if not changes and not folders:
        click.echo("Nothing to change.")
        return
    if dry_run:
        click.echo("\nDry run: nothing was written.")
        return
    if not yes and not click.confirm("\nWrite this?", default=False):
        click.echo("Nothing was written.")
        raise SystemExit(1)
    _write(changes)
    if folders:
        make_first_folder(folders)  # it says what keeps it from that
        if folders[0].is_dir():
            click.echo(f"Made {folders[0]}")
    _say_what_is_next(clients, changes, None if remove else answers)


def _clients(machine: Machine, names: Sequence[str]) -> list[Client]:
    if names:
        return [BY_NAME[name] for name in dict.fromkeys(names)]
    found = [client for client in CLIENTS if client.is_found(machine)]
    if not found:
        places = "\n".join(f"  {client.name:<15} {client.path(machine)}" for client in CLIENTS)
        raise click.ClickException(
            f"No MCP client was found here. Nothing was written. --client names one all the same:\n{places}\n"
            "Without a client, `batchcall-mcp demo` shows what an agent does, and `batchcall-mcp call` takes its place."
        )
    click.echo(f"Found: {', '.join(client.title for client in found)}.")
    return found


def _answers(flags: Flags, *, choices: bool) -> Answers:
    place = settings_file()
    try:
        kept = env_file.values_in(files.read(place).text)
    except FileProblem as problem:
        raise click.ClickException(f"Settings, {place}: {problem} Nothing was written.") from None
    return collect(flags, kept, own_environment(), choices=choices)


def _check_start(settings: Settings) -> None:
    """What a server with these settings refuses at its start. It is made, and not started.

    Raises:
        ConfigurationError: they contradict each other.
    """
    from batchcall_mcp.server.app import build_server

    quiet = settings.model_copy(update={"log_level": "WARNING"})
    log.configure(quiet)
    build_server(quiet, transport="stdio")


def _check(settings: Settings, *, asks: bool) -> None:
    """What `doctor` finds with these settings; a person may go on in spite of it.

    Raises:
        SystemExit: something is wrong, and nobody wants to go on.
    """

    async def look() -> bool:
        fine = True
        async for finding in examine(settings):
            click.echo(f"  {finding}")
            fine = fine and finding.word != "wrong"
        return fine

    click.echo("Checking, without calling anybody:")
    if anyio.run(look):
        return
    if not asks or not click.confirm("Something is wrong. Set it up all the same?", default=False):
        click.echo("Nothing was written.")
        raise SystemExit(1)


def _planned(machine: Machine, clients: Sequence[Client], answers: Answers | None) -> list[Change]:
    """The change of each file. If one cannot be changed, all that is wrong is said, and nothing is written."""
    entry = None if answers is None else _entry(answers)
    planned: list[_SettingsChange | _ClientChange] = [_ClientChange(client, machine, entry) for client in clients]
    if answers is not None:
        asked_there = all(client.asks_for_secrets for client in clients)
        planned.insert(0, _SettingsChange(answers, without_secrets=asked_there))
    changes, problems = [], []
    for make in planned:
        try:
            changes.append(make())
        except FileProblem as problem:
            problems.append(f"{make.title}, {make.path}: {problem}")
    if problems:
        others = "" if len(clients) == 1 else " Or name the other clients with --client."
        lines = "\n".join(problems)
        raise click.ClickException(f"\n{lines}\nNothing was written. Correct this, and run init again.{others}")
    return changes


def _entry(answers: Answers) -> Entry:
    command, args = server_command()
    place = str(settings_file())
    if "$" in command + place:
        raise ConfigurationError(
            f"The path {command if '$' in command else place} holds a $, which MCP clients would replace. Nothing was "
            "written. Install batchcall-mcp elsewhere, or set BATCHCALL_ENV_FILE to another file."
        )
    return Entry(command, args, place, OF_AN_ACCOUNT, dict(answers.secrets))


@dataclass(frozen=True, slots=True)
class _ClientChange:
    client: Client
    machine: Machine
    entry: Entry | None

    @property
    def title(self) -> str:
        return self.client.title

    @property
    def path(self) -> Path:
        return self.client.path(self.machine)

    def __call__(self) -> Change:
        original = files.read(self.path)
        text = entries.changed(self.client, original.text, self.entry)
        before, after = (entries.masked(self.client, one, self.entry) for one in (original.text, text))
        stays = () if self.entry is None else entries.other_variables(self.client, text, self.entry)
        return Change(self.title, original, text, before, after, stays=stays)


@dataclass(frozen=True, slots=True)
class _SettingsChange:
    answers: Answers
    without_secrets: bool

    @property
    def title(self) -> str:
        return "Settings"

    @property
    def path(self) -> Path:
        return settings_file()

    def __call__(self) -> Change:
        original = files.read(self.path)
        kept = env_file.values_in(original.text)
        values = dict(self.answers.values)
        for name in self.answers.secrets if self.without_secrets else ():
            if kept.get(name) != values[name]:
                del values[name]
        text = env_file.changed(original.text, values, [name for name in kept if name not in values])
        before, after = env_file.masked(original.text), env_file.masked(text, kept)
        return Change(self.title, original, text, before, after, private=True)


def _show(changes: Sequence[Change], folders: Sequence[Path]) -> None:
    for change in changes:
        click.echo(f"\n{change.title}:")
        lines = list(files.difference(change.original.path, change.before, change.after))
        for line in lines or [f"{change.original.path}: for you alone from now on (mode 600)"]:
            click.echo(printable(line.expandtabs(4)))
        if change.stays:
            click.echo(
                f"Its entry keeps {', '.join(change.stays)}, which is stronger than the settings above, and which "
                "`batchcall-mcp stop` does not see."
            )
    for folder in folders:
        click.echo(f"\nA folder for lists of people: {folder}, with {NAME}, whose numbers are fictional.")


def _write(changes: Sequence[Change]) -> None:
    written: list[str] = []
    for change in changes:
        try:
            kept = files.replace(change.original, change.text, private=change.private)
        except FileProblem as problem:
            done = f"Written before: {', '.join(written)}." if written else "Nothing was written."
            raise click.ClickException(f"{change.title}, {change.original.path}: {problem} {done}") from None
        written.append(str(change.original.path))
        click.echo(f"Wrote {change.original.path}{f' (as it was: {kept})' if kept is not None else ''}")


def _say_what_is_next(clients: Sequence[Client], changes: Sequence[Change], answers: Answers | None) -> None:
    changed = {change.title for change in changes}
    for client in clients:
        if client.title in changed:
            click.echo(f"{client.title}: {client.then}")
    if answers is None:
        if settings_file().is_file():
            click.echo(
                f"{settings_file()} stays: `batchcall-mcp stop` needs the key while calls may be live. Delete it when "
                "you do not need it any more."
            )
        return
    for client in clients:
        if client.asks_for_secrets and answers.secrets:
            asked = ", ".join(answers.secrets.values())
            click.echo(f"{client.title} asks for this at its first start, and keeps it safely: {asked}.")
    if answers.secrets and all(client.asks_for_secrets for client in clients):
        # Where one of our variables is set, the file is read only if it is named: the key alone would lose the backend.
        click.echo(
            f"In a terminal, `batchcall-mcp stop` and `approve` need it too. Set there {', '.join(answers.secrets)}, "
            f"and BATCHCALL_ENV_FILE={settings_file()}, which has the other settings."
        )
    click.echo(f"Then say to your agent: call the people in {NAME} tomorrow at 9. Before phones ring, you are asked.")
