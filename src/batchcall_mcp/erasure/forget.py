"""`batchcall-mcp forget`: what of one number is where, and the same erased, place by place.

What fails in one place is said, and keeps nothing from being erased in another. Nobody calls the number from the first
step on, whatever becomes of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa
from filelock import FileLock

from batchcall_mcp import database
from batchcall_mcp.backends.registry import EMBEDDED
from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer import erasure
from batchcall_mcp.dialer.carriers.simulated import CARRIER_RECORD
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import metadata as dialer_tables
from batchcall_mcp.erasure import own_files
from batchcall_mcp.erasure.contents import Without, without
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.guard.audit import Audit, Event
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.kept_files.records import plain_name
from batchcall_mcp.kept_files.store import FileStore
from batchcall_mcp.kept_files.tables import metadata as kept_tables
from batchcall_mcp.recipients.phone.spellings import Spellings
from batchcall_mcp.settings import Settings
from batchcall_mcp.text import shortened

T = TypeVar("T")
NOT_DONE: Final = 1
MAY_BE_CALLED: Final = 3
_LOCK_FILE: Final = "forget.lock"
_MOST_NAMED: Final = 20
_LONGEST_ID: Final = 200


@dataclass(slots=True)
class Forget:
    """One run for one number. `change` False: nothing is written, and the lines say what would be."""

    settings: Settings
    database_url: str | None
    who: Spellings
    change: bool
    lines: list[str] = field(default_factory=list)
    failed: bool = False
    """Something could not be erased, and is named."""
    may_be_called: bool = False
    """A backend elsewhere may still call the number."""

    @property
    def exit_code(self) -> int:
        """1: not all was erased. 3: a backend elsewhere may still call. Else 0."""
        return NOT_DONE if self.failed else MAY_BE_CALLED if self.may_be_called else 0

    def run(self) -> None:
        """Look into every place, and erase there if `change`: one run at a time, as each rewrites what it has read."""
        with ExitStack() as opened:
            if self.change:
                self._tried("The data folder cannot be written", partial(self._wait_for_others, opened))
            ledgers = self._ledgers(opened)
            stores = self._stores(opened)
            ids = [one for store in stores for one in self._in_dialer(store)]
            self._in_files(ids)
            kept = self._in_kept_files(opened, ids)
            self._in_the_record()
            for ledger in ledgers:
                self._elsewhere(ledger, stores)
            if self.change:
                self._leave_no_trace([*stores, *kept])
            self._name_others()
        if self.change:
            outcome = "failed" if self.failed else "done"
            Audit(self.settings.data_dir).note(
                Event(event="forgotten", caller="operator", tool="forget", outcome=outcome)
            )

    def _wait_for_others(self, opened: ExitStack) -> None:
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        opened.enter_context(FileLock(self.settings.data_dir / _LOCK_FILE, mode=0o600, thread_local=False))

    def _say(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)

    def _fail(self, line: str) -> None:
        self._say(f"NOT DONE: {line}")
        self.failed = True

    def _tried(self, what: str, do: Callable[[], T]) -> T | None:
        """What came of it; None: it did not work, which is said in words that name no row."""
        try:
            return do()
        except (BatchCallError, sa.exc.SQLAlchemyError, OSError) as error:
            why = (
                error.message
                if isinstance(error, BatchCallError)
                else type(getattr(error, "orig", None) or error).__name__
            )
            self._fail(f"{what}: {why}")
            return None

    def _all_settings(self) -> list[Settings]:
        """The settings' own, those of --database-url, and those of the files in the data folder."""
        own = self.settings.database_url.get_secret_value() if self.settings.database_url else None
        found = [self.settings]
        if self.database_url is not None and self.database_url != own:
            found.append(self.settings.with_database(self.database_url))
        if own is not None:
            found.append(self.settings.model_copy(update={"database_url": None}))
        return found

    def _ledgers(self, opened: ExitStack) -> list[Ledger]:
        """All of them, the settings' own made if it is not there; from here on no launch calls the number."""
        found = []
        kept = True
        for settings in self._all_settings():
            open_it = Ledger.open if self.change and settings is self.settings else Ledger.open_existing
            ledger = self._tried("The ledger cannot be opened", partial(open_it, settings))
            if ledger is None:
                kept = kept and not self.failed
                continue
            found.append(opened.enter_context(closing(ledger)))
            if self.change:
                added = self._tried("The ledger cannot be written", partial(ledger.forgotten.add, self.who.number))
                kept = kept and added is not None
        if kept:
            calls = (
                "calls this number from here any more" if self.change else "would call this number from here any more"
            )
            self._say(f"do-not-call: nobody {calls}.")
        return found

    def _stores(self, opened: ExitStack) -> list[Store]:
        found = []
        for where in dict.fromkeys(one.database("dialer.db") for one in self._all_settings()):
            before = self.failed
            store = self._tried("The dialer's database cannot be opened", partial(Store.open_existing, where))
            if store is not None:
                found.append(opened.enter_context(closing(store)))
            elif where == self.database_url and self.failed == before:
                self._fail("No dialer has used the database of --database-url. Check the URL.")
        return found

    def _in_dialer(self, store: Store) -> Sequence[str]:
        name = "PostgreSQL" if store.file is None else str(store.file.path)
        erase = erasure.forget if self.change else erasure.look
        found = self._tried(f"{name}: the person cannot be erased", partial(erase, store, self.who))
        if found is None:
            return ()
        if found.calling:
            self._fail(
                f"{name}: this person is in a call now, or about to be, in {_named(found.calling)}. Nothing of it was "
                "erased there; nobody dials the number again. Run this command again when the call has ended."
            )
            return found.batch_call_ids
        if not found.is_empty:
            erased = "erased" if self.change else "to be erased"
            where = f" of {_named(found.batch_call_ids)}" if found.batch_call_ids else ""
            self._say(
                f"{name}: {erased}: {_counted(len(found.task_ids), 'row')}{where}, "
                f"{_counted(found.attempts, 'call')}. Counts stay."
            )
        if found.waiting:
            skipped = "skipped" if self.change else "to be skipped"
            self._say(f"{skipped} in {_named(found.waiting)}; everybody else there is called as before.")
        for carrier, calls in found.at_carriers.items():
            self._say(
                f"elsewhere: {carrier} keeps what it has of {_counted(len(calls), 'call')} (recordings, transcripts): "
                f"{_named(calls)}. It cannot be erased from here. Erase it in your account there."
            )
        for batch_call_id, rows in found.mentioned.items():
            self._say(
                f"not erased: the variables of {_counted(rows, 'other person', 'other people')} of {batch_call_id} "
                "hold the number. They belong to those people."
            )
        return found.batch_call_ids

    def _in_files(self, batch_call_ids: Sequence[str]) -> None:
        for path in (*own_files.exports(self.settings), *own_files.stop_reports(self.settings)):
            read = partial(own_files.without_person, path, self.who, batch_call_ids)
            file = self._tried(f"{path} cannot be read", read)
            if file is None:
                continue
            if not self.change:
                self._say(f"{file.path}: to be {file.what}.")
            elif self._tried(f"{file.path} cannot be written", partial(_done, own_files.erase, file)):
                self._say(f"{file.path}: {file.what}.")

    def _in_kept_files(self, opened: ExitStack, batch_call_ids: Sequence[str]) -> list[FileStore]:
        stores = []
        for settings in self._all_settings():
            store = self._tried("The store of uploaded lists and exports cannot be opened", partial(_kept, settings))
            if store is not None:
                stores.append(opened.enter_context(closing(store)))
                search = partial(_done, partial(self._in_store, batch_call_ids), store)
                self._tried("Uploaded lists and exports cannot be searched", search)
        return stores

    def _in_store(self, batch_call_ids: Sequence[str], store: FileStore) -> None:
        while not self._rewritten(batch_call_ids, store):
            pass  # another server, or a `forget` on another machine, has changed a file meanwhile

    def _rewritten(self, batch_call_ids: Sequence[str], store: FileStore) -> bool:
        """Whether all files were as they had been read."""
        as_read = True
        for file in store.everything():
            ending = Path(file.name).suffix
            is_report = ending == ".html" and any(file.name.startswith(plain_name(one, "-")) for one in batch_call_ids)
            found = Without(content=None) if is_report else without(store.content(file), ending, self.who)
            if found is None:
                continue
            if self.change and not store.rewrite(file, found.content, max(file.rows - found.rows, 0)):
                as_read = False
                continue
            kind = "uploaded list" if file.kind == "list" else "export"
            what = own_files.OwnFile(path=Path(file.name), without=found).what
            self._say(f"{kind} {file.name}: {'' if self.change else 'to be '}{what}.")
        return as_read

    def _in_the_record(self) -> None:
        found = self._tried(
            "The record of the simulated carrier cannot be written",
            lambda: own_files.dialled(self.settings, self.who, change=self.change),
        )
        if found:
            done = "erased" if self.change else "to be erased"
            self._say(f"record of the simulated carrier: {done} in {_counted(found, 'line')}.")

    def _elsewhere(self, ledger: Ledger, stores: Sequence[Store]) -> None:
        """What other backends keep, and whether one of them may still call."""
        what = "What was sent elsewhere is not known"
        for one in self._tried(what, ledger.forgotten.sent_to) or ():
            name, _, url = one.backend.partition(" ")
            if name == EMBEDDED or not one.batch_calls:
                continue
            self._say(
                f"elsewhere: {name} ({url}) keeps what was sent to it: {_counted(one.batch_calls, 'batch call')} by "
                f"caller {one.caller[:12]} since {from_ms(one.since):%Y-%m-%d} (the last: {_named(one.latest)}). It "
                "cannot be erased from here. Ask that service to erase the number."
            )
        live = self._tried(what, partial(ledger.forgotten.launches_of, self.who.number)) or ()
        ids = [one.batch_call_id or "" for one in live]
        held = {key for store in stores for key in self._tried(what, partial(erasure.ended_at, store, ids)) or ()}
        for entry in live:
            if not entry.backend.startswith(f"{EMBEDDED} ") and entry.batch_call_id not in held:
                self.may_be_called = True
                named = shortened(entry.batch_call_id or "", _LONGEST_ID)
                self._say(
                    f"may still call: {named} at {entry.backend} was launched with this number. Cancel it there "
                    "(`cancel_batch_call`), or wait until it is over."
                )

    def _leave_no_trace(self, opened: Sequence[database.Database]) -> None:
        """Deleted rows stay in a database file until it is rewritten."""
        for one in opened:
            tables = (kept_tables if isinstance(one, FileStore) else dialer_tables).tables
            if not database.leave_no_trace(one.engine, tables):
                where = "PostgreSQL" if one.file is None else str(one.file.path)
                why = "the role may not vacuum" if one.file is None else "another process uses it all the time"
                self._fail(
                    f"{where} could not be rewritten ({why}): deleted rows may still be in it. Run this command again."
                )

    def _name_others(self) -> None:
        """Files that are not ours: they are named, and not changed."""
        ours = [*own_files.exports(self.settings), *own_files.stop_reports(self.settings)]
        for path in own_files.lists(self.settings, ours, self.who):
            self._say(f"not erased: {path} holds the number. It is yours: remove the row there.")
        known = [*ours, *self.settings.do_not_call]
        record = self.settings.data_dir / CARRIER_RECORD
        for path in own_files.left(self.settings, self.who, known if self.change else [*known, record]):
            self._fail(f"{path} in the data folder holds the number, and is not a file that this command changes.")


def _kept(settings: Settings) -> FileStore | None:
    return FileStore.open(settings) if FileStore.is_there(settings) else None


def _done(do: Callable[[T], None], argument: T) -> bool:
    do(argument)
    return True


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _named(ids: Sequence[str]) -> str:
    shown: Iterator[str] = (shortened(one, _LONGEST_ID) for one in ids[:_MOST_NAMED])
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    return ", ".join(shown) + more
