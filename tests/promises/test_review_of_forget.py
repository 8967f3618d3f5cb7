"""Attacks on `forget`, retention and the ledger that was restored: what an adversary found, each as a test."""

from __future__ import annotations

import io
import threading
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from batchcall_mcp.erasure import own_files
from batchcall_mcp.erasure.contents import occurs, without
from batchcall_mcp.erasure.forget import Forget
from batchcall_mcp.errors import ConfigurationError, PermissionDenied
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import Entry
from batchcall_mcp.kept_files.records import KeptFile
from batchcall_mcp.kept_files.store import FileStore
from batchcall_mcp.recipients.phone.spellings import IN_A_TEXT, Spellings
from batchcall_mcp.settings import Settings
from tests.guard.ledger.test_restored import back_up, restore, wrote
from tests.guard.ledger.test_writes import START
from tests.postgresql import postgresql_url

ADA = Spellings.of("020 7946 0010", "GB")


def damaged_workbook() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as workbook:
        workbook.writestr("xl/a.xml", "abc" * 1000)
    content = bytearray(written.getvalue())
    for at in range(42, 55):
        content[at] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".xlsx", damaged_workbook()),
        (".jsonl", b"[" * 200_000),
        (".jsonl", b'{"phone":"+4915112345678","note":"\\ud800"}\n'),
    ],
    ids=["workbook", "deep", "surrogate"],
)
def test_a_damaged_file_stops_nothing(ending: str, content: bytes) -> None:
    """Nobody is erased from the places after it otherwise."""
    assert not occurs(content, ADA)
    assert without(content, ending, ADA) is None
    if ending == ".jsonl":
        found = without(content + b'\n{"phone":"+442079460010","name":"Ada"}\n', ending, ADA)
        assert found is not None
        assert found.rows == 1
        assert found.content is not None
        assert b"Ada" not in found.content


def test_a_number_goes_from_a_text_with_a_surrogate() -> None:
    found = without(b'{"phone":"+4915112345678","note":"\\ud800 +442079460010"}\n', ".jsonl", ADA)
    assert found is not None
    assert found.content is not None
    assert b"0010" not in found.content


def test_marks_of_inches_hide_nobody() -> None:
    """A quote within a cell that did not begin with one is a mark like others, for whoever reads the list too."""
    rows = 'phone,note\n+442079460011,5" screen\n+442079460010,Ada\n+442079460017,Cleo 6" \n'
    found = without(rows.encode(), ".csv", ADA)
    assert found is not None
    assert (found.rows, found.content) == (1, b'phone,note\n+442079460011,5" screen\n+442079460017,Cleo 6" \n')


@pytest.mark.parametrize("between", [" ", " / ", " - "])
@pytest.mark.parametrize("written", ["442079460010", "020 7946 0010"])
def test_a_number_after_another_one_with_its_country_is_found(between: str, written: str) -> None:
    assert ADA.without(f"+12025550100{between}{written}") == f"+12025550100{between}{IN_A_TEXT}"


def test_a_later_part_of_one_number_is_not_another() -> None:
    assert ADA.without("+1 020 7946 0010") == "+1 020 7946 0010"
    assert ADA.without("+49 30 20 7946 0010") == "+49 30 20 7946 0010"


def settings_at(folder: Path, **others: object) -> Settings:
    return Settings.model_validate({"data_dir": folder / "data", "default_region": "GB", **others})


def test_two_at_once_leave_neither_person_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rewrites what it has read: the one that writes last would bring the other's person back."""
    settings = settings_at(tmp_path)
    settings.data_dir.mkdir()
    listed = settings.data_dir / "stopped-1.csv"
    listed.write_text("to_number,name\n+442079460010,Ada\n+442079460011,Ben\n+442079460017,Cleo\n")
    other = Forget(settings, None, Spellings.of("+442079460011", None), change=True)
    second = threading.Thread(target=other.run)
    erase = own_files.erase

    def erase_while_another_runs(file: own_files.OwnFile) -> None:
        if threading.current_thread() is not second:
            second.start()
            second.join(timeout=0.5)  # the other one is done by then, unless it waits for us
        erase(file)

    monkeypatch.setattr(own_files, "erase", erase_while_another_runs)
    first = Forget(settings, None, ADA, change=True)
    first.run()
    second.join()
    assert (first.exit_code, other.exit_code) == (0, 0)
    assert listed.read_text() == "to_number,name\n+442079460017,Cleo\n"


def test_an_older_ledger_that_could_not_be_stopped_launches_nothing(tmp_path: Path) -> None:
    """While somebody else was writing, the stop was skipped, and the first launch removed the evidence."""
    settings = settings_at(tmp_path)
    wrote(settings)
    back_up(settings)
    wrote(settings)
    restore(settings)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("batchcall_mcp.guard.ledger.emergency_stop.Stops.stop", busy)
        ledger = Ledger.open(settings)
    with closing(ledger):
        with pytest.raises(PermissionDenied, match="emergency stop is on"):
            ledger.writes.begin(START)
        ledger.stops.clear()
        assert isinstance(ledger.writes.begin(START), Entry)


def busy(*_: object) -> None:
    raise ConfigurationError("The ledger is busy.")


def test_a_slow_process_does_not_take_back_how_far_the_ledger_has_come(tmp_path: Path) -> None:
    """Two processes have written, and the one with the earlier entry says so last."""
    settings = settings_at(tmp_path)
    wrote(settings)
    back_up(settings)
    with closing(LedgerDatabase.open(settings)) as slow:
        wrote(settings)
        slow.note_newest(1)
    restore(settings)
    with closing(Ledger.open(settings)) as ledger, pytest.raises(PermissionDenied, match="emergency stop is on"):
        ledger.writes.begin(START)


def test_two_ledgers_that_share_a_data_folder_are_both_noticed(tmp_path: Path) -> None:
    """With and without BATCHCALL_DATABASE_URL: each ledger is known by its own name."""
    settings = settings_at(tmp_path)
    wrote(settings)
    back_up(settings)
    wrote(settings)
    wrote(settings.with_database(postgresql_url()))
    restore(settings)
    with closing(Ledger.open(settings)) as ledger, pytest.raises(PermissionDenied, match="emergency stop is on"):
        ledger.writes.begin(START)


def test_a_ledger_of_before_the_file_is_known_from_its_next_opening_on(tmp_path: Path) -> None:
    """After an upgrade nothing is launched yet, and the back-up is restored."""
    settings = settings_at(tmp_path)
    wrote(settings)
    back_up(settings)
    wrote(settings)
    (settings.data_dir / "ledger.newest").unlink()
    Ledger.open(settings).close()
    restore(settings)
    with closing(Ledger.open(settings)) as ledger, pytest.raises(PermissionDenied, match="emergency stop is on"):
        ledger.writes.begin(START)


def test_a_database_that_is_restored_under_a_running_process_is_noticed(tmp_path: Path) -> None:
    """PostgreSQL comes back with an older state, and the server only sees a connection that broke."""
    settings = settings_at(tmp_path).with_database(postgresql_url())
    with closing(Ledger.open(settings)) as running:
        wrote(settings, 2)
        restore(settings)
        with pytest.raises(PermissionDenied, match="emergency stop is on"):
            running.writes.begin(START)


def test_a_kept_list_that_another_machine_rewrites_meanwhile_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another file under its name then, and still holds this person."""
    settings = settings_at(tmp_path)
    settings.data_dir.mkdir()
    with closing(FileStore.open(settings)) as store:
        rows = b"phone,name\n+442079460010,Ada\n+442079460011,Ben\n"
        store.keep("caller", "people.csv", "list", [rows], 2)
        content = FileStore.content
        looked: list[KeptFile] = []

        def rewritten_after_it_was_read(self: FileStore, file: KeptFile) -> bytes:
            found = content(self, file)
            if not looked:
                looked.append(file)
                assert store.rewrite(file, found.replace(b"Ben", b"Bea"), 2)
            return found

        monkeypatch.setattr(FileStore, "content", rewritten_after_it_was_read)
        done = Forget(settings, None, ADA, change=True)
        done.run()
        (kept,) = store.everything()
        assert (done.exit_code, content(store, kept)) == (0, b"phone,name\n+442079460011,Bea\n")
