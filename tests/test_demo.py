"""`batchcall-mcp demo`, as a person runs it; from nothing, and from the wheel, in `test_package.py`."""

import os
import re
import shutil
import subprocess

from tests import forked
from tests.demo_picture import PICTURE, shown_in, stable
from tests.server.transports import ROOT

STORY = [
    "get_backend",
    "check_batch_call",
    "create_batch_call",
    "update_batch_call",
    "start_batch_call",
    "watch_batch_call",
    "get_batch_call",
    "retry_batch_call",
    "watch_batch_call",
    "export_batch_call",
]


def test_the_demo_plays_the_whole_story_and_ends_well() -> None:
    ended = subprocess.run(
        [*forked.program(), "demo"],
        cwd=ROOT,
        env=dict(os.environ) | {"COLUMNS": "250", "BATCHCALL_CONFIRM": "person", "BATCHCALL_BACKEND": "zudu"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    screen = ended.stdout
    assert (ended.returncode, ended.stderr) == (0, ""), screen
    assert re.findall(r"^([a-z]+(?:_[a-z]+)+) \{", screen, re.MULTILINE) == STORY
    assert "188 of 200 rows can be called; 12 are skipped" in screen
    assert screen.count("Call 188 people (170 United States, 18 United Kingdom) now") == 1
    assert screen.count("Call 36 people (32 United States, 4 United Kingdom) now") == 1
    assert screen.count("The demo answers for you: yes") == 2
    assert "completed, 188 of 188 done" in screen
    found = re.search(r"Next: run `(\S+) init`", screen)
    assert found is not None, screen
    assert shutil.which(found[1]) is not None, "the last line is a command that this shell can type"
    assert "224 dials in the carrier's own record" in screen, "188 people, then 36 of them again, and nobody else"
    shown = shown_in(PICTURE.read_text(encoding="utf-8"))
    assert stable(screen).startswith(shown), "The demo says something else: make readme"
