"""The picture of `make demo` in the README, recorded by rich. `make readme` draws it again.

It shows the first part of the story, to the end of the first calls. Ids and durations differ from run to run; all the
rest is held by `tests/test_demo.py`, which compares the picture with the screen of the demo that it plays.
"""

from __future__ import annotations

import inspect
import io
import re
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.text import Text

from batchcall_mcp.cli.demo import play
from tests.server.transports import ROOT

PICTURE = ROOT / "docs" / "images" / "demo.svg"
WIDTH = 100
_LAST = "completed, 188 of 188 done"
_RICHS: str = inspect.signature(Console.export_svg).parameters["code_format"].default
# A picture in a page loads nothing, so that a font from elsewhere would only be an address in it.
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", _RICHS, flags=re.DOTALL)
_SVG = "{http://www.w3.org/2000/svg}"
_DIFFERS = re.compile(r"batch_call_[0-9a-f]+|[0-9]+:[0-9]{2}:[0-9]{2}")
_DRAWN = re.compile(r"[\u2500-\u257f]")
"""Borders and bars, whose length depends on the width of the screen."""


def drawn() -> str:
    """Play the demo, and draw its first part."""
    screen = _console()
    play(screen)
    lines = screen.export_text(styles=True).splitlines()
    end = next(number for number, line in enumerate(lines) if _LAST in line)
    paper = _console()
    paper.print(Text.from_ansi("\n".join([*lines[: end + 1], " "])))
    return paper.export_svg(title="make demo", code_format=_FORMAT, unique_id="demo")


def shown_in(picture: str) -> str:
    """What the picture says without its title, as `stable` gives it."""
    parts = ET.fromstring(picture).iter(f"{_SVG}text")
    return "".join(stable(part.text or "") for part in parts if "clip-path" in part.attrib)


def stable(screen: str) -> str:
    """What a screen says without spaces, however it wraps lines, with "…" for what differs from run to run."""
    return "".join(_DIFFERS.sub("…", _DRAWN.sub(" ", screen)).split())


def _console() -> Console:
    return Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=False)


def main() -> None:
    """Write it."""
    PICTURE.write_text(drawn(), encoding="utf-8")


if __name__ == "__main__":
    main()
