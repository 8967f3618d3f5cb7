"""The adapter kit: requests as vendors want them, lists in pages of every kind, words for states, times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from batchcall_mcp.clock import from_ms
from batchcall_mcp.errors import BackendUnavailable, InvalidInput, NotFound, UnexpectedResponse
from batchcall_mcp.model import CallingWindow, CallTask, Counts, TaskStatus, Turn
from batchcall_mcp.vendor_http.client import BackendHttp, CallerHttp, open_client
from batchcall_mcp.vendor_http.http_call import FormFile, HttpCall, csv_of, given
from batchcall_mcp.vendor_http.json_values import inside, members, usd
from batchcall_mcp.vendor_http.paging import (
    CursorPages,
    InlinePages,
    JoinedPages,
    LatestPages,
    OffsetPages,
    Pages,
    each,
)
from batchcall_mcp.vendor_http.status_map import StatusMap, counts_of
from batchcall_mcp.vendor_http.times import (
    days_of,
    epoch_ms,
    epoch_s,
    iso_offset,
    iso_z,
    minutes_of,
    next_mark,
    slots_of,
    window_of,
)
from batchcall_mcp.vendor_http.transcripts import turns_in
from tests.backends.recorder import CREDENTIALS, Asked, Status, Vendor

SECOND = datetime(2026, 12, 1, 9, 0, 0, 1, tzinfo=UTC)
"""A microsecond after nine."""
NUMBERS = list(range(23))


def paged(asked: Asked) -> dict[str, Any]:
    page, size = (int(asked.query[name][0]) for name in ("page", "size"))
    return {"data": {"rows": [{"n": n} for n in NUMBERS[page * size : (page + 1) * size]]}}


def chained(asked: Asked) -> dict[str, Any]:
    begin = int(asked.query.get("after", ["0"])[0])
    rows = [{"n": n} for n in NUMBERS[begin : begin + 7]]
    return {"rows": rows, "next": str(begin + 7) if begin + 7 < len(NUMBERS) else None}


ALL_ROWS = [{"n": n} for n in NUMBERS]
DATED = [{"n": n, "at": f"2026-12-{31 - n:02d}"} for n in NUMBERS]
"""Newest first."""


async def answered(value: bool) -> bool:
    return value


async def halves() -> list[tuple[HttpCall, dict[str, Any]]]:
    return [(HttpCall("GET", "/odd"), {"half": "odd"}), (HttpCall("GET", "/rest"), {"half": "even"})]


PAGES: dict[str, Pages] = {
    "numbered": OffsetPages(
        lambda page, size: HttpCall("GET", "/paged", query={"page": page, "size": size}), "data.rows", 5
    ),
    "chained": CursorPages(
        lambda cursor: HttpCall("GET", "/chained", query=given(after=cursor)), "rows", lambda answer: answer["next"]
    ),
    "in one answer": InlinePages(HttpCall("GET", "/inline"), "rows"),
    "a bare array": InlinePages(HttpCall("GET", "/array"), None),
    "in several answers": JoinedPages(halves, "at"),
}
PAGES["each of them once"] = LatestPages(PAGES["numbered"], "n", lambda: answered(False))
PAGES["the last of each"] = LatestPages(PAGES["numbered"], "n", lambda: answered(True))


@pytest.fixture
def vendor() -> Vendor:
    return Vendor(
        {
            "GET /paged": paged,
            "GET /chained": chained,
            "GET /inline": {"rows": ALL_ROWS},
            "GET /array": Status(200, ALL_ROWS),
            "GET /odd": Status(200, DATED[1::2]),
            "GET /rest": Status(200, DATED[::2]),
        }
    )


@asynccontextmanager
async def caller_of(vendor: Vendor, url: str = "http://vendor") -> AsyncIterator[CallerHttp]:
    async with vendor.http(url) as http:
        yield http.caller(CREDENTIALS, {"x-key": "sk_test"})


def even(row: Mapping[str, Any]) -> int | None:
    return int(row["n"]) if row["n"] % 2 == 0 else None


class TestPages:
    @pytest.mark.parametrize("kind", PAGES)
    @pytest.mark.parametrize("limit", [1, 4, 7, 12, 50])
    async def test_each_entry_comes_once_in_its_order_and_the_last_page_has_no_cursor(
        self, vendor: Vendor, kind: str, limit: int
    ) -> None:
        found: list[int] = []
        cursor: str | None = None
        async with caller_of(vendor) as http:
            for _ in range(30):
                page = await PAGES[kind].scan(http, "list", even, cursor=cursor, limit=limit)
                assert len(page.found) <= limit
                found += page.found
                cursor = page.next_cursor
                if cursor is None:
                    break
        assert (found, cursor) == (NUMBERS[::2], None)

    @pytest.mark.parametrize("kind", PAGES)
    @pytest.mark.parametrize("cursor", ["x", "-1", "bnVsbA", "A" * 9000, "[]"])
    async def test_a_cursor_that_is_not_ours_is_refused_before_anything_is_asked(
        self, vendor: Vendor, kind: str, cursor: str
    ) -> None:
        async with caller_of(vendor) as http:
            with pytest.raises(InvalidInput, match="cursor"):
                await PAGES[kind].scan(http, "list", even, cursor=cursor, limit=5)
        assert vendor.asked == []

    async def test_a_vendor_whose_cursor_leads_to_itself_is_left(self, vendor: Vendor) -> None:
        vendor.answers["GET /chained"] = {"rows": [{"n": 1}], "next": "same"}
        async with caller_of(vendor) as http:
            with pytest.raises(UnexpectedResponse, match="no end"):
                await PAGES["chained"].scan(http, "list", even, cursor=None, limit=5)

    @pytest.mark.parametrize("kind", PAGES)
    async def test_an_answer_without_the_list_is_an_error_and_not_an_empty_list(
        self, vendor: Vendor, kind: str
    ) -> None:
        vendor.answers = {asked: {"rows": None, "data": None} for asked in vendor.answers}
        async with caller_of(vendor) as http:
            with pytest.raises(UnexpectedResponse):
                await PAGES[kind].scan(http, "list", even, cursor=None, limit=5)

    async def test_somebody_who_was_called_again_is_there_once_with_the_last_call(self, vendor: Vendor) -> None:
        calls = [{"n": 2, "call": 1}, {"n": 4, "call": 2}, {"n": 2, "call": 3}, {"n": 6, "call": 4}]
        vendor.answers["GET /paged"] = {"data": {"rows": calls}}
        async with caller_of(vendor) as http:
            pages = PAGES["the last of each"]
            page = await pages.scan(http, "list", lambda row: (row["n"], row["call"]), cursor=None, limit=2)
            rest = await pages.scan(http, "list", lambda row: (row["n"], row["call"]), cursor=page.next_cursor, limit=2)
        assert (page.found, rest.found, rest.next_cursor) == (((2, 3), (4, 2)), ((6, 4),), None)

    async def test_what_is_no_object_is_counted(self, vendor: Vendor) -> None:
        vendor.answers["GET /array"] = Status(200, [1, {"n": 2}, None])
        async with caller_of(vendor) as http:
            page = await PAGES["a bare array"].scan(http, "list", even, cursor=None, limit=5)
        assert (page.found, page.unreadable) == ((2,), 2)


async def test_reads_side_by_side_come_in_their_order_and_one_that_fails_is_the_error() -> None:
    async def read(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        if number == 7:
            raise NotFound("no 7")
        return 10 * number

    assert await each([3, 1, 2], read) == [30, 10, 20]
    with pytest.raises(NotFound, match="no 7"):
        await each([1, 7, 7, 2], read)


class TestRequests:
    async def test_a_form_is_multipart_with_its_files_and_repeated_names(self, vendor: Vendor) -> None:
        form: dict[str, str | list[str] | FormFile] = {
            "agent_id": "a",
            "from": ["+1", "+2"],
            "file": FormFile("list.csv", b"contact_number\n+1\n"),
        }
        request = await sent(vendor, HttpCall("POST", "/batches", form=form))
        assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
        body = request.content
        assert body.count(b'name="from"') == 2
        assert b'name="file"; filename="list.csv"\r\nContent-Type: text/csv\r\n\r\ncontact_number\n+1\n' in body
        assert b'name="agent_id"\r\n\r\na\r\n' in body

    async def test_a_form_without_a_file_is_multipart_too(self, vendor: Vendor) -> None:
        request = await sent(vendor, HttpCall("POST", "/batches", form={"scheduled_at": "now"}))
        assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert b"filename" not in request.content

    async def test_an_urlencoded_form_is_escaped_and_repeats_names(self, vendor: Vendor) -> None:
        form: dict[str, str | list[str]] = {"To": "+1212", "Twiml": "<Say>Zoë & co</Say>", "Event": ["ringing", "end"]}
        request = await sent(vendor, HttpCall("POST", "/Calls.json", urlencoded=form))
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        assert request.content == b"To=%2B1212&Twiml=%3CSay%3EZo%C3%AB+%26+co%3C%2FSay%3E&Event=ringing&Event=end"

    async def test_json_is_ascii_and_headers_of_one_request_join_the_callers(self, vendor: Vendor) -> None:
        request = await sent(vendor, HttpCall("POST", "/batches", json={"name": "Zoë"}, headers={"x-version": "2"}))
        assert request.content == b'{"name":"Zo\\u00eb"}'
        assert (request.headers["x-version"], request.headers["x-key"]) == ("2", "sk_test")

    @pytest.mark.parametrize("bad", ["", ".", "..", "../x", "a" * 201])
    def test_an_id_never_leads_to_another_path(self, bad: str) -> None:
        call = HttpCall("GET", "/batches/{id}/x")
        if bad == "../x":
            assert call.at(id=bad).path == "/batches/..%2Fx/x"
        else:
            with pytest.raises(NotFound, match="Nothing was sent"):
                call.at(id=bad)

    async def test_an_upload_goes_to_the_named_address_without_the_key(self, vendor: Vendor) -> None:
        seen = []

        def handle(request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            return httpx2.Response(200)

        vendor.handle = handle  # type: ignore[method-assign]
        async with caller_of(vendor) as http:
            await http.upload("upload the list", "https://bucket.example/k?sig=1", b"a\n", "text/csv")
        assert str(seen[0].url) == "https://bucket.example/k?sig=1"
        assert (seen[0].method, seen[0].content, seen[0].headers["content-type"]) == ("PUT", b"a\n", "text/csv")
        assert not any("sk_test" in value or "s3cr3t" in value for value in seen[0].headers.values())

    @pytest.mark.parametrize(
        "url",
        [
            *("ftp://x/y", "http://user:word@x/y", "x", "http://plain.example/k", "https://localhost/k"),
            *("https://10.0.0.1/k", "https://169.254.169.254/k", "https://[::1]/k", "https://[fd00::1]:9000/k"),
        ],
    )
    async def test_an_upload_goes_nowhere_odd(self, vendor: Vendor, url: str) -> None:
        async with caller_of(vendor, "https://api.vendor.example") as http:
            with pytest.raises(UnexpectedResponse, match="Nothing was changed"):
                await http.upload("upload the list", url, b"", "text/csv")
        assert vendor.asked == []

    async def test_a_storage_that_is_not_there_is_named_without_what_opens_it(self) -> None:
        """A signed address is a permission of its own."""
        async with open_client() as client:
            http = BackendHttp(client, "http://127.0.0.1:9", 5, sleep=lambda _s: anyio.lowlevel.checkpoint()).caller(
                CREDENTIALS, {}
            )
            with pytest.raises(BackendUnavailable) as refused:
                await http.upload("upload the list", "http://127.0.0.1:9/bucket/k?sig=s1gnature", b"", "text/csv")
        assert "could not be reached at http://127.0.0.1:9. " in refused.value.message
        assert not any(word in refused.value.message for word in ("s1gnature", "bucket"))

    async def test_an_upload_that_is_refused_is_an_error(self, vendor: Vendor) -> None:
        async with caller_of(vendor) as http:
            vendor.answers["PUT /k"] = Status(503, {})
            with pytest.raises(BackendUnavailable, match="upload the list"):
                await http.upload("upload the list", "https://bucket.example/k", b"", "text/csv")

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_storage_that_refuses_a_file_says_nothing_of_the_key(self, vendor: Vendor, status: int) -> None:
        async with caller_of(vendor) as http:
            vendor.answers["PUT /k"] = Status(status, {})
            with pytest.raises(UnexpectedResponse, match="the storage that the backend named for it") as refused:
                await http.upload("upload the list", "https://bucket.example/k", b"", "text/csv")
        assert "key" not in refused.value.message

    def test_a_list_is_csv_with_a_column_for_each_variable(self) -> None:
        tasks = [
            CallTask(to_number="+1", dynamic_variables={"name": 'Ann "A", B', "plan": "=1+1"}),
            CallTask(to_number="+2", dynamic_variables={"city": "Köln\nx"}),
        ]
        assert csv_of(tasks, "contact_number").decode() == (
            'contact_number,name,plan,city\n+1,"Ann ""A"", B",=1+1,\n+2,,,"Köln\nx"\n'
        )
        with pytest.raises(InvalidInput, match="another name"):
            csv_of([CallTask(to_number="+1", dynamic_variables={"number": "1"})], "number")


class TestValues:
    def test_a_second_member_refines_a_state_and_both_words_are_shown(self) -> None:
        states = StatusMap(
            {"ended": TaskStatus.COMPLETED, "ongoing": TaskStatus.CALLING},
            TaskStatus.UNKNOWN,
            refine=("why", {"dial_busy": TaskStatus.BUSY}),
        )
        assert states.read({"status": "Ended"}) == (TaskStatus.COMPLETED, "Ended")
        assert states.read({"status": "ended", "why": "dial_busy"}) == (TaskStatus.BUSY, "ended: dial_busy")
        assert states.read({"status": "ended", "why": "moon"}) == (TaskStatus.COMPLETED, "ended: moon")
        assert states.read({"status": "moon"}) == (TaskStatus.UNKNOWN, "moon")
        assert states.read({}) == (TaskStatus.UNKNOWN, None)
        assert states.words_for({TaskStatus.CALLING, TaskStatus.BUSY}) == ["ongoing"]

    def test_counts_are_those_of_states_that_the_vendor_reports(self) -> None:
        states = [TaskStatus.PENDING, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.FAILED]
        reported = {TaskStatus.PENDING, TaskStatus.COMPLETED, TaskStatus.FAILED}
        assert counts_of(states, reported, 5) == Counts(
            total=5, pending=1, completed=1, failed=2, sent=3, not_reached=2
        )

    def test_what_a_vendor_counts_by_its_words_is_counted_by_ours(self) -> None:
        words = {"busy": TaskStatus.BUSY, "no": TaskStatus.BUSY, "on": TaskStatus.CALLING}
        states = StatusMap(words, TaskStatus.UNKNOWN)
        found = states.counted({"Busy": 2, "no": "1", "on": 0, "moon": 1, "x": None})
        assert found == {TaskStatus.BUSY: 3, TaskStatus.UNKNOWN: 1}
        assert states.counted(None) == states.counted([1]) == {}
        assert states.reported == (TaskStatus.BUSY, TaskStatus.CALLING)

    def test_a_transcript_of_one_text_is_cut_where_somebody_else_speaks(self) -> None:
        said = "(tone)\nassistant: Hello:\nhow are you?\nUser : Fine.\nassistant:  \n"
        assert turns_in(said) == (
            Turn(speaker="other", text="(tone)"),
            Turn(speaker="agent", text="Hello:\nhow are you?"),
            Turn(speaker="person", text="Fine."),
        )
        assert [turns_in(value) for value in (None, " ", 7.5, ["x"])] == [None] * 4

    def test_dollars_and_cents_are_amounts_and_nothing_else_is(self) -> None:
        assert [str(usd(1.5)), str(usd(14.9, per=100)), str(usd(0))] == ["1.50 USD", "0.149 USD", "0 USD"]
        assert [usd(value) for value in (None, True, "1", -1, float("nan"))] == [None] * 5

    def test_fields_lie_at_paths_and_are_read_by_their_names(self) -> None:
        row = {"id": 7, "meta": {"at": 1700000000, "n": "3"}, "vars": {"a": 1}}
        paths = {"batch_call_id": "id", "created_at": "made|meta.at", "attempts": "meta.n", "dynamic_variables": "vars"}
        assert members(row, paths) == {
            "batch_call_id": "7",
            "created_at": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
            "attempts": 3,
            "dynamic_variables": {"a": "1"},
        }
        assert inside([1], "a.b") is None
        assert inside({"n": ["+1"]}, "n.1|n.0") == "+1"


class TestTimes:
    def test_a_window_is_weekly_slots_and_back(self) -> None:
        window = CallingWindow(start="09:00", end="24:00", days=("mon", "sun"), timezone="Asia/Kolkata")
        slots = slots_of(window, "d", "from", "to")
        assert slots == [{"d": 0, "from": "09:00", "to": "24:00"}, {"d": 6, "from": "09:00", "to": "24:00"}]
        assert window_of(slots, "d", "from", "to", "Asia/Kolkata") == (window, ())
        found, notes = window_of([*slots, {"d": 1, "from": "10:00", "to": "11:00"}], "d", "from", "to", "UTC")
        assert (found, len(notes)) == (None, 1)
        assert window_of(None, "d", "from", "to", None) == (None, ())

    def test_nothing_is_due_before_the_moment_that_was_confirmed(self) -> None:
        assert epoch_s(SECOND) == 1796115601
        assert epoch_ms(SECOND) == 1796115600001
        assert iso_z(SECOND) == "2026-12-01T09:00:00.001Z"
        assert iso_offset(SECOND, "Europe/Berlin") == "2026-12-01T10:00:01+01:00"
        assert iso_offset(SECOND) == "2026-12-01T09:00:01+00:00"

    @for_all(moment=st.integers(0, 4_000_000_000_000).map(from_ms))
    def test_the_next_mark_is_at_most_one_step_later(self, moment: datetime) -> None:
        step = timedelta(minutes=10)
        mark = next_mark(moment, step)
        assert moment <= mark < moment + step
        assert (mark.minute % 10, mark.second, mark.microsecond) == (0, 0, 0)

    def test_a_window_has_minutes_and_names_of_days(self) -> None:
        window = CallingWindow(start="09:30", end="24:00", days=("sun", "mon"))
        assert (minutes_of(window.start), minutes_of(window.end)) == (570, 1440)
        assert days_of(window) == ["Monday", "Sunday"]


async def sent(vendor: Vendor, call: HttpCall) -> httpx2.Request:
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={})

    vendor.handle = handle  # type: ignore[method-assign]
    async with caller_of(vendor) as http:
        await http.write("make it", call)
    return seen[0]
