"""Which snapshot is the one, by settings and installed packages; where that is not certain, the server answers."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False  # importing `typing` takes as long as the answer
if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST = r"(localhost|127\.0\.0\.1|([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]+)(:([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}))?"
_TIME, _PATHS, _KEY, _COUNT = r"([01]\d|2[0-3]):[0-5]\d", r"/[\x20-}]*", r"(?!.*\$\{)[!-~]+", r"[1-9]\d{0,8}"
_FORMS = rf"""
BACKEND=[a-z]+ URL=https?://{_HOST}(/[A-Za-z0-9_-]+)*/? API_KEY={_KEY} API_SECRET={_KEY} FAST_START=on
MODE=full|draft|read-only CONFIRM=auto|person|code APPROVAL_PAGE=auto|off LOG_FORMAT=text|json
MAX_CALLS_PER_LAUNCH={_COUNT} MAX_CALLS_PER_DAY={_COUNT} DEFAULT_REGION=[A-Z][A-Z] SIMULATED_SPEED=[1-9]\d{{0,3}}
FILES={_PATHS} DO_NOT_CALL={_PATHS} DATA_DIR={_PATHS} CALLING_HOURS={_TIME}-({_TIME}|24:00)
REQUEST_TIMEOUT_S=[1-9]\d? LOG_LEVEL=DEBUG|INFO|WARNING|ERROR"""
SETTINGS = dict(form.split("=", 1) for form in _FORMS.split())
"""Values that the real settings certainly accept; but for the mode and the backend none changes a list."""
_LINE = r"(#.*|[ \t]*|(BATCHCALL_[A-Z_]+)=([\w@%+=:,./~-]+|'[^'\\$]*'))"
_LONGEST_FILE = 16_384
"""A line as `batchcall-mcp init` writes it, which means the same to every reader; and how many characters are read."""


def surface_of(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Backend and mode that a server with this environment serves; None where only the real settings can say."""
    given = {name: value for name, value in environment.items() if name.upper().startswith("BATCHCALL_")}
    if "HOME" not in environment:
        return None  # then there may be no data folder
    file = given.pop("BATCHCALL_ENV_FILE", "")
    try:
        given = (_settings_in(file) if file else {}) | given
    except (OSError, ValueError):
        return None
    for name, value in given.items():
        if not re.fullmatch(SETTINGS.get(name.removeprefix("BATCHCALL_"), "(?!)"), value, re.ASCII):
            return None
    url = given.get("BATCHCALL_URL")
    backend = given.get("BATCHCALL_BACKEND") or ("batchcall" if url or "BATCHCALL_API_KEY" in given else "dialer")
    return None if backend == "dialer" and url else (backend, given.get("BATCHCALL_MODE", "full"))


def _settings_in(path: str) -> dict[str, str]:
    """The variables of a file of settings. ValueError: some line of it might mean something else."""
    if not path.startswith("/") or not os.path.isfile(path):  # noqa: PTH113
        raise ValueError
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 - pathlib takes too long
        text = file.read(_LONGEST_FILE + 1)
    lines = [re.fullmatch(_LINE, line, re.ASCII) for line in text.split("\n")]
    if len(text) > _LONGEST_FILE or "\r" in text or None in lines:
        raise ValueError
    return {line[2]: line[3].strip("'") for line in lines if line and line[2]}


def are_installed(packages: Mapping[str, str], path: list[str]) -> bool:
    """Whether Python will import these minor versions. To import `importlib.metadata` takes too long."""
    for name, version in packages.items():
        folder = next((one or "." for one in path if os.path.isdir(os.path.join(one, name))), None)  # noqa: PTH112, PTH118
        found = [one for one in os.listdir(folder) if one.startswith(f"{name}-")] if folder else []  # noqa: PTH208
        if len(found) != 1 or not found[0].startswith(f"{name}-{version}."):
            return False
    return True
