"""What judges a block that is neither typed by a reader nor an answer: what reads its language in reality.

A judge raises `Wrong` if the block is wrong; `test_judges.py` shows for each that it does.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import crossplane  # type: ignore[import-untyped]
import httpx2
import yaml  # type: ignore[import-untyped]
from acme_backend import AcmeBackend
from acme_fake import AcmeFake

from batchcall_mcp.backends import registry as backends
from batchcall_mcp.dialer.carriers import registry as carriers
from batchcall_mcp.dialer.carriers.agents import parse_agents
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.testing import Case
from batchcall_mcp.testing.contract import CHECKS, play
from batchcall_mcp.testing.reading import outcomes_come_back
from batchcall_mcp.testing.scene import Broken
from tests.backends.test_contract_finds import MissedIsCompleted
from tests.documented import not_run
from tests.paths import SOURCES
from tests.server.transports import ROOT


class Wrong(AssertionError):
    """A block of a page is not what it should be."""


@dataclass(frozen=True)
class Around:
    """What a judge may use of the page and its reader."""

    files: Path
    """The list folder."""
    commands: Path = Path("/usr/bin")
    """Where `batchcall-mcp` is."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the server before the page set anything."""
    dialer: str = ""
    """The address of a dialer of its own, where the page has one."""
    pair: Mapping[str, str] = field(default_factory=dict)
    """The headers of a caller of that dialer."""


def judge(language: str, text: str, around: Around) -> None:
    """One block.

    Raises:
        Wrong: saying what is.
    """
    match language:
        case "python":
            python(text)
        case "toml":
            toml(text)
        case "yaml":
            scrape_configuration(text, around)
        case "nginx":
            nginx(text)
        case "sql":
            sql(text)
        case "crontab":
            crontab(text, around)
        case _:
            raise Wrong(f"nobody judges {language}")


def python(text: str) -> None:
    """A part of an example, which tests run, but for its indentation; or else a module that can be run as it is."""
    examples = (path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").rglob("*.py")))
    if any(_unindented(text) in _unindented(example) for example in examples):
        return
    try:
        exec(compile(text, "a page", "exec"), {"__name__": "a_page"})
    except Exception as error:
        raise Wrong(f"this is no part of examples/, and as a module: {error!r}\n{text}") from error


def toml(text: str) -> None:
    """An entry point that another package registers, or a file of agents."""
    tables = tomllib.loads(textwrap.dedent(text))
    groups = tables.get("project", {}).get("entry-points")
    if groups is None:
        try:
            parse_agents(textwrap.dedent(text))
        except ValueError as error:
            raise Wrong(str(error)) from error
        return
    with _registered(groups):
        for group, entries in groups.items():
            for name in entries:
                try:
                    _READ_BY[group](name)
                except (KeyError, ConfigurationError) as error:
                    raise Wrong(f"{group} {name}: {error!r}") from error


_READ_BY: Mapping[str, Callable[[str], Any]] = {
    backends.GROUP: backends.backend_class,
    carriers.GROUP: carriers._third_party,
}


@contextmanager
def _registered(groups: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """As if a package with these entry points was installed."""
    lines = [line for group, entries in groups.items() for line in (f"[{group}]", *map(" = ".join, entries.items()))]
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "of_a_page-1.dist-info"
        package.mkdir()
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: of-a-page\nVersion: 1\n", encoding="utf-8")
        (package / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        with mock.patch("sys.path", [*sys.path, folder]):
            yield


def scrape_configuration(text: str, around: Around) -> None:
    """Prometheus would read the dialer's metrics: what it names is asked for with the headers that it names."""
    for job in yaml.safe_load(text)["scrape_configs"]:
        if job.keys() - {"job_name", "static_configs", "http_headers", "metrics_path"} or not job["job_name"]:
            raise Wrong(f"Prometheus knows more, and this judge does not: {sorted(job)}")
        files = {name: value["files"] for name, value in job["http_headers"].items()}
        if any(len(named) != 1 or not named[0].startswith("/") for named in files.values()):
            raise Wrong(f"a file for each header: {files}")
        targets = [target for one in job["static_configs"] for target in one["targets"]]
        if targets != ["127.0.0.1:8080"]:
            raise Wrong(f"the dialer listens on 127.0.0.1:8080: {targets}")
        headers = {name: around.pair[name] for name in files if name in around.pair}
        found = httpx2.get(f"{around.dialer}{job.get('metrics_path', '/metrics')}", headers=headers, trust_env=False)
        if found.status_code != 200 or "batchcall_dialer_" not in found.text:
            raise Wrong(f"{found.status_code} {found.text[:500]}")


def nginx(text: str) -> None:
    """Nginx's own parser of its configuration, which knows each directive, where it may be and its arguments."""
    with tempfile.TemporaryDirectory() as folder:
        page, whole = Path(folder) / "page.conf", Path(folder) / "nginx.conf"
        page.write_text(text, encoding="utf-8")
        whole.write_text(f"events {{}}\nhttp {{ include {page}; }}\n", encoding="utf-8")
        found = crossplane.parse(str(whole), strict=True, check_ctx=True, check_args=True)
    if found["errors"]:
        raise Wrong("; ".join(error["error"] for error in found["errors"]))


def sql(text: str) -> None:
    """A new database of the dialer accepts it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dialer.db"
        Store.open(file).close()
        with closing(sqlite3.connect(file)) as connection:
            try:
                connection.executescript(text)
            except sqlite3.Error as error:
                raise Wrong(str(error)) from error


_TIMES = (range(60), range(24), range(1, 32), range(1, 13), range(8))


def crontab(text: str, around: Around) -> None:
    """Variables and jobs. Each job is run once as cron runs it: by sh, with these variables and hardly any other.

    `/home/me` is the list folder, in which cron begins, and `/home/me/.local/bin` is where the command is.
    """
    variables = {**around.environment, "PATH": "/usr/bin:/bin", "HOME": str(around.files)}
    for line in text.splitlines():
        if re.match(r"[A-Z_]+=", line):
            name, _, value = line.partition("=")
            variables[name] = _at_home(value, around)
            continue
        *times, command = line.split(maxsplit=5)
        if len(times) != len(_TIMES) or not all(map(_is_time, times, _TIMES)):
            raise Wrong(f"cron reads five times: {line}")
        ended = subprocess.run(
            ["sh", "-c", _at_home(command, around)],
            env=variables,
            cwd=around.files,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if ended.returncode:
            said = ended.stdout + ended.stderr + _log_of(command, around)
            raise Wrong(f"{line}\nended with {ended.returncode}: {said}")


def _log_of(command: str, around: Around) -> str:
    named = re.search(r">> (\S+)", command)
    log = Path(_at_home(named[1], around)) if named else None
    return log.read_text(encoding="utf-8") if log is not None and log.exists() else ""


def _at_home(text: str, around: Around) -> str:
    return text.replace("/home/me/.local/bin", str(around.commands)).replace("/home/me", str(around.files))


def _is_time(value: str, allowed: Sequence[int]) -> bool:
    numbers = [int(number) for number in re.findall(r"\d+", value)]
    return re.fullmatch(r"\*(/\d+)?|\d+(-\d+)?(,\d+(-\d+)?)*", value) is not None and (
        value.startswith("*") or all(number in allowed for number in numbers)
    )


async def said_by_nobody(text: str) -> None:
    """A text of a page on which nothing was typed before: a path, the map of the rooms, commands,
    the usage or help of one, or a finding of the contract.

    `tests/test_architecture_page.py` makes the calls whose paths these are.
    """
    lines = text.splitlines()
    if all(re.fullmatch(r" ?\d+ \S+\.py", line) for line in lines):
        missing = [line for line in lines if not (SOURCES / line.split()[1]).is_file()]
    elif " ─► " in text:
        missing = [room for room in re.findall(r"(\w+)/", text) if not (SOURCES / room).is_dir()]
    elif all(line.startswith("batchcall-mcp ") for line in lines):
        commands = [line.partition(" #")[0].split() for line in lines]
        missing = [" ".join(words) for words in commands if not not_run.exists(words[1:])]
    elif any(" ".join(text.split()) in " ".join(said.split()) for said in not_run.helps()):
        missing = []
    else:
        found = await _finding(MissedIsCompleted)
        missing = [] if found.split() == text.split() else [f"the contract says: {found}"]
    if missing:
        raise Wrong(f"{missing}\n{text}")


async def _finding(backend: type[AcmeBackend]) -> str:
    for check in CHECKS:
        if check.run is outcomes_come_back:
            try:
                await play(Case(backend=backend, fake=AcmeFake, url=backend.default_url), check)
            except Broken as error:
                return str(error)
    return "nothing"


def _unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())
