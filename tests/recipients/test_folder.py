"""The folders of BATCHCALL_FILES are the only place from which files are read, and nothing outside is revealed."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.files.allowed_folders import ListedFile, list_files, resolve_file
from batchcall_mcp.recipients.files.sample import make_first_folder
from batchcall_mcp.recipients.validation import ReadOptions, read_file


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second, tmp_path / "outside"):
        folder.mkdir()
        (folder / "list.csv").write_text("phone\n+14155550100\n")
    (first / "sub").mkdir()
    (first / "sub" / "deep.csv").write_text("phone\n+14155550100\n")
    (tmp_path / "outside" / "secret.csv").write_text("phone\n+14155550100\n")
    return first, second


def refusal(name: str, folders: tuple[Path, ...]) -> str:
    with pytest.raises(InvalidInput) as refused:
        resolve_file(name, folders)
    return refused.value.message


def test_a_bare_name_means_the_first_folder(folders: tuple[Path, Path]) -> None:
    assert resolve_file("list.csv", folders) == (folders[0] / "list.csv").resolve()


def test_relative_and_absolute_paths_may_end_in_any_folder(folders: tuple[Path, Path]) -> None:
    first, second = folders
    assert resolve_file("sub/deep.csv", folders) == (first / "sub" / "deep.csv").resolve()
    assert resolve_file("sub/../list.csv", folders) == (first / "list.csv").resolve()
    assert resolve_file("../second/list.csv", folders) == (second / "list.csv").resolve()
    assert resolve_file(str(second / "list.csv"), folders) == (second / "list.csv").resolve()


def test_a_tilde_is_the_home_folder(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folders[0].parent))
    assert resolve_file("~/first/list.csv", folders) == (folders[0] / "list.csv").resolve()
    assert "outside the allowed folders" in refusal("~/outside/list.csv", folders)


def test_a_link_to_a_file_inside_is_followed_to_its_real_path(folders: tuple[Path, Path]) -> None:
    (folders[0] / "link.csv").symlink_to(folders[1] / "list.csv")
    assert resolve_file("link.csv", folders) == (folders[1] / "list.csv").resolve()


def test_outside_is_outside_whatever_is_there(folders: tuple[Path, Path]) -> None:
    first, outside = folders[0], folders[0].parent / "outside"
    (first / "link.csv").symlink_to(outside / "secret.csv")
    (first / "dangling.csv").symlink_to(outside / "gone.csv")
    (first / "door").symlink_to(outside)
    (first / "loop.csv").symlink_to(first / "loop.csv")
    names = [
        str(outside / "secret.csv"),
        str(outside / "gone.csv"),
        str(outside),
        "../outside/secret.csv",
        "../outside/gone.csv",
        "sub/../../outside/secret.csv",
        "link.csv",
        "dangling.csv",
        "door/secret.csv",
        "door/gone.csv",
        "/etc/passwd",
        "/",
        "..",
        "list.csv\0.txt",
        "",
        " ",
        "x" * 5000,
        f"{first}-evil/list.csv",
    ]
    said = {refusal(name, folders).partition("is outside")[2] for name in names}
    assert len(said) == 1
    (text,) = said
    assert text.startswith(" the allowed folders; nothing was read, nothing was sent. BATCHCALL_FILES: ")
    assert text.endswith(" To use this list, copy it there and pass the name alone.")
    assert "secret" not in text


def test_a_refusal_names_the_folders_and_the_files_there(folders: tuple[Path, Path]) -> None:
    os.utime(folders[1] / "list.csv", (1, 1))
    said = refusal("gone.csv", folders)
    assert said == (
        'tasks_file: "gone.csv" does not exist; nothing was read, nothing was sent. '
        f"BATCHCALL_FILES: {folders[0]}, {folders[1]}. "
        f'Files there: "list.csv", "{folders[1] / "list.csv"}".'
    )


def test_a_refusal_lists_ten_files_at_most(folders: tuple[Path, Path]) -> None:
    for number in range(30):
        (folders[0] / f"more-{number:02}.csv").touch()
    assert refusal("gone.csv", folders).count(".csv") == 11


def test_what_is_not_an_ordinary_file_is_refused_without_being_opened(folders: tuple[Path, Path]) -> None:
    os.mkfifo(folders[0] / "pipe.csv")
    assert "is not a regular file" in refusal("pipe.csv", folders)
    assert "is a folder" in refusal("sub", folders)
    assert "is a folder" in refusal(".", folders)


@contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything, so that for a moment we are somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others altogether
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "list.csv").touch(0)
        with nobody():
            said = refusal("list.csv", (folder,))
    assert "access is denied" in said


def test_a_folder_that_is_not_there_yet_is_named(tmp_path: Path) -> None:
    said = refusal("list.csv", (tmp_path / "new",))
    assert "It contains no list yet" in said
    assert f"Folders that do not exist yet: {tmp_path / 'new'}" in said


def test_without_a_folder_nothing_is_read() -> None:
    assert "names no folder" in refusal("list.csv", ())


def test_files_are_listed_newest_first_with_the_name_that_opens_them(folders: tuple[Path, Path]) -> None:
    first, second = folders
    (first / "new.xlsx").write_bytes(b"1234")
    for name in (".hidden.csv", "~$new.xlsx", "notes.docx"):
        (first / name).touch()
    (first / "away.csv").symlink_to(first.parent / "outside" / "secret.csv")
    for age, path in enumerate((first / "new.xlsx", second / "list.csv", first / "list.csv")):
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    listed = list_files(folders)
    assert listed[0] == ListedFile(
        name="new.xlsx",
        size_bytes=4,
        modified=datetime.fromtimestamp(1_000_000, tz=UTC),
    )
    assert [file.name for file in listed] == ["new.xlsx", str(second / "list.csv"), "list.csv"]
    paths = [first / "new.xlsx", second / "list.csv", first / "list.csv"]
    assert [resolve_file(file.name, folders) for file in listed] == [path.resolve() for path in paths]
    assert [file.name for file in list_files(folders, limit=1)] == ["new.xlsx"]


@pytest.mark.parametrize("name", ["exports/old.csv", "exports/sub/old.csv", "link.csv", "sub/../exports/old.csv"])
def test_an_export_is_never_a_list(folders: tuple[Path, Path], name: str) -> None:
    exports = folders[0] / "exports"
    (exports / "sub").mkdir(parents=True)
    for path in (exports / "old.csv", exports / "sub" / "old.csv"):
        path.write_text("phone\n+14155550100\n")
    (folders[0] / "link.csv").symlink_to(exports / "old.csv")
    both = (*folders, exports)
    said = refusal(name, both)
    assert "is an export of results, which is not a list of people to call (retry_batch_call" in said
    assert "nothing was sent" in said
    assert {file.name for file in list_files(both)} == {"list.csv", str(folders[1] / "list.csv")}


def test_the_do_not_call_list_is_never_a_list(folders: tuple[Path, Path]) -> None:
    never = folders[0] / "do-not-call.csv"
    never.write_text("phone\n+14155550100\n")
    (folders[0] / "link.csv").symlink_to(never)
    for name in ("do-not-call.csv", "link.csv", str(never)):
        with pytest.raises(InvalidInput, match="is the do-not-call list, whose people are never called"):
            resolve_file(name, folders, (never,))
    assert {file.name for file in list_files(folders, (never,))} == {"list.csv", str(folders[1] / "list.csv")}
    os.link(never, folders[0] / "copy.csv")
    with pytest.raises(InvalidInput, match="is the do-not-call list"):
        resolve_file("copy.csv", folders, (never,))


class TestTheFirstFolder:
    def test_it_is_made_with_a_sample_whose_numbers_are_all_fictional(self, tmp_path: Path) -> None:
        folder = tmp_path / "Documents" / "batchcall"
        make_first_folder((folder, tmp_path / "other"))
        assert sorted(path.name for path in folder.iterdir()) == ["exports", "sample.csv"]
        assert not (tmp_path / "other").exists()
        assert [file.name for file in list_files((folder,))] == ["sample.csv"]
        found = read_file(resolve_file("sample.csv", (folder,)), ReadOptions())
        assert (len(found.tasks), found.skipped_rows) == (10, ())
        reserved = re.compile(r"\+1[2-9]\d\d55501\d\d|\+442079460\d{3}|\+441134960\d{3}|\+441614960\d{3}")
        assert [task.to_number for task in found.tasks if not reserved.fullmatch(task.to_number)] == []

    def test_a_folder_that_exists_is_somebodys(self, tmp_path: Path) -> None:
        make_first_folder((tmp_path,))
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_made_is_a_line_in_the_log(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        make_first_folder((tmp_path / "file" / "batchcall",))
        assert "cannot be made (" in caplog.text
        make_first_folder(())


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.sampled_from(["..", ".", "first", "second", "outside", "sub", "list.csv", "~", "a\0", ""]), max_size=6)
)
def test_no_path_leads_outside(folders: tuple[Path, Path], parts: list[str]) -> None:
    try:
        path = resolve_file("/".join(parts), folders)
    except InvalidInput:
        return
    assert any(path.is_relative_to(folder) for folder in folders)
    assert path.is_file()
