"""/files: lists over HTTP, and exports; who may, how much, and what is refused."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from starlette.types import Message, Scope

from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import BackendUnavailable
from batchcall_mcp.kept_files import store as store_module
from batchcall_mcp.kept_files.caller_files import files_url, upload_line
from batchcall_mcp.kept_files.records import KEPT_FOR
from batchcall_mcp.kept_files.store import FileStore
from batchcall_mcp.server import service as service_module
from batchcall_mcp.server.credentials import AcceptedPairs
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.transports.access import caller_of
from batchcall_mcp.server.transports.files import FileRoutes
from batchcall_mcp.server.transports.pair_checks import PairChecks
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import Credentials
from tests.recipients.workbooks import write_workbook
from tests.server.transports import PAIR, Way, client_of
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Model
from tests.walks.test_walk_6_a_team_over_http import ANOTHER, ONE, team_server

HTTP = Way("http", "auto")
CSV = b"mobile,name,plan\n+14155550101,Ada,pro\n+14155550102,Ben,basic\n"
STRANGER = {"X-API-KEY": "made-up", "X-API-SECRET": "made-up-too"}


@dataclass
class Office:
    """A server over HTTP whose backend is Zudu, and a caller with curl."""

    url: str
    http: httpx2.AsyncClient
    data_dir: Path
    vendor: Zudu

    async def send(self, content: bytes, name: str = "people.csv", **more: Any) -> httpx2.Response:
        return await self.http.post(f"{self.url}/files", params={"name": name}, content=content, **more)

    async def uploaded(self, content: bytes = CSV, name: str = "people.csv") -> str:
        answer = await self.send(content, name)
        assert answer.status_code == 201, answer.text
        found: str = answer.json()["tasks_file"]
        return found

    async def names(self, headers: dict[str, str] = ONE) -> list[str]:
        answer = await self.http.get(f"{self.url}/files", headers=headers)
        assert answer.status_code == 200, answer.text
        return [one["name"] for one in answer.json()["files"]]

    @asynccontextmanager
    async def model(self, headers: dict[str, str] = ONE) -> AsyncIterator[Model]:
        async with client_of(self.url, HTTP, headers=headers) as client:
            yield Model(client)

    def left_behind(self) -> list[Path]:
        """Copies that were not removed, and whether a store was made."""
        incoming = self.data_dir / "incoming"
        return [*(incoming.iterdir() if incoming.exists() else []), *self.data_dir.glob("files.db")]

    def audited(self) -> list[dict[str, Any]]:
        lines = (self.data_dir / "audit.jsonl").read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == "file"]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    vendor = Zudu()
    async with (
        team_server(vendor, HTTP, DATA_DIR=str(tmp_path)) as url,
        httpx2.AsyncClient(timeout=30, trust_env=False, headers=ONE) as http,
    ):
        yield Office(url, http, tmp_path, vendor)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "xlsx"])
async def test_an_uploaded_list_becomes_a_draft_as_a_file_does(office: Office, tmp_path: Path, kind: str) -> None:
    rows = [line.split(",") for line in CSV.decode().splitlines()]
    if kind == "xlsx":
        content = write_workbook(tmp_path / "list.xlsx", {"People": rows}).read_bytes()
    elif kind == "jsonl":
        content = "".join(json.dumps(dict(zip(rows[0], row, strict=True))) + "\n" for row in rows[1:]).encode()
    else:
        content = CSV
    answer = await office.send(content, f"Spring list.{kind.upper()}")
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["tasks_file"].startswith("Spring_list-")
    assert told["tasks_file"].endswith(f".{kind}")
    assert (told["bytes"], told["rows"]) == (len(content), 2)

    async with office.model() as model:
        assert [one["name"] for one in (await model.call("get_backend"))["files"]] == [told["tasks_file"]]
        given = {"tasks_file": told["tasks_file"], "number_column": "mobile", "from_number": FROM}
        checked = await model.call("check_batch_call", **given)
        assert checked["columns"]["to_number"] == "mobile"
        assert [task["to_number"] for task in checked["sample"]] == ["+14155550101", "+14155550102"]
        made = await model.call("create_batch_call", **given, rows="2")
        assert made["batch_call"]["counts"]["total"] == 1
    assert office.left_behind() == [tmp_path / "files.db"]


async def test_a_list_whose_number_column_must_be_named_is_taken(office: Office) -> None:
    name = await office.uploaded(b"a,b\n+14155550101,+14155550102\n")
    async with office.model() as model:
        checked = await model.call("check_batch_call", tasks_file=name, number_column="b", from_number=FROM)
    assert [task["to_number"] for task in checked["sample"]] == ["+14155550102"]


async def test_a_workbook_whose_sheet_must_be_named_is_taken(office: Office, tmp_path: Path) -> None:
    sheets = {month: [["phone"], [f"+1415555010{at}"]] for at, month in enumerate(("May", "June"))}
    answer = await office.send(write_workbook(tmp_path / "list.xlsx", sheets).read_bytes(), "list.xlsx")
    assert answer.json()["rows"] == 2
    given = {"tasks_file": answer.json()["tasks_file"], "from_number": FROM}
    async with office.model() as model:
        assert '"June"' in await model.refused("check_batch_call", "invalid_input", **given)
        checked = await model.call("check_batch_call", **given, sheet="June")
    assert [task["to_number"] for task in checked["sample"]] == ["+14155550101"]


async def test_nobody_lists_reads_removes_or_calls_another_callers_list(office: Office) -> None:
    name = await office.uploaded()
    assert await office.names(ANOTHER) == []
    for method in ("GET", "DELETE"):
        answer = await office.http.request(method, f"{office.url}/files/{name}", headers=ANOTHER)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    async with office.model(ANOTHER) as model:
        text = await model.refused("check_batch_call", "invalid_input", tasks_file=name, from_number=FROM)
        assert "There is none" in text
        assert "files" not in await model.call("get_backend")
    assert await office.names() == [name]


async def test_a_stranger_stores_nothing_and_learns_nothing(office: Office) -> None:
    name = await office.uploaded()
    for method, path in (("POST", "/files?name=p.csv"), ("GET", "/files"), ("GET", f"/files/{name}")):
        answer = await office.http.request(method, office.url + path, headers=STRANGER, content=CSV)
        assert (answer.status_code, answer.json()["error"]) == (401, "authentication_failed")
        assert "made-up" not in answer.text
    assert await office.names() == [name]
    assert [event["outcome"] for event in office.audited()] == ["done"]


async def test_without_headers_nobody_gets_in(office: Office) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{office.url}/files?name=p.csv", content=CSV)
    assert answer.status_code == 401
    assert "X-API-KEY is missing" in answer.json()["message"]
    assert office.left_behind() == []


async def test_a_page_of_another_origin_is_refused(office: Office) -> None:
    answer = await office.send(CSV, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    answer = await office.send(CSV, headers={"Host": "evil.example"})
    assert answer.status_code == 421
    assert office.left_behind() == []


NOT_LISTS = [
    ("p.csv", b"PK\x03\x04rest", 400, "Excel workbook"),
    ("p.csv", b'{"phone": "+14155550101"}\n', 400, "JSON objects"),
    ("p.csv", b"<!doctype html><p>", 400, "web page"),
    ("p.csv", b"phone,name\n", 400, "no rows"),
    ("p.csv", b'phone,name\n+14155550101,"Ada\n', 400, "never closed"),
    ("p.csv", b"phone\n\x00\x01\x02\n", 400, "NUL"),
    ("p.xlsx", CSV, 400, "not an Excel workbook"),
    ("p.xlsx", b"PK\x03\x04rest", 400, "damaged"),
    ("p.jsonl", CSV, 400, "not JSON objects"),
    ("p.jsonl", b'[{"phone": "+14155550101"}]', 400, "JSON array"),
    ("p.csv", b"", 400, "no body"),
    ("p.exe", CSV, 415, "must end as one of"),
    ("", CSV, 400, "Name the file"),
]


async def test_what_is_not_a_list_is_refused_at_once(office: Office) -> None:
    for name, content, status, says in NOT_LISTS:
        answer = await office.send(content, name)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"] == "invalid_input"
        assert says in answer.json()["message"]
        assert "Ada" not in answer.text
    assert await office.names() == []
    assert not list((office.data_dir / "incoming").glob("*"))


async def test_a_form_and_a_packed_body_are_refused_with_the_line_that_works(office: Office) -> None:
    for more in ({"Content-Type": "multipart/form-data; boundary=x"}, {"Content-Encoding": "gzip"}):
        answer = await office.send(CSV, headers=more)
        assert answer.status_code == 415
        assert "curl --data-binary @people.csv" in answer.json()["message"]


async def test_a_name_with_odd_characters_makes_no_path(office: Office) -> None:
    for written in ("../../etc/passwd.csv", "C:\\Users\\me\\a list.csv", 'x"; rm -rf / #\r\nX: y.csv', "名.csv"):
        name = await office.uploaded(name=written)
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
        answer = await office.http.get(f"{office.url}/files/{name}")
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    for path in ("/files/..%2F..%2Fledger.db", "/files/%00", "/files/" + "x" * 5000, "/files/a/b"):
        answer = await office.http.get(office.url + path)
        assert answer.status_code == 404
    assert {path.name for path in office.data_dir.glob("*/")} <= {"incoming", "owners"}


async def test_a_file_is_read_back_as_an_attachment_and_removed(office: Office) -> None:
    name = await office.uploaded()
    answer = await office.http.get(f"{office.url}/files/{name}")
    assert (answer.status_code, answer.content) == (200, CSV)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert (await office.http.delete(f"{office.url}/files/{name}")).status_code == 200
    assert (await office.http.get(f"{office.url}/files/{name}")).status_code == 404
    assert (await office.http.put(f"{office.url}/files/{name}", content=CSV)).headers["allow"] == "GET, DELETE"


async def test_an_upload_is_one_audit_line_without_a_name_or_a_number(office: Office) -> None:
    await office.uploaded(name="customers of Acme.csv")
    (event,) = office.audited()
    assert (event["tool"], event["operation"], event["outcome"]) == ("files", "upload", "done")
    written = (office.data_dir / "audit.jsonl").read_text(encoding="utf-8")
    assert not any(word in written for word in ("4155550", "Acme", "customers", ONE["X-API-KEY"], ONE["X-API-SECRET"]))


async def test_no_key_is_logged(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    await office.uploaded()
    await office.send(CSV, headers=STRANGER)
    await office.http.get(f"{office.url}/files/none.csv")
    assert not any(word in caplog.text for word in (ONE["X-API-KEY"], ONE["X-API-SECRET"], "made-up", "+1415555"))


async def test_a_model_that_names_an_unknown_list_is_shown_how_to_upload_one(office: Office) -> None:
    async with office.model() as model:
        for name in ("customers.csv", "/etc/passwd", "../files.db", str(office.data_dir / "audit.jsonl")):
            text = await model.refused("create_batch_call", "invalid_input", tasks_file=name, from_number=FROM)
            assert (
                "curl --data-binary @people.csv -H 'X-API-KEY: KEY' -H 'X-API-SECRET: SECRET' "
                f"'{office.url}/files?name=people.csv'"
            ) in text
            assert ONE["X-API-KEY"] not in text
    assert office.vendor.writes == []


def test_the_address_is_the_one_that_was_asked_for() -> None:
    assert files_url({"host": "localhost:8000"}) == "http://localhost:8000/files"
    assert files_url({"host": "mcp.example.com", "x-forwarded-proto": "https"}) == "https://mcp.example.com/files"
    assert files_url({"host": "[::1]:8000", "x-forwarded-proto": "javascript"}) == "http://[::1]:8000/files"
    for odd in ("localhost:8000' ; rm -rf ~", "localhost:80@evil", "", "a b", "h:8000/x"):
        assert files_url({"host": odd}) is None
    assert "'https://THIS-SERVER/files?name=people.csv'" in upload_line(None, needs_secret=True)
    assert "SECRET" not in upload_line(None, needs_secret=False)


async def test_too_many_people_in_one_request_is_answered_with_the_line_that_uploads_them(office: Office) -> None:
    answer = await office.http.post(
        f"{office.url}/mcp",
        content=b"{" + b" " * 5_000_000,
        headers={"Accept": "application/json, text/event-stream", "Content-Type": "application/json"},
    )
    assert answer.status_code == 413
    assert f"'{office.url}/files?name=people.csv'" in answer.json()["error"]["message"]


async def test_an_export_is_kept_behind_a_url_for_its_own_caller(office: Office) -> None:
    name = await office.uploaded()
    async with office.model() as model:
        made = await model.call("create_batch_call", tasks_file=name, from_number=FROM)
        exported = await model.call("export_batch_call", batch_call_id=made["batch_call"]["batch_call_id"])
        pending = await model.call(
            "export_batch_call", batch_call_id=made["batch_call"]["batch_call_id"], task_status=["completed"]
        )
    assert (exported["rows"], pending["rows"]) == (2, 0)
    assert "whole as the resource" in pending["summary"]
    answer = await office.http.get(exported["file"])
    assert (answer.status_code, answer.text.count("\r\n")) == (200, 3)
    assert "+14155550101" in answer.text
    assert (await office.http.get(exported["file"], headers=ANOTHER)).status_code == 404
    assert exported["file"].removeprefix(f"{office.url}/files/") in await office.names()

    async with office.model() as model:
        text = await model.refused(
            "check_batch_call", "invalid_input", tasks_file=exported["file"].rpartition("/")[2], from_number=FROM
        )
        assert "not a list that you have uploaded" in text


async def test_an_export_that_cannot_be_kept_is_still_a_resource(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office.model() as model:
        made = await model.call("create_batch_call", tasks=[{"to_number": "+14155550101"}], from_number=FROM)
        monkeypatch.setattr(store_module, "MOST_BYTES_PER_CALLER", 10)
        exported = await model.call("export_batch_call", batch_call_id=made["batch_call"]["batch_call_id"])
    assert "file" not in exported
    assert exported["resource"] in exported["summary"]


async def test_more_than_the_quota_is_refused_before_it_is_sent(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_FILES_PER_CALLER", 1)
    name = await office.uploaded()
    answer = await office.send(CSV)
    assert (answer.status_code, answer.json()["error"]) == (413, "quota_exceeded")
    assert await office.names() == [name]
    monkeypatch.setattr(store_module, "MOST_BYTES", 10)
    answer = await office.send(CSV, headers=ANOTHER)
    assert answer.status_code == 507


@dataclass
class Door:
    """The routes alone, with a body that a test hands over piece by piece."""

    routes: FileRoutes
    answered: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        found: int = self.answered[0]["status"]
        return found

    @property
    def answer(self) -> Any:
        return json.loads(b"".join(one.get("body", b"") for one in self.answered[1:]))

    async def send(self, receive: Callable[[], Any], length: int | None = None) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in PAIR.items()]
        headers += [(b"content-length", str(length).encode())] if length is not None else []
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/files",
            "query_string": b"name=people.csv",
            "headers": [*headers, (b"host", b"localhost:8000")],
            "user": caller_of("the caller"),
        }

        async def send(message: Message) -> None:
            self.answered.append(message)

        await self.routes(scope, receive, send)


def pieces_of(pieces: Iterator[bytes]) -> Callable[[], Any]:
    async def receive() -> Message:
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return receive


async def never() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


@asynccontextmanager
async def door(ask: Callable[[Credentials], Any] | None = None, **options: Any) -> AsyncIterator[Door]:
    settings = Settings(
        **{"backend": "zudu", "url": "http://127.0.0.1:9"} | Settings.load().model_dump(include={"data_dir"})
    )
    service = Service(settings, local=False)
    async with service.opened():
        checks = PairChecks(AcceptedPairs(ask), settings, needs_secret=True)

        async def nowhere(*_: Any) -> None:
            raise AssertionError("it is served here")

        yield Door(FileRoutes(nowhere, service, checks, **options))


async def test_of_a_strangers_body_nothing_is_read() -> None:
    async def no(_: Credentials) -> bool:
        return False

    async with door(no) as one:
        await one.send(never)
        assert one.status == 401


async def test_while_the_backend_is_down_nothing_is_read_or_stored() -> None:
    async def down(_: Credentials) -> bool:
        raise BackendUnavailable("The backend does not answer. Nothing was sent. Try again later.")

    async with door(down) as one:
        await one.send(never)
        assert (one.status, one.answer["error"]) == (503, "backend_unavailable")
        assert not list(Settings.load().data_dir.glob("**/files.db"))


async def test_a_file_that_says_that_it_is_too_large_is_refused_unread() -> None:
    async with door(largest_bytes=1000) as one:
        await one.send(never, length=1001)
        assert (one.status, one.answer["error"]) == (413, "quota_exceeded")


async def test_a_file_that_turns_out_too_large_is_refused_while_it_arrives() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100

    async with door(largest_bytes=1000) as one:
        await one.send(pieces_of(endless()))
        assert (one.status, taken) == (413, 11)


async def test_a_sender_that_falls_silent_is_not_waited_for() -> None:
    async with door(longest_silence_s=0.01) as one:
        await one.send(never)
        assert one.status == 408
        assert not list((Settings.load().data_dir / "incoming").iterdir())


async def test_a_sender_that_goes_away_leaves_nothing() -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async with door() as one:
        await one.send(gone)
        assert one.status == 400
        assert not list((Settings.load().data_dir / "incoming").iterdir())


async def test_one_caller_sends_two_files_at_once_and_not_three() -> None:
    async with door() as one:
        begun = [anyio.Event(), anyio.Event()]

        def waiting(mine: anyio.Event) -> Callable[[], Any]:
            async def receive() -> Message:
                mine.set()
                return await never()

            return receive

        async with anyio.create_task_group() as group:
            for event in begun:
                group.start_soon(Door(one.routes).send, waiting(event))
            for event in begun:
                await event.wait()
            await one.send(never)
            group.cancel_scope.cancel()
        assert (one.status, one.answer["error"]) == (429, "rate_limited")
        again = Door(one.routes)
        await again.send(pieces_of(iter([CSV])))
        assert again.status == 201, "the places are free again"


async def test_memory_does_not_grow_with_the_file() -> None:
    """20 MB, of which no part of the way holds more than a few pieces."""
    row = b"+14155550101," + b"x" * 986 + b"\n"
    async with door() as one:
        await Door(one.routes).send(pieces_of(iter([CSV])))  # what is imported and opened once
        tracemalloc.start()
        await one.send(pieces_of(iter([b"phone,notes\n", *([row] * 20_000)])))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (one.status, one.answer["rows"]) == (201, 20_000)
    assert peak < 6_000_000


async def test_a_server_that_starts_removes_what_is_over_and_what_a_killed_process_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(backend="zudu", url="http://127.0.0.1:9", data_dir=tmp_path)
    store = FileStore.open(settings, lambda: utc_now() - KEPT_FOR)
    old = store.keep("somebody", "people-0.csv", "list", [CSV], 2)
    left, in_use = tmp_path / "incoming" / "left", tmp_path / "incoming" / "in-use"
    for folder in (left, in_use):
        folder.mkdir(parents=True)
        (folder / "people.csv").write_bytes(CSV)
    os.utime(left, (0, 0))

    monkeypatch.setattr(service_module, "_HEAD_START_S", 0)
    async with Service(settings, local=False).opened():
        with anyio.fail_after(60):
            while store.part(old, 0) is not None:
                await anyio.lowlevel.checkpoint()
    assert (left.exists(), in_use.exists()) == (False, True)
    store.close()
