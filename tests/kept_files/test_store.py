"""What callers keep: one's own only, within a quota, for a day, on both databases."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from batchcall_mcp.errors import NotFound, QuotaExceeded
from batchcall_mcp.kept_files import store as store_module
from batchcall_mcp.kept_files.records import KEPT_FOR, KeptFile, Kind, StoreFull, new_name
from batchcall_mcp.kept_files.store import PART_BYTES, FileStore
from batchcall_mcp.kept_files.tables import metadata
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import Clock, clock
from tests.postgresql import postgresql_url

__all__ = ["clock", "settings"]
ONE, ANOTHER = "owner-1", "owner-2"


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of a fresh database."""
    if request.param == "sqlite":
        return Settings(data_dir=tmp_path)
    return Settings.model_validate({"data_dir": tmp_path, "database_url": postgresql_url()})


@pytest.fixture
def store(settings: Settings, clock: Clock) -> Iterator[FileStore]:
    opened = FileStore.open(settings, clock)
    yield opened
    opened.close()


def kept(
    store: FileStore, content: bytes = b"phone\n+14155550101\n", owner: str = ONE, kind: Kind = "list"
) -> KeptFile:
    return store.keep(owner, new_name("people", ".csv"), kind, [content], 1)


def content_of(store: FileStore, file: KeptFile, folder: Path) -> bytes:
    copied = folder / file.name
    store.copy(file, copied)
    return copied.read_bytes()


def test_the_migrations_make_the_tables_that_the_code_uses(store: FileStore) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [one for one in compare_metadata(context, metadata) if store.schema.versions not in repr(one)]
    assert differences == []


def test_a_file_of_many_parts_comes_back_byte_for_byte_also_after_a_restart(
    store: FileStore, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4000 + b"end"
    pieces = [content[at : at + 7000] for at in range(0, len(content), 7000)]
    file = store.keep(ONE, new_name("people", ".csv"), "list", pieces, 12)
    assert file.size_bytes == len(content) > 3 * PART_BYTES

    again = FileStore.open(settings, clock)
    assert again.listed(ONE) == (file,)
    assert content_of(again, again.find(ONE, file.name), tmp_path) == content
    again.close()


def test_only_this_user_can_read_the_database_and_a_copy(store: FileStore, tmp_path: Path) -> None:
    file = kept(store)
    content_of(store, file, tmp_path)
    paths = [tmp_path / file.name, *([] if store.file is None else [store.file.path])]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


def test_nobody_has_another_owners_file(store: FileStore) -> None:
    file = kept(store)
    for way in (store.find, store.remove):
        with pytest.raises(NotFound):
            way(ANOTHER, file.name)
    assert store.listed(ANOTHER) == ()
    assert store.listed(ONE) == (file,)


def test_a_name_that_no_file_can_have_is_not_found(store: FileStore) -> None:
    for name in ("", "..", "../ledger.db", "a/b.csv", "people.csv\0", "' OR 1=1 --", "\ud800", "x" * 999):
        with pytest.raises(NotFound):
            store.find(ONE, name)


def test_what_was_kept_for_a_day_is_gone_and_its_bytes_too(store: FileStore, clock: Clock, tmp_path: Path) -> None:
    old = kept(store, b"phone\n+14155550142\n" * 100_000)
    clock.move(hours=1)
    new = kept(store)
    clock.move(seconds=(KEPT_FOR.total_seconds() - 3600))
    assert store.listed(ONE) == (new,)
    with pytest.raises(NotFound):
        store.find(ONE, old.name)

    store.sweep()
    assert store.part(old, 0) is None
    assert content_of(store, new, tmp_path)
    if store.file is not None:
        assert b"+14155550142" not in store.file.path.read_bytes()
        assert store.file.path.stat().st_size < 100_000


def test_a_removed_file_is_gone(store: FileStore, tmp_path: Path) -> None:
    file = kept(store)
    store.remove(ONE, file.name)
    assert store.listed(ONE) == ()
    with pytest.raises(NotFound, match="removed while it was read"):
        store.copy(file, tmp_path / "copy.csv")


def test_an_owner_keeps_a_limited_number_of_files(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_FILES_PER_CALLER", 2)
    files = [kept(store), kept(store)]
    with pytest.raises(QuotaExceeded, match="Nothing was stored"):
        store.check_room(ONE, 1)
    with pytest.raises(QuotaExceeded):
        kept(store)
    assert {one.name for one in store.listed(ONE)} == {one.name for one in files}
    kept(store, owner=ANOTHER)
    store.remove(ONE, files[0].name)
    kept(store)
    assert len(store.listed(ONE)) == 2


def test_an_owner_keeps_a_limited_number_of_bytes(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_BYTES_PER_CALLER", 1000)
    kept(store, b"x" * 600)
    with pytest.raises(QuotaExceeded):
        store.check_room(ONE, 401)
    with pytest.raises(QuotaExceeded):
        kept(store, b"x" * 401)
    assert kept(store, b"x" * 400).size_bytes == 400


def test_all_owners_together_keep_a_limited_number_of_bytes(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_BYTES", 1000)
    kept(store, b"x" * 600)
    with pytest.raises(StoreFull):
        kept(store, b"x" * 600, owner=ANOTHER)


def test_an_export_makes_room_by_removing_old_exports_and_never_a_list(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_BYTES_PER_CALLER", 1000)
    people = kept(store, b"x" * 300)
    exports = [kept(store, b"x" * 300, kind="export") for _ in range(3)]
    assert store.listed(ONE) == (exports[2], exports[1], people)
    with pytest.raises(QuotaExceeded):
        kept(store, b"x" * 800, kind="export")
    assert store.listed(ONE) == (exports[2], exports[1], people)


def test_a_name_shows_what_the_file_was_called_and_cannot_be_guessed() -> None:
    names = {new_name("Ünsere Kunden / März ' \"\r\n", ".xlsx") for _ in range(2)}
    assert len(names) == 2
    assert all(one.startswith("nsere_Kunden_M_rz-") and one.endswith(".xlsx") and len(one) == 39 for one in names)
    assert new_name("客户", ".csv").startswith("list-")
