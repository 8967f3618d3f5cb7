"""Every page of the documentation is taken from top to bottom: each code block on it runs, or is judged.

`tests/documented/pages.py` says what a page is made of, and how to add to one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

import pytest

from tests.documented.events import is_like
from tests.documented.markdown import Block, inline_code, parts_of
from tests.documented.not_run import NOT_RUN, check, exists, reason_for
from tests.documented.pages import NobodyJudges, Words, holds, pages, prints, steps_of, typed
from tests.documented.reader import follow
from tests.server.transports import ROOT

PAGES = {page.relative_to(ROOT).as_posix(): page for page in pages()}
BY_THEIR_OWN_TEST = {
    "docs/backup.md": "tests/operator/test_backup_page.py",  # a restore, on both databases
    "docs/tutorial.md": "tests/documented/test_tutorial.py",  # two terminals, and a person who types at them
}
"""Pages whose steps another test takes; here their blocks are only read."""
WITH_BLOCKS = [name for name, page in PAGES.items() if "```" in page.read_text(encoding="utf-8")]
PEOPLE = """
```csv customers.csv
phone,name
+1 212 555 0140,Ada
+1 212 555 0142,Ben
+1 212 555 0147,Cy
```
"""
BEFORE = {
    "docs/dialer.md": "<!-- run: backend=batchcall -->",
    "docs/http.md": "<!-- run: over=http -->",
    "docs/operating.md": """
<!-- run: BATCHCALL_SIMULATED_SPEED=1 -->
```json
{"tool": "create_batch_call", "arguments": {"from_number": "+14155550100", "max_concurrency": 5, "tasks": [MANY]}}
```
```json
{"tool": "start_batch_call", "arguments": {"batch_call_id": "…", "trigger_timestamp": "now"}}
```
""".replace("MANY", ", ".join(f'{{"to_number": "+1212555{last:04}"}}' for last in range(100, 160))),
    "skills/call-a-list/SKILL.md": "<!-- run: today=2026-11-26 -->" + PEOPLE,
    "skills/who-did-we-miss/SKILL.md": PEOPLE
    + """
```json
{"tool": "create_batch_call", "arguments": {"from_number": "+14155550100", "tasks_file": "customers.csv"}}
```
```json
{"tool": "start_batch_call", "arguments": {"batch_call_id": "…", "trigger_timestamp": "now"}}
```
```json
{"tool": "watch_batch_call", "arguments": {"batch_call_id": "…", "timeout_seconds": 20}}
```
""",
    "skills/unattended-reminders/SKILL.md": "<!-- run: person=none -->"
    + PEOPLE
    + "```text do-not-call.txt\n+12125550147\n```\n",
}
"""What is there before a page begins, and is no part of it."""


@pytest.mark.parametrize("name", WITH_BLOCKS)
async def test_every_block_of_a_page_does_what_the_page_says(name: str, tmp_path: Path) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    if name in BY_THEIR_OWN_TEST:
        own = (ROOT / BY_THEIR_OWN_TEST[name]).read_text(encoding="utf-8")
        assert f'"docs" / "{PAGES[name].name}"' in own, "the test that takes its steps reads the page"
        assert steps_of(text, datetime.now(UTC).date())
        return
    await follow(text, tmp_path, name=name, before=BEFORE.get(name, ""))


@cache
def blocks_of_all() -> dict[str, list[Block]]:
    """The code blocks of each page; to read them all takes a second."""
    return {
        name: [part for part in parts_of(page.read_text(encoding="utf-8")) if isinstance(part, Block)]
        for name, page in PAGES.items()
    }


def test_no_page_has_a_block_that_only_an_indentation_makes() -> None:
    """It would have no language; and the pages without a fence are not followed."""
    bare = [
        f"{name}:{block.line}" for name, blocks in blocks_of_all().items() for block in blocks if not block.language
    ]
    assert bare == [], "write ```sh, ```json, … above each, and ``` below it; tests/documented/pages.py lists them"


def test_every_command_within_a_sentence_is_one() -> None:
    """Of ours the name and the options, whose values may be left out, or be names; of other programs as `not_run`."""
    found = [
        (f"{name}:{line}", code)
        for name, page in PAGES.items()
        if name != "CHANGELOG.md"  # what earlier versions had
        for line, code in inline_code(page.read_text(encoding="utf-8"))
    ]
    ours = [one for one in found if one[1].startswith("batchcall-mcp ")]
    assert len(ours) > 60
    assert [one for one in ours if not exists(one[1].split()[1:])] == []
    for _, code in found:
        if code.startswith(("claude ", "code ", "docker compose ", "gemini ", "make ", "uv ")):
            check(code)


def test_every_reason_not_to_run_a_line_is_that_of_a_line() -> None:
    """So the table has no more exceptions than the pages need."""
    shells = [
        block.text for blocks in blocks_of_all().values() for block in blocks if block.language in ("sh", "console")
    ]
    given = {reason_for(line.removeprefix("$ ")) for text in shells for line in text.splitlines()} - {None}
    assert given == set(NOT_RUN.values())


OVER_HTTP = """
<!-- run: over=http person=none -->
```sh
batchcall-mcp serve --port 8000   # the server
curl -s http://127.0.0.1:8000/healthz
```
```text
ok
```
```json
{"tool": "create_batch_call", "arguments": {"from_number": "+14155550100", "tasks": [{"to_number": "+14155550101"}]}}
```
```json
{"tool": "start_batch_call", "arguments": {"batch_call_id": "…", "trigger_timestamp": "now"}}
```
```json
{"result": "confirmation_required"}
```
```json
{"tool": "start_batch_call", "arguments": {"batch_call_id": "…", "trigger_timestamp": "now", "confirmation_code": "…"}}
```
```json
{"result": "started"}
```
"""


async def test_a_page_over_http_with_a_shell_and_codes_can_be_followed(tmp_path: Path) -> None:
    await follow(OVER_HTTP, tmp_path)


@pytest.mark.parametrize(
    ("shown", "promised", "line"),
    [
        ('"result": "started"', '"result": "paused"', 22),
        ("\nok\n", "\nnot ok\n", 7),
        ("/healthz", "/no-such-page -f", 3),
    ],
)
async def test_a_page_that_promises_something_else_is_refused(
    shown: str, promised: str, line: int, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError) as caught:
        await follow(OVER_HTTP.replace(shown, promised), tmp_path)
    assert f"--- page, line {line}: " in "".join(caught.value.__notes__)


@pytest.mark.parametrize("backend", ["zudu", "magpipe", "batchcall"])
async def test_a_page_may_name_its_backend(backend: str, tmp_path: Path) -> None:
    page = '```json\n{"tool": "get_backend"}\n```\n```json\n{"backend": "NAME"}\n```\n'.replace("NAME", backend)
    await follow(f"<!-- run: backend={backend} -->\n{page}", tmp_path)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("Text\n\n```ruby\nputs\n```\n", "line 3: nobody judges a block of ruby"),
        ("```\nputs\n```\n", "line 1: this block has no language"),
        ("Text\n\n    puts\n", "line 3: this block has no language"),
        ("- Text\n\n  ```\n  puts\n  ```\n", "line 3: this block has no language"),
        ("```json\n{\n```\n", "line 1: Expecting"),
    ],
)
def test_a_block_that_nobody_judges_is_refused_with_its_line(page: str, said: str) -> None:
    with pytest.raises(NobodyJudges, match=said):
        steps_of(page, datetime.now(UTC).date())


@pytest.mark.parametrize(
    ("change", "is_it"),
    [
        ({}, True),
        ({"at": "2026-12-01T10:00:00+00:00"}, True),
        ({"at": "tomorrow"}, False),
        ({"calls": 3}, False),
        ({"number": "+12125550100"}, False),
        ({"id": "task_1"}, False),
    ],
)
def test_a_body_is_shown_whole(change: dict[str, object], is_it: bool) -> None:
    shown = {"at": "2026-11-27T10:00:00+00:00", "calls": 2, "id": "batch_call_…"}
    body = {"at": "2026-11-27T10:00:00.5+00:00", "calls": 2, "id": "batch_call_1"}
    assert is_like(shown, body | change) is is_it


def test_the_dates_of_a_page_move_with_today() -> None:
    page = '<!-- run: today=2026-11-26 -->\n```json\n{"tool": "x"}\n```\n> On 2026-11-27, not 2026-11-25.\n'
    assert (5, Words("On 2027-03-02, not 2027-02-28.")) in steps_of(page, date(2027, 3, 1))


@pytest.mark.parametrize(("words", "found"), [("Call 3 people … now", True), ("now … Call", False)])
def test_words_of_a_page_stand_in_the_answer_in_their_order(words: str, found: bool) -> None:
    assert holds("Call 3 people\n(3 United States) now", words) is found


@pytest.mark.parametrize(
    ("shown", "does"),
    [
        ("one 1\ntwo", True),
        ("one …\n…o", True),
        ("…\ntwo", True),
        ("one 1", False),
        ("two\none 1", False),
        ("one 1\n…\ntwo\n…", True),
    ],
)
def test_a_console_shows_all_that_is_printed_or_where_it_does_not(shown: str, does: bool) -> None:
    assert prints("one 1\ntwo\n", shown) is does


CONSOLE = """
```console
$ export NAME=Ada
$ mkdir deep && cd deep
```
```console
$ echo "$NAME" in "$(basename "$PWD")"
Ada in deep
$ echo sk_a1b2 and sk_c3d4.
sk_… and sk_….
$ printf 'last: %s\\n' sk_…
last: sk_c3d4
```
"""


async def test_a_console_is_one_terminal(tmp_path: Path) -> None:
    await follow(CONSOLE, tmp_path)


async def test_a_console_that_prints_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="is not what it says"):
        await follow(CONSOLE.replace("Ada in deep", "Ada in the deep"), tmp_path)


def test_what_was_never_printed_cannot_be_typed() -> None:
    with pytest.raises(ValueError, match="nothing like sk_…"):
        typed("revoke sk_…", "no key")
