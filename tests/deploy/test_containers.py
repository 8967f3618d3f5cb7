"""Dockerfile and compose.yaml. No image is built here, because the machines have no container engine.

So the same steps are taken in a fresh folder: what the Dockerfile copies and runs, then what compose.yaml starts, with
its variables, its commands and its health checks, on a real PostgreSQL.
"""

import fnmatch
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import anyio
import httpx2
import pytest
import yaml  # type: ignore[import-untyped]
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from release.facts import ROOT, facts
from tests.clients.node import installed
from tests.deploy.recipes import filled, stages
from tests.postgresql import postgresql_url
from tests.release.built import shared_by_workers
from tests.release.compiled import compiled_as_here
from tests.release.schemas import problems

BUILD, FINAL = stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
PASSWORD = {"POSTGRES_PASSWORD": "pg-words"}
TOOLS = Path(sys.executable).parent
LONGEST_S = 60
COMPILES = "--compile-bytecode"


def test_the_image_is_not_root_and_its_file_system_may_be_read_only() -> None:
    assert FINAL.only("USER") == "10001:10001"
    assert FINAL.only("VOLUME") == "/data"
    written = {name for name, value in FINAL.environment().items() if value.startswith("/data")}
    assert written == {"BATCHCALL_DATA_DIR", "BATCHCALL_FILES"}
    assert FINAL.environment()["PYTHONDONTWRITEBYTECODE"] == "1"
    assert COMPILES in " ".join(BUILD.all("RUN"))
    assert "HEALTHCHECK" in dict(FINAL.steps)


def test_both_stages_run_the_same_python_which_the_package_takes() -> None:
    assert BUILD.base == FINAL.base
    found = re.fullmatch(r"python:(\d+)\.(\d+)-slim", BUILD.base)
    assert found is not None
    assert (int(found[1]), int(found[2])) >= (3, 11)
    assert facts().requires_python == ">=3.11"


def test_compose_is_accepted_by_its_published_schema() -> None:
    assert problems(COMPOSE, "compose") == []
    assert problems(COMPOSE | {"services": {"serve": {"read_only": {}}}}, "compose") != []


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_can_do_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert [volume.split(":")[1] for volume in service["volumes"]] == [FINAL.only("VOLUME")]


def test_only_this_machine_reaches_it_until_somebody_decides_otherwise() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8000:8000"]


def test_no_password_is_written_there_and_none_is_assumed() -> None:
    with pytest.raises(KeyError, match="long random one"):
        filled(COMPOSE, {})
    assert filled(SERVICES["postgresql"]["environment"], PASSWORD)["POSTGRES_PASSWORD"] == "pg-words"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that is `/` of the image, made by the steps of the Dockerfile; once for all workers."""
    return installed(shared_by_workers(tmp_path_factory) / "image", b"", _build)


def _build(root: Path) -> None:
    source = root / BUILD.only("WORKDIR").lstrip("/")
    source.mkdir()
    for copied in BUILD.all("COPY"):
        *names, target = copied.split()
        for name in names:
            _copy(name, source / target / name if target == "./" else source / target)
    environment = _environment(root) | {"PATH": os.pathsep.join([str(TOOLS), os.environ["PATH"]])}
    for command in BUILD.all("RUN"):
        step = _inside(command.replace(COMPILES, ""), root)
        subprocess.run(["sh", "-c", step], cwd=source, env=environment, check=True, timeout=300)
    compiled_as_here(root / "opt/batchcall")  # instead: 3,000 modules, which takes 20 s
    assert FINAL.all("COPY") == ["--from=build /opt/batchcall /opt/batchcall"]
    shutil.rmtree(source)


def _copy(name: str, target: Path) -> None:
    """What Docker sends to the build: what .dockerignore lets through, of what is committed."""
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    listed = subprocess.run(["git", "ls-files", "-z", name], cwd=ROOT, capture_output=True, text=True, check=True)
    for path in filter(None, listed.stdout.split("\0")):
        if any(path == one or path.startswith(f"{one}/") or fnmatch.fnmatch(path, one) for one in let_through):
            put = target if path == name else target / Path(path).relative_to(name)
            put.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, put)


def _inside(text: str, root: Path) -> str:
    """A command with the paths of the image moved into this folder."""
    return re.sub(r"(?<![\w/.])/(?=opt/|data\b|src\b)", f"{root}/", text)


def _environment(root: Path) -> dict[str, str]:
    """Nothing of the tests' own settings; a home that does not exist, as in the image."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BATCHCALL_", "COV", "VIRTUAL"))}
    cache = subprocess.run([TOOLS / "uv", "cache", "dir"], capture_output=True, text=True, check=True, timeout=30)
    return kept | {"HOME": str(root / "nobody"), "UV_CACHE_DIR": cache.stdout.strip(), "UV_NO_CONFIG": "1"}


class Machine:
    """One service of compose.yaml: the steps' folder, a data folder of its own, and free ports instead of its own."""

    def __init__(self, name: str, root: Path, data: Path, elsewhere: dict[str, str]) -> None:
        service = filled(SERVICES[name], PASSWORD)
        self.elsewhere = elsewhere
        self.root = root
        arguments = [str(word) for word in service.get("command", FINAL.words("CMD"))]
        self.command = [*FINAL.words("ENTRYPOINT"), *map(self._moved, arguments)]
        check = service.get("healthcheck", {}).get("test") or FINAL.only("HEALTHCHECK").partition(" CMD ")[2]
        words = check[1:] if isinstance(check, list) else yaml.safe_load(check)
        self.health = [self._moved(word) for word in words]
        variables = FINAL.environment() | service["environment"]
        self.environment = _environment(root) | {name: self._moved(value) for name, value in variables.items()}
        self.environment |= {
            "PATH": os.pathsep.join([str(root / "opt/batchcall/bin"), os.environ["PATH"]]),
            "BATCHCALL_DATA_DIR": str(data),
            "BATCHCALL_FILES": str(data / "lists"),
        }
        self.folder = data
        data.mkdir(mode=0o700)

    def _moved(self, word: str) -> str:
        for here, there in self.elsewhere.items():
            word = word.replace(here, there)
        return word

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec`."""
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )

    @contextmanager
    def up(self, port: int) -> Iterator[None]:
        """Started, and healthy by its own check."""
        with (self.folder / "log").open("w") as log:
            process = subprocess.Popen(self.command, env=self.environment, cwd=self.folder, stderr=log, stdout=log)
            try:
                deadline = monotonic() + LONGEST_S
                while not _listens(port):
                    assert process.poll() is None, (self.folder / "log").read_text()
                    assert monotonic() < deadline, (self.folder / "log").read_text()
                    sleep(0.05)
                assert self.run(self.health).returncode == 0
                yield
            finally:
                process.terminate()
                process.wait(LONGEST_S)


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """None of those that the system hands out: until our process listens there, one of those could become another's."""
    while True:
        port = random.randrange(10_000, 30_000)
        if not _listens(port):
            return port


@pytest.mark.timeout(300)
def test_what_compose_starts_is_healthy_and_serves_a_caller(built: Path) -> None:
    """Serve, dialer and PostgreSQL, from a key that the dialer makes to a draft that a client makes over HTTP."""
    ports = {"dialer": free_port(), "serve": free_port()}
    url = filled(SERVICES["serve"]["environment"], PASSWORD)["BATCHCALL_DATABASE_URL"]
    elsewhere = {url: postgresql_url(), "dialer:8080": f"127.0.0.1:{ports['dialer']}", "8080": str(ports["dialer"])}
    elsewhere |= {"8000": str(ports["serve"]), "0.0.0.0": "127.0.0.1"}
    before = sorted(built.rglob("*"))
    with tempfile.TemporaryDirectory() as made, ExitStack() as up:
        machines = {name: Machine(name, built, Path(made) / name, elsewhere) for name in ports}
        assert machines["serve"].run(machines["serve"].health).returncode != 0
        for name, machine in machines.items():
            up.enter_context(machine.up(ports[name]))
        pair = machines["dialer"].run(["batchcall-mcp", "dialer", "keys", "create"])
        assert pair.returncode == 0, pair.stderr
        key, secret = (line.split("=")[1] for line in pair.stdout.split())
        anyio.run(_makes_a_draft, f"http://127.0.0.1:{ports['serve']}/mcp", {"X-API-KEY": key, "X-API-SECRET": secret})
    assert sorted(built.rglob("*")) == before, "nothing is written outside of /data"


async def _makes_a_draft(url: str, headers: dict[str, str]) -> None:
    arguments = {"from_number": "+14155550100", "tasks": [{"to_number": "+12125550140"}]}
    with anyio.fail_after(LONGEST_S):
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            assert "start_batch_call" in [tool.name for tool in (await client.list_tools()).tools]
            made = await client.call_tool("create_batch_call", arguments)
            assert not made.is_error, made


def test_the_page_says_what_was_not_tried() -> None:
    page = (ROOT / "docs/containers.md").read_text(encoding="utf-8")
    assert "No image was built by this project's tests" in " ".join(page.split())
