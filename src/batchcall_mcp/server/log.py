"""What is written about a run: one line an event, to stderr (stdout is the protocol's), with nothing private in it.

A line is text, or one JSON object (BATCHCALL_LOG_FORMAT), masked alike.
Phone numbers lose all but their first digits, keys and session ids are blanked, and no library may write at DEBUG,
where the SDK and the HTTP client print whole messages and headers.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

from batchcall_mcp.settings import Settings
from batchcall_mcp.text import FEWEST_HIDDEN

_HIDDEN = "**********"
_SHORTEST_SECRET = 6
"""A shorter one would blank out parts of ordinary words."""
_PHONE = re.compile(
    r"(?<![\w.])"
    r"(?:(?:\+|%2B)\d(?:[ ().-]{0,2}\d){6,14}"  # international, with or without separators
    r"|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"  # national, with separators
    r"|\d{10,15})"  # digits alone, as files have them
    r"(?![\w])",
    re.IGNORECASE,
)
_MOST_SHOWN = 3
_MAY_FOLLOW = 2
"""Digits that were taken for the end of a number and are none of it: "12 times"."""
_HEADER = re.compile(
    r"(?P<name>x-api-key|x-api-secret|xi-api-key|authorization)(?P<between>['\"]?\s*[:=,]\s*(?:b?['\"])?(?:(?:bearer|basic)\s+)?)"
    r"(?P<value>[^\s'\",)}\]]+)",
    re.IGNORECASE,
)
_SESSION = re.compile(
    r"(?P<name>session[ _-]?(?:id)?[=: ]+)(?P<value>[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})", re.IGNORECASE
)
_FAILED_TOOL = re.compile(r"(?P<begin>Tool '\w+' failed: )['\"](?P<code>\[\w+\]).*", re.DOTALL)
"""The SDK logs what the model reads of a failed call, which may quote a cell of somebody's list."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Take phone numbers, keys and session ids out of a text, and put it on one line."""
    text = _FAILED_TOOL.sub(r"\g<begin>\g<code>", text)
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    text = _HEADER.sub(rf"\g<name>\g<between>{_HIDDEN}", text)
    text = _SESSION.sub(rf"\g<name>{_HIDDEN}", text)
    text = _PHONE.sub(lambda found: _masked(found.group()), text)
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\n", " | "))


def _masked(number: str) -> str:
    """The number with its first digits alone, and its separators."""
    digits = sum(character.isdigit() for character in number)
    shown = min(_MOST_SHOWN, max(0, digits - FEWEST_HIDDEN - _MAY_FOLLOW))
    kept = []
    for character in number:
        hidden = character.isdigit() and shown <= 0
        shown -= character.isdigit()
        kept.append("•" if hidden else character)
    return "".join(kept)


class MaskingFormatter(logging.Formatter):
    """Formats a record, its traceback included, as one masked line."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = tuple(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)

    def format(self, record: logging.LogRecord) -> str:
        return self._masked(super().format(record))

    def _masked(self, text: str) -> str:
        return mask(text, self._secrets)


class JsonFormatter(MaskingFormatter):
    """Formats a record as one JSON object: `time` (UTC), `level`, `logger`, `message`, and `traceback` where there is
    one. Each text is masked before it is written as JSON, whose escapes could hide a number from the mask.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._masked(record.getMessage()),
        }
        traceback = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        if traceback:
            line["traceback"] = self._masked(traceback)
        return json.dumps(line)


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every logger's lines to stderr (or `stream`) at `settings.log_level`, libraries at INFO or above."""
    given = (settings.api_key, settings.api_secret, settings.carrier_key, settings.carrier_secret)
    secrets = [secret.get_secret_value() for secret in given if secret]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((JsonFormatter if settings.log_format == "json" else MaskingFormatter)(secrets))
    logging.basicConfig(handlers=[handler], level=max(logging.INFO, getattr(logging, settings.log_level)), force=True)
    logging.getLogger("batchcall_mcp").setLevel(settings.log_level)
    # A line for every request says nothing that the tool call's own line does not; nor do those of a new database.
    for chatty in ("httpx2", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
