"""The emergency stop: from now on nothing is launched or dialled, and what is live elsewhere is paused or cancelled.

It starts from what was launched, by any caller at any backend, and not from its own settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import anyio
import click
import sqlalchemy as sa

from batchcall_mcp.backends.base import read_with_tasks
from batchcall_mcp.backends.registry import EMBEDDED
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.emergency import Round, Stopped, stop_live
from batchcall_mcp.cli.stop_report import PeopleFile
from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer.storage import stops
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import BatchCallError, ConfigurationError
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import STOP_WAITS_S, Entry
from batchcall_mcp.model import BatchStatus
from batchcall_mcp.notifications.events import Notice
from batchcall_mcp.notifications.notifier import Notifier
from batchcall_mcp.server.service import Service
from batchcall_mcp.settings import Settings
from batchcall_mcp.text import shortened

_LONGEST_WORDS = 300
_LONGEST_ID = 200
_IDS_NAMED = 20
_NOT_DONE, _NO_KEY = 1, 3


def clear(settings: Settings, database_url: str | None) -> None:
    """Lift the stop, in every ledger and dialer, or nowhere.

    Raises:
        ConfigurationError: something could not be opened or changed.
    """
    with ExitStack() as opened:
        # All of them are opened before any is changed: the stop is not lifted by half.
        ledgers = [opened.enter_context(closing(Ledger.open(settings)))]
        others = map(Ledger.open_existing, _other_ledgers(settings, database_url))
        ledgers += [opened.enter_context(closing(ledger)) for ledger in others if ledger is not None]
        places = map(_opened_dialer, _places_of_dialers(settings, database_url))
        stores = [opened.enter_context(closing(store)) for store in places if store is not None]
        if stops.file_is_there(settings.stop_file):
            for store in stores:  # what is live would dial on where no dialer has seen the file
                _changed_at_the_dialer(stops.stop, store)
        try:  # the file first: a dialer that sees it would stop again
            settings.stop_file.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{settings.stop_file} could not be removed: {error.strerror}. Nothing was lifted. Remove it, then run "
                "this command again."
            ) from error
        for store in stores:
            _changed_at_the_dialer(stops.clear, store)
        for ledger in reversed(ledgers):
            ledger.stops.clear()
    Audit(settings.data_dir).note(Event(event="stop", caller="operator", tool="stop", outcome="cleared"))
    click.echo("The emergency stop is lifted: launches are possible again. What was paused or cancelled stays so.")


def _changed_at_the_dialer(change: Callable[[Store], object], store: Store) -> None:
    try:
        change(store)
    except sa.exc.SQLAlchemyError as error:
        raise ConfigurationError(
            f"The stop of the dialer could not be lifted ({_kind(error)}): nothing is launched or dialled. "
            "Run this command again."
        ) from error


def _other_ledgers(settings: Settings, database_url: str | None) -> list[Settings]:
    """Where servers may have recorded launches too: the database that is named, and the file in the folder."""
    own = _own_database(settings)
    others = [settings.with_database(database_url)] if database_url and database_url != own else []
    return others if own is None else [*others, settings.model_copy(update={"database_url": None})]


def _places_of_dialers(settings: Settings, database_url: str | None) -> list[Path | str]:
    """Where a dialer may be: in the data folder, in the settings' database, and in the one that is named."""
    urls = [url for url in (database_url, _own_database(settings)) if url is not None]
    return [settings.data_dir / "dialer.db", *dict.fromkeys(urls)]


def _own_database(settings: Settings) -> str | None:
    return settings.database_url.get_secret_value() if settings.database_url else None


def _opened_dialer(place: Path | str) -> Store | None:
    """The database of a dialer, if one has used it."""
    try:
        return Store.open_existing(place)
    except (sa.exc.SQLAlchemyError, OSError) as error:
        which = place if isinstance(place, Path) else "the PostgreSQL database"
        raise ConfigurationError(f"{which} cannot be opened or read ({_kind(error)}).") from error


def _kind(error: Exception) -> str:
    """Of a database's error the kind alone: its text may quote what a statement names."""
    return type(getattr(error, "orig", None) or error).__name__


class _Launch(NamedTuple):
    """What was launched, and the ledger that says so."""

    ledger: Ledger
    entry: Entry

    @property
    def batch_call_id(self) -> str:
        return self.entry.batch_call_id or ""


@dataclass(slots=True)
class Stop:
    """One run of the command, and what it did and saw. What fails is said and keeps nothing else from being stopped."""

    settings: Settings
    database_url: str | None
    stopped: list[Stopped] = field(default_factory=list)
    unknown: list[Entry] = field(default_factory=list)
    """Launches of which nobody knows whether they arrived."""
    unasked: list[Entry] = field(default_factory=list)
    """Launches at a backend for which there is no key here."""
    lost: list[Entry] = field(default_factory=list)
    """Launches on a dialer whose database is not here any more."""
    no_key: bool = False
    failed: bool = False
    knows_nothing: bool = True

    def run(self, file_problem: str | None) -> None:
        """Stop, say what was done, and end the process with the code that says it.

        Args:
            file_problem: why the file `STOP` is not there; None: it is.
        """
        if file_problem is not None:
            self._fail(file_problem)
        with ExitStack() as opened:
            notifier = Notifier.of(self.settings)
            if notifier is not None:
                opened.callback(notifier.close)
            ledgers, recorded = self._stop_ledgers(opened)
            on = recorded or file_problem is None
            dialers = self._stop_dialers(opened)
            if on and self._is_lifted(ledgers, dialers):
                self._fail("The stop was lifted by another command (`stop --clear`) meanwhile. Run this one again.")
                on = False
            outcome = "stopped" if on else "not_stopped"
            Audit(self.settings.data_dir).note(Event(event="stop", caller="operator", tool="stop", outcome=outcome))
            if notifier is not None:
                notifier.tell(Notice(event="stopped", tool="stop", reason=outcome))
            if on:
                click.echo("Stopped: nothing is launched from now on. Live batch calls:")
            else:
                click.echo("NOT STOPPED: launches are still possible. End the servers themselves. Live batch calls:")
            self._say(self.stopped)
            people = PeopleFile(self.settings.data_dir)
            self._stop_elsewhere(self._launched(ledgers, dialers), people)
            self._report(dialers, people)
        click.echo(
            "Calls in progress end by themselves." + (" `batchcall-mcp stop --clear` lifts the stop." if on else "")
        )
        if self.failed or self.unknown or self.lost or any(one.done == "not stopped" for one in self.stopped):
            raise SystemExit(_NOT_DONE)
        if self.no_key:
            raise SystemExit(_NO_KEY)

    def _fail(self, text: str) -> None:
        click.echo(shortened(text, 2 * _LONGEST_WORDS), err=True)
        self.failed = True

    def _stop_ledgers(self, opened: ExitStack) -> tuple[list[Ledger], bool]:
        """The settings' own, made if it is not there, and others that servers have used; whether any records it."""
        ledgers: list[Ledger] = []
        recorded = False
        for settings in (self.settings, *_other_ledgers(self.settings, self.database_url)):
            try:
                ledger = Ledger.open(settings) if settings is self.settings else Ledger.open_existing(settings)
                if ledger is not None:
                    ledgers.append(opened.enter_context(closing(ledger)))
                    ledger.stops.stop(wait_s=STOP_WAITS_S)
                    recorded = True
            except (ConfigurationError, OSError) as error:
                self._fail(f"Other machines on the ledger do not know of the stop: {error}")
        return ledgers, recorded

    def _stop_dialers(self, opened: ExitStack) -> list[Store]:
        """From here on no dialer dials, of any organisation, in whatever process it runs."""
        stores: list[Store] = []
        for place in _places_of_dialers(self.settings, self.database_url):
            try:
                store = _opened_dialer(place)
                if store is None:
                    if place == self.database_url:
                        self._fail("No dialer has used the database of --database-url. Check the URL.")
                    continue
                opened.callback(store.close)
                stops.stop(store)
                paused = stops.paused_by_it(store)
            except ConfigurationError as error:
                self._fail(f"The dialer's database could not be opened, and it may dial on: {error}")
                continue
            except sa.exc.SQLAlchemyError as error:
                why = f"The dialer could not be stopped ({_kind(error)}), and may dial on."
                self._fail(f"{why} Try again, or end its process.")
                continue
            stores.append(store)
            for one in paused:
                was = BatchStatus.RUNNING if one.started else BatchStatus.SCHEDULED
                self.stopped.append(Stopped(batch_call_id=one.batch_call_id, was=was, done="paused", words=""))
        return stores

    @staticmethod
    def _is_lifted(ledgers: Sequence[Ledger], dialers: Sequence[Store]) -> bool:
        """Whether some of it is on no more; one that cannot be asked was not lifted, as far as anybody knows."""
        with suppress(ConfigurationError, sa.exc.SQLAlchemyError):
            return any(ledger.stops.since() is None for ledger in ledgers) or not all(map(stops.is_on, dialers))
        return False

    def _launched(self, ledgers: Sequence[Ledger], dialers: Sequence[Store]) -> list[_Launch]:
        """What was launched from here and is not known to be over; without what is on dialers of ours."""
        elsewhere: list[_Launch] = []
        for ledger in ledgers:
            try:
                self.knows_nothing = self.knows_nothing and ledger.history.is_empty()
                self.unknown += [entry for entry in ledger.history.unsettled() if entry.dials]
                launched = ledger.history.launched()
            except ConfigurationError as error:
                self._fail(f"What was launched from here could not be read: {error}")
                continue
            ours = [entry for entry in launched if entry.backend.startswith(f"{EMBEDDED} ")]
            ids = [entry.batch_call_id or "" for entry in ours]
            held = {one for store in dialers for one in stops.known(store, ids)}
            self.lost += [entry for entry in ours if entry.batch_call_id not in held]
            elsewhere += [_Launch(ledger, entry) for entry in launched if entry not in ours]
        return elsewhere

    def _stop_elsewhere(self, launched: Sequence[_Launch], people: PeopleFile) -> None:
        """Everything that is not on a dialer of ours: with the key that is set, as far as it reaches."""
        self.unasked = [one.entry for one in launched]
        try:
            service = Service(self.settings, local=True, dials=False)
        except ConfigurationError as error:
            self._fail(f"Not every live batch call could be stopped: {error}")
            return
        if not service.embedded:
            anyio.run(self._with_the_key, service, launched, people)

    async def _with_the_key(self, service: Service, launched: Sequence[_Launch], people: PeopleFile) -> None:
        async with service.opened():
            try:
                context = await service.operator_context("stop")
            except ConfigurationError as error:
                self.no_key = True
                click.echo(f"No key: {shortened(str(error), _LONGEST_WORDS)}", err=True)
                return
            mine = [
                one
                for one in launched
                if one.entry.backend == context.backend_address
                and one.entry.caller == one.ledger.hashed(context.caller)
            ]
            self.unasked = [one.entry for one in launched if one not in mine]
            found, began = Round(), context.clock()
            try:
                await stop_live(context, [one.batch_call_id for one in mine], found)
            except BatchCallError as error:
                self._fail(f"Not every live batch call could be stopped: {error}")
            self.stopped += found.stopped
            self._say(found.stopped)
            for one in mine:
                if one.entry.batch_call_id in found.over:
                    note = (context.backend_address, one.entry.caller, [one.batch_call_id], began)
                    with suppress(ConfigurationError):  # the ledger is busy; the next command asks again
                        await anyio.to_thread.run_sync(one.ledger.history.note_over, *note)
            await self._list_people(context, found, people)

    async def _list_people(self, context: CallContext, found: Round, people: PeopleFile) -> None:
        """After everything is stopped: reading long lists takes time."""
        for one in found.stopped:
            try:
                listed = 0
                batch_call, read = await read_with_tasks(context.backend, one.batch_call_id)
                async for task in context.every_task(batch_call, read=read):
                    people.add(one.batch_call_id, task)
                    listed += 1
                if hidden := context.unlisted(batch_call, listed):
                    click.echo(f"{one.batch_call_id}: {hidden}")
            except (BatchCallError, OSError) as error:
                self._fail(f"The people of {one.batch_call_id} could not be listed: {error}")

    def _report(self, dialers: Sequence[Store], people: PeopleFile) -> None:
        for entry in self.unknown:
            named = shortened(entry.batch_call_id or entry.evidence.name or "", _LONGEST_ID)
            what = f"{entry.tool} {named} (ledger entry {entry.write_id})"
            click.echo(f"not known: {what} got no answer and may still take effect. Check the backend's own page.")
        for entry in self.lost:
            click.echo(
                f"not known: {_id(entry)} was launched on the dialer, but no dialer database here contains it. If a "
                "process still uses the database that was here before, end that process."
            )
        for line in _by_account(self.unasked):
            click.echo(line)
        self.no_key = self.no_key or bool(self.unasked)
        talking = self._list_people_of_dialers(dialers, people)
        if talking:
            click.echo(f"in a call: {talking} people, now. Calls in progress are not cut off.")
        if not (self.stopped or self.unknown or self.lost or self.unasked or people.path or talking):
            self._say_that_nothing_is_live()
        if people.path is not None:
            click.echo(f"{people.counted()} {people.path} lists the people of each.")

    def _say_that_nothing_is_live(self) -> None:
        """Only of what was looked at."""
        if self.knows_nothing:
            self._fail(
                f"Nothing is known: no ledger here contains a write of any server ({self.settings.data_dir}). If "
                "servers use a different folder or database, name it with BATCHCALL_DATA_DIR or "
                "BATCHCALL_DATABASE_URL and run this again."
            )
        elif self.failed or self.no_key:
            click.echo("Nothing live was found, but not everything could be checked.")
        else:
            click.echo("Nothing is live.")

    def _list_people_of_dialers(self, dialers: Sequence[Store], people: PeopleFile) -> int:
        """Gives how many people are in a call, of whatever batch call."""
        talking = 0
        try:
            for store in dialers:
                talking += stops.in_progress(store)
                for one in stops.paused_by_it(store):
                    for task in stops.people(store, one.batch_call_id):
                        people.add(one.batch_call_id, task)
            people.finish()
        except (OSError, sa.exc.SQLAlchemyError) as error:
            self._fail(f"The people could not be listed: {getattr(error, 'strerror', None) or type(error).__name__}")
        return talking

    @staticmethod
    def _say(stopped: Sequence[Stopped]) -> None:
        """As soon as it is done: what follows may take long."""
        for one in stopped:
            words = shortened(one.words, _LONGEST_WORDS) if one.done == "not stopped" else ""
            click.echo(f"{one.done}: {shortened(one.batch_call_id, _LONGEST_ID)} (was {one.was}). {words}".rstrip())


def _by_account(entries: Sequence[Entry]) -> Iterator[str]:
    """What is live, or may be, where this command has no key: each backend, address and caller once."""
    accounts: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        accounts.setdefault((entry.backend, entry.caller), []).append(entry)
    for (backend, caller), launched in accounts.items():
        name, _, url = backend.partition(" ")
        ids = ", ".join(map(_id, launched[-_IDS_NAMED:]))
        more = f", and {len(launched) - _IDS_NAMED} older ones" if len(launched) > _IDS_NAMED else ""
        calls = sum(entry.calls or 0 for entry in launched)
        first = from_ms(min(entry.at for entry in launched))
        yield (
            f"no key: {len(launched)} batch calls with {calls} calls, launched at {backend} by caller {caller[:12]} "
            f"since {first:%Y-%m-%d %H:%M UTC}, may be live: {ids}{more}. To stop them, run this command again with "
            f"BATCHCALL_BACKEND={name} BATCHCALL_URL={url} and that caller's BATCHCALL_API_KEY and "
            "BATCHCALL_API_SECRET, or stop them on the backend's own page."
        )


def _id(entry: Entry) -> str:
    return shortened(entry.batch_call_id or "", _LONGEST_ID)
