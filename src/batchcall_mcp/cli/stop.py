"""`batchcall-mcp stop`: from now on nothing is launched or dialled, and what is live elsewhere is paused or cancelled.

It starts from what was launched, by any caller at any backend, and not from its own settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from batchcall_mcp.cli.environment import load_settings
from batchcall_mcp.cli.keys import database_url as database_url_option
from batchcall_mcp.errors import BatchCallError, ConfigurationError
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.write_record import STOP_WAITS_S, Entry
from batchcall_mcp.settings import Settings
from batchcall_mcp.text import shortened

if TYPE_CHECKING:
    from batchcall_mcp.batch_calls.call_context import CallContext
    from batchcall_mcp.batch_calls.emergency import Round, Stopped
    from batchcall_mcp.cli.stop_report import PeopleFile
    from batchcall_mcp.dialer.storage.store import Store
    from batchcall_mcp.guard.ledger.ledger import Ledger
    from batchcall_mcp.server.service import Service

_LONGEST_WORDS = 300
_LONGEST_ID = 200
_IDS_NAMED = 20
_NOT_DONE, _NO_KEY = 1, 3


@click.command()
@click.option("--clear", is_flag=True, help="Lift the stop. What it paused stays paused.")
@database_url_option
def stop(*, clear: bool, database_url: str | None) -> None:
    """Emergency stop: refuse every launch at once, then pause or cancel what is live.

    Every server on the same ledger refuses launches from then on, until --clear. A dialer in the data folder, or in
    the PostgreSQL database, dials nobody, for no organisation. At other backends, what was launched from here is
    stopped with BATCHCALL_API_KEY and BATCHCALL_API_SECRET. Exit code 1: some of it could not be done; 3: a key is
    missing for what may be live.
    """
    settings = load_settings()
    if clear:
        _clear(settings, database_url)
    else:
        _Stop(settings, database_url).run()


def _clear(settings: Settings, database_url: str | None) -> None:
    import sqlalchemy as sa

    from batchcall_mcp.dialer.storage import stops
    from batchcall_mcp.guard.ledger.ledger import Ledger

    with ExitStack() as opened:
        # All of them are opened before any is changed: it is not lifted by half.
        ledgers = [opened.enter_context(closing(Ledger.open(settings)))]
        for other in _other_ledgers(settings, database_url):
            ledger = Ledger.open_existing(other)
            if ledger is not None:
                ledgers.append(opened.enter_context(closing(ledger)))
        stores = []
        for place in _places_of_dialers(settings, database_url):
            store = _opened_dialer(place)
            if store is not None:
                stores.append(opened.enter_context(closing(store)))
        try:  # the file first: a dialer that sees it would stop again
            settings.stop_file.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{settings.stop_file} could not be removed: {error.strerror}. Nothing was lifted. Remove it, then run "
                "this command again."
            ) from error
        for store in stores:
            try:
                stops.clear(store)
            except sa.exc.SQLAlchemyError as error:
                name = type(getattr(error, "orig", None) or error).__name__
                raise ConfigurationError(
                    f"The stop of the dialer could not be lifted ({name}): nothing is launched or dialled. Run this "
                    "command again."
                ) from error
        for ledger in reversed(ledgers):
            ledger.stops.clear()
    Audit(settings.data_dir).note(Event(event="stop", caller="operator", tool="stop", outcome="cleared"))
    click.echo("The emergency stop is lifted: launches are possible again. What was paused or cancelled stays so.")


def _other_ledgers(settings: Settings, database_url: str | None) -> list[Settings]:
    """Where servers may have recorded launches too: the database that is named, and the file in the folder."""
    named = settings.database_url.get_secret_value() if settings.database_url else None
    others = [] if database_url in {None, named} else [settings.with_database(database_url or "")]
    if named is not None:
        others.append(settings.model_copy(update={"database_url": None}))
    return others


def _places_of_dialers(settings: Settings, database_url: str | None) -> list[Path | str]:
    """Where a dialer may be: in the data folder, in the settings' database, and in the one that is named."""
    urls = [database_url, settings.database_url.get_secret_value() if settings.database_url else None]
    return [settings.data_dir / "dialer.db", *dict.fromkeys(url for url in urls if url is not None)]


def _opened_dialer(place: Path | str) -> Store | None:
    """The database of a dialer, if one has used it.

    Raises:
        ConfigurationError: it cannot be opened or read.
    """
    import sqlalchemy as sa

    from batchcall_mcp.dialer.storage.store import Store

    try:
        return Store.open_existing(place)
    except (sa.exc.SQLAlchemyError, OSError) as error:
        which = place if isinstance(place, Path) else "the PostgreSQL database"
        name = type(getattr(error, "orig", None) or error).__name__
        raise ConfigurationError(f"{which} cannot be opened or read ({name}).") from error


@dataclass(frozen=True, slots=True)
class _Launch:
    """What was launched, and the ledger that says so."""

    ledger: Ledger
    entry: Entry


@dataclass(slots=True)
class _Found:
    """What one run of the command did and saw."""

    stopped: list[Stopped] = field(default_factory=list)
    unknown: list[Entry] = field(default_factory=list)
    """Launches of which nobody knows whether they arrived."""
    unasked: list[Entry] = field(default_factory=list)
    """Launches at a backend for which there is no key here."""
    lost: list[Entry] = field(default_factory=list)
    """Launches on a dialer whose database is not here any more."""
    no_key: bool = False
    failed: bool = False


class _Stop:
    """One run of the command. What fails is said and keeps nothing else from being stopped."""

    def __init__(self, settings: Settings, database_url: str | None) -> None:
        self._settings = settings
        self._database_url = database_url
        self._found = _Found()
        self._knows_nothing = True

    def run(self) -> None:
        """Stop, say what was done, and end the process with the code that says it."""
        from batchcall_mcp.cli.stop_report import PeopleFile

        with ExitStack() as opened:
            on = self._make_file()
            ledgers = self._open_ledgers(opened)
            on = self._record(ledgers) or on
            dialers = self._stop_dialers(opened)
            outcome = "stopped" if on else "not_stopped"
            Audit(self._settings.data_dir).note(Event(event="stop", caller="operator", tool="stop", outcome=outcome))
            if on:
                click.echo("Stopped: nothing is launched from now on. Live batch calls:")
            else:
                click.echo("NOT STOPPED: launches are still possible. End the servers themselves. Live batch calls:")
            self._say(self._found.stopped)
            people = PeopleFile(self._settings.data_dir)
            self._stop_elsewhere(self._launched(ledgers, dialers), people)
            self._report(dialers, people)
        click.echo(
            "Calls in progress end by themselves." + (" `batchcall-mcp stop --clear` lifts the stop." if on else "")
        )
        found = self._found
        if found.failed or found.unknown or found.lost or any(one.done == "not stopped" for one in found.stopped):
            raise SystemExit(_NOT_DONE)
        if found.no_key:
            raise SystemExit(_NO_KEY)

    def _fail(self, text: str) -> None:
        click.echo(shortened(text, 2 * _LONGEST_WORDS), err=True)
        self._found.failed = True

    def _make_file(self) -> bool:
        """First of all: it works without a database."""
        stop_file = self._settings.stop_file
        try:
            self._settings.data_dir.mkdir(parents=True, exist_ok=True)
            if not stop_file.is_symlink():  # a link that leads nowhere is a stop already
                stop_file.touch()
        except OSError as error:
            self._fail(f"The file {stop_file} could not be made: {error.strerror}.")
            return False
        return True

    def _open_ledgers(self, opened: ExitStack) -> list[Ledger]:
        """The settings' own, made if it is not there, and others that servers have used."""
        from batchcall_mcp.guard.ledger.ledger import Ledger

        ledgers: list[Ledger] = []
        for settings, make in [(self._settings, True)] + [
            (other, False) for other in _other_ledgers(self._settings, self._database_url)
        ]:
            try:
                ledger = Ledger.open(settings) if make else Ledger.open_existing(settings)
            except (ConfigurationError, OSError) as error:
                self._fail(f"Other machines on the ledger do not know of the stop: {error}")
                continue
            if ledger is not None:
                opened.callback(ledger.close)
                ledgers.append(ledger)
        return ledgers

    def _record(self, ledgers: Sequence[Ledger]) -> bool:
        recorded = False
        for ledger in ledgers:
            try:
                ledger.stops.stop(wait_s=STOP_WAITS_S)
            except ConfigurationError as error:
                self._fail(f"Other machines on the ledger do not know of the stop: {error}")
            else:
                recorded = True
        return recorded

    def _stop_dialers(self, opened: ExitStack) -> list[Store]:
        """From here on no dialer dials, of any organisation, in whatever process it runs."""
        import sqlalchemy as sa

        from batchcall_mcp.batch_calls.emergency import Stopped
        from batchcall_mcp.dialer.storage import stops
        from batchcall_mcp.model import BatchStatus

        stopped: list[Store] = []
        for place in _places_of_dialers(self._settings, self._database_url):
            try:
                store = _opened_dialer(place)
                if store is None:
                    if place == self._database_url:
                        self._fail("No dialer has used the database of --database-url. Check the URL.")
                    continue
                opened.callback(store.close)
                stops.stop(store)
                paused = stops.paused_by_it(store)
            except ConfigurationError as error:
                self._fail(f"The dialer's database could not be opened, and it may dial on: {error}")
                continue
            except sa.exc.SQLAlchemyError as error:
                name = type(getattr(error, "orig", None) or error).__name__
                self._fail(f"The dialer could not be stopped ({name}), and may dial on. Try again, or end its process.")
                continue
            stopped.append(store)
            self._found.stopped += [
                Stopped(
                    batch_call_id=one.batch_call_id,
                    was=BatchStatus.RUNNING if one.started else BatchStatus.SCHEDULED,
                    done="paused",
                    told="",
                )
                for one in paused
            ]
        return stopped

    def _launched(self, ledgers: Sequence[Ledger], dialers: Sequence[Store]) -> list[_Launch]:
        """What was launched from here and is not known to be over; without what is on dialers of ours."""
        from batchcall_mcp.backends.registry import EMBEDDED
        from batchcall_mcp.dialer.storage import stops

        elsewhere: list[_Launch] = []
        for ledger in ledgers:
            try:
                self._knows_nothing = self._knows_nothing and ledger.history.is_empty()
                self._found.unknown += [entry for entry in ledger.history.unsettled() if entry.dials]
                launched = ledger.history.launched()
            except ConfigurationError as error:
                self._fail(f"What was launched from here could not be read: {error}")
                continue
            ours = [entry for entry in launched if entry.backend.startswith(f"{EMBEDDED} ")]
            ids = [entry.batch_call_id or "" for entry in ours]
            held = {one for store in dialers for one in stops.known(store, ids)}
            self._found.lost += [entry for entry in ours if entry.batch_call_id not in held]
            elsewhere += [_Launch(ledger, entry) for entry in launched if entry not in ours]
        return elsewhere

    def _stop_elsewhere(self, launched: Sequence[_Launch], people: PeopleFile) -> None:
        """Everything that is not on a dialer of ours: with the key that is set, as far as it reaches."""
        from batchcall_mcp.server.service import Service

        self._found.unasked = [one.entry for one in launched]
        try:
            service = Service(self._settings, local=True, dials=False)
        except ConfigurationError as error:
            self._fail(f"Not every live batch call could be stopped: {error}")
            return
        if not service.embedded:
            anyio.run(self._with_the_key, service, launched, people)

    async def _with_the_key(self, service: Service, launched: Sequence[_Launch], people: PeopleFile) -> None:
        from batchcall_mcp.batch_calls.emergency import Round, stop_live

        async with service.opened():
            try:
                context = await service.operator_context("stop")
            except ConfigurationError as error:
                self._found.no_key = True
                click.echo(f"No key: {shortened(str(error), _LONGEST_WORDS)}", err=True)
                return
            mine = [one for one in launched if one.ledger.hashed(context.caller) == one.entry.caller]
            mine = [one for one in mine if one.entry.backend == context.backend_address]
            self._found.unasked = [one.entry for one in launched if one not in mine]
            found = Round()
            began = context.clock()
            try:
                await stop_live(context, [one.entry.batch_call_id or "" for one in mine], found)
            except BatchCallError as error:
                self._fail(f"Not every live batch call could be stopped: {error}")
            self._found.stopped += found.stopped
            self._say(found.stopped)
            for one in mine:
                if one.entry.batch_call_id in found.over:
                    note = (context.backend_address, one.entry.caller, [one.entry.batch_call_id], began)
                    with suppress(ConfigurationError):  # the ledger is busy; the next command asks again
                        await anyio.to_thread.run_sync(one.ledger.history.note_over, *note)
            await self._list_people(context, found, people)

    async def _list_people(self, context: CallContext, found: Round, people: PeopleFile) -> None:
        """After everything is stopped: reading long lists takes time."""
        for one in found.stopped:
            try:
                async for task in context.every_task(await context.backend.get(one.batch_call_id)):
                    people.add(one.batch_call_id, task)
            except (BatchCallError, OSError) as error:
                self._fail(f"The people of {one.batch_call_id} could not be listed: {error}")

    def _report(self, dialers: Sequence[Store], people: PeopleFile) -> None:
        found = self._found
        for entry in found.unknown:
            named = shortened(entry.batch_call_id or entry.evidence.name or "", _LONGEST_ID)
            what = f"{entry.tool} {named} (ledger entry {entry.write_id})"
            click.echo(f"not known: {what} got no answer and may still take effect. Check the backend's own page.")
        for entry in found.lost:
            click.echo(
                f"not known: {shortened(entry.batch_call_id or '', _LONGEST_ID)} was launched on the dialer, but no "
                "dialer database here contains it. If a process still uses the database that was here before, "
                "end that process."
            )
        for line in _by_account(found.unasked):
            click.echo(line)
        found.no_key = found.no_key or bool(found.unasked)
        talking = self._list_people_of_dialers(dialers, people)
        if talking:
            click.echo(f"in a call: {talking} people, now. Calls in progress are not cut off.")
        if not (found.stopped or found.unknown or found.lost or found.unasked or people.path or talking):
            self._say_that_nothing_is_live()
        if people.path is not None:
            click.echo(f"{people.counted()} {people.path} lists the people of each.")

    def _say_that_nothing_is_live(self) -> None:
        """Only of what was looked at."""
        if self._knows_nothing:
            self._fail(
                f"Nothing is known: no ledger here contains a write of any server ({self._settings.data_dir}). If "
                "servers use a different folder or database, name it with BATCHCALL_DATA_DIR or "
                "BATCHCALL_DATABASE_URL and run this again."
            )
        elif self._found.failed or self._found.no_key:
            click.echo("Nothing live was found, but not everything could be checked.")
        else:
            click.echo("Nothing is live.")

    def _list_people_of_dialers(self, dialers: Sequence[Store], people: PeopleFile) -> int:
        """Gives how many people are in a call, of whatever batch call."""
        import sqlalchemy as sa

        from batchcall_mcp.dialer.storage import stops

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
            words = shortened(one.told, _LONGEST_WORDS) if one.done == "not stopped" else ""
            click.echo(f"{one.done}: {shortened(one.batch_call_id, _LONGEST_ID)} (was {one.was}). {words}".rstrip())


def _by_account(entries: Sequence[Entry]) -> list[str]:
    """What is live, or may be, where this command has no key: each backend, address and caller once."""
    accounts: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        accounts.setdefault((entry.backend, entry.caller), []).append(entry)
    lines = []
    for (backend, caller), launched in accounts.items():
        name, _, url = backend.partition(" ")
        ids = ", ".join(shortened(entry.batch_call_id or "", _LONGEST_ID) for entry in launched[-_IDS_NAMED:])
        more = f", and {len(launched) - _IDS_NAMED} older ones" if len(launched) > _IDS_NAMED else ""
        calls = sum(entry.calls or 0 for entry in launched)
        first = datetime.fromtimestamp(min(entry.at for entry in launched) / 1000, UTC)
        lines.append(
            f"no key: {len(launched)} batch calls with {calls} calls, launched at {backend} by caller {caller[:12]} "
            f"since {first:%Y-%m-%d %H:%M UTC}, may be live: {ids}{more}. To stop them, run this command again with "
            f"BATCHCALL_BACKEND={name} BATCHCALL_URL={url} and that caller's BATCHCALL_API_KEY and "
            "BATCHCALL_API_SECRET, or stop them on the backend's own page."
        )
    return lines
