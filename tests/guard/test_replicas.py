"""Several servers on one PostgreSQL are one server: one launch, one code, one answer, whichever of them is asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, InputRequiredResult

from tests import forked
from tests.operator.processes import command, terminal
from tests.operator.processes import variables as of_operator
from tests.postgresql import postgresql_url
from tests.server.between import between
from tests.server.transports import ROOT, Way, client_of
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, dials, number, numbers

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]
TASKS = [{"to_number": one} for one in PEOPLE]
ZUDU = {"X-API-KEY": zudu.KEY, "X-API-SECRET": zudu.SECRET}
MAGPIPE = {"X-API-KEY": magpipe.KEY}
MODERN = Way("stateless", "auto")


@asynccontextmanager
async def serving(folder: Path, *, sessions: bool = False, **variables: str) -> AsyncIterator[str]:
    """The URL of a `batchcall-mcp serve` in a process, with this data folder. `sessions`: clients of 2025 have one."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BATCHCALL_")}
    # A hundred clients at once of one key pair are more than a server takes of one in a second.
    variables = {"rate_limit": "10000", **variables}
    environment = {f"BATCHCALL_{name.upper()}": value for name, value in variables.items()}
    process = await anyio.open_process(
        [*forked.program(), "serve", "--port", "0", *([] if sessions else ["--stateless"])],
        env=inherited | environment | {"BATCHCALL_DATA_DIR": str(folder)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    async with process:
        try:
            assert process.stderr is not None
            errors = BufferedByteReceiveStream(process.stderr)
            with anyio.fail_after(30):
                url = None
                while url is None:
                    line = (await errors.receive_until(b"\n", 10_000)).decode()
                    url = re.search(r"Serving MCP on (http://127\.0\.0\.1:\d+)", line)
            async with anyio.create_task_group() as group:
                group.start_soon(_read_on, errors)
                yield url.group(1)
                group.cancel_scope.cancel()
        finally:
            process.terminate()


async def _read_on(errors: BufferedByteReceiveStream) -> None:
    """So that no full pipe holds the server up."""
    async for part in errors:
        sys.stderr.write(part.decode())


@asynccontextmanager
async def two_servers(tmp_path: Path, **variables: str) -> AsyncIterator[tuple[str, str]]:
    """Two processes that share nothing but the database."""
    shared = variables | {"database_url": postgresql_url()}
    async with (
        serving(tmp_path / "one", sessions=False, **shared) as one,
        serving(tmp_path / "two", sessions=False, **shared) as two,
    ):
        yield one, two


async def called(url: str, headers: Mapping[str, str], tool: str, arguments: Mapping[str, Any]) -> CallToolResult:
    async with client_of(url, MODERN, headers=headers) as client:
        return await client.call_tool(tool, dict(arguments))


@pytest.mark.sweep
@pytest.mark.timeout(240)
@pytest.mark.parametrize("what", ["a create that dials", "a start", "a draft"])
async def test_of_a_hundred_equal_calls_at_once_exactly_one_arrives(tmp_path: Path, what: str) -> None:
    vendor = Magpipe()
    unattended = {"confirm": "off", "max_calls_per_launch": "10", "calling_hours": "00:00-24:00"}
    arguments: dict[str, Any] = {"from_number": FROM, "tasks": TASKS}
    tool = "create_batch_call"
    if what == "a create that dials":
        arguments["trigger_timestamp"] = "now"
    if what == "a start":
        batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "draft")
        tool, arguments = "start_batch_call", {"batch_call_id": batch["id"], "trigger_timestamp": "now"}
    answers: list[dict[str, Any]] = []

    async def call(client: Client) -> None:
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        answers.append(result.structured_content or {})

    async with vendor.served() as backend:
        variables = {"backend": "magpipe", "url": backend, **unattended}
        # Twenty who are connected before the first call, and ask five times each: that all calls meet is what counts.
        async with two_servers(tmp_path, **variables) as urls, AsyncExitStack() as stack:
            ways = [client_of(urls[at % 2], MODERN, headers=MAGPIPE) for at in range(20)]
            clients = [await stack.enter_async_context(way) for way in ways]
            with anyio.fail_after(200):
                async with anyio.create_task_group() as group:
                    for at in range(100):
                        group.start_soon(call, clients[at % 20])
    assert len(vendor.actions("start" if what == "a start" else "create")) == 1
    assert sorted(vendor.dialled) == ([] if what == "a draft" else PEOPLE)
    assert len(answers) == 100
    assert len({one["batch_call"]["batch_call_id"] for one in answers}) == 1
    assert sum("replayed" not in one for one in answers) == 1


async def test_a_code_of_one_server_launches_at_the_other_once(tmp_path: Path) -> None:
    vendor = Zudu()
    by_code = {"backend": "zudu", "confirm": "code"}
    async with vendor.served() as backend, two_servers(tmp_path, url=backend, **by_code) as (one, two):
        made = await called(one, ZUDU, "create_batch_call", {"from_number": FROM, "tasks": TASKS})
        name = (made.structured_content or {})["batch_call"]["batch_call_id"]
        launch = {"batch_call_id": name, "trigger_timestamp": "now"}
        asked = (await called(one, ZUDU, "start_batch_call", launch)).structured_content or {}
        code = {"confirmation_code": asked["confirmation_code"]}

        stolen = await called(two, {**ZUDU, "X-API-SECRET": "another"}, "start_batch_call", launch | code)
        assert stolen.is_error
        assert vendor.dialled == []
        started = (await called(two, ZUDU, "start_batch_call", launch | code)).structured_content or {}
        assert (started["result"], started.get("replayed")) == ("started", None)
        again = (await called(one, ZUDU, "start_batch_call", launch | code)).structured_content or {}
        assert again["replayed"] is True
    assert vendor.dialled == PEOPLE


async def test_a_question_of_one_server_is_answered_at_the_other_once(tmp_path: Path) -> None:
    vendor = Magpipe()
    launch = {"from_number": FROM, "tasks": TASKS, "trigger_timestamp": "now"}

    async def never(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        raise AssertionError("the test answers by itself")

    async def send(url: str, **answer: Any) -> CallToolResult | InputRequiredResult:
        async with client_of(url, MODERN, headers=MAGPIPE, elicitation_callback=never) as client:
            result: CallToolResult | InputRequiredResult = await client.session.call_tool(
                "create_batch_call", launch, allow_input_required=True, **answer
            )
            return result

    async with vendor.served() as backend, two_servers(tmp_path, backend="magpipe", url=backend) as (one, two):
        asked = await send(one)
        assert isinstance(asked, InputRequiredResult)
        yes = {
            "input_responses": {"confirm": ElicitResult(action="accept", content={"confirm": True})},
            "request_state": asked.request_state,
        }
        for url, replayed in ((two, False), (one, True)):
            result = await send(url, **yes)
            assert isinstance(result, CallToolResult)
            assert bool((result.structured_content or {}).get("replayed")) is replayed, result.content
    assert sorted(vendor.dialled) == PEOPLE


async def test_the_emergency_stop_of_one_machine_stops_the_other(tmp_path: Path) -> None:
    vendor = Magpipe()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "draft")
    launch = {"batch_call_id": batch["id"], "trigger_timestamp": "now"}
    database = postgresql_url()
    async with vendor.served() as backend:
        variables = {"backend": "magpipe", "url": backend, "database_url": database, "confirm": "code"}
        async with serving(tmp_path / "one", sessions=False, **variables) as url:
            environment = {f"BATCHCALL_{name.upper()}": value for name, value in variables.items()}
            environment |= {"BATCHCALL_DATA_DIR": str(tmp_path / "two"), "BATCHCALL_API_KEY": magpipe.KEY}
            command = [*forked.program(), "stop"]
            # No server has recorded a write, so the command cannot say that nothing is live.
            stopped = await anyio.run_process(command, env=dict(os.environ) | environment, cwd=ROOT, check=False)
            assert b"nothing is launched from now on" in stopped.stdout
            refused = await called(url, MAGPIPE, "start_batch_call", launch)
            assert refused.is_error
            assert "emergency stop is on since" in str(refused.content)
            await anyio.run_process([*command, "--clear"], env=dict(os.environ) | environment, cwd=ROOT)
            asked = await called(url, MAGPIPE, "start_batch_call", launch)
            assert (asked.structured_content or {})["result"] == "confirmation_required"
    assert vendor.dialled == []


async def test_behind_a_proxy_that_takes_turns_two_servers_are_one(tmp_path: Path) -> None:
    """Every request is a connection of its own, so a call, its question, the yes and the next call meet both."""
    vendor, person = Zudu(), Person("yes")
    headers = ZUDU | {"connection": "close"}
    variables = {"backend": "zudu", "calling_hours": "00:00-24:00"}
    async with (
        vendor.served() as backend,
        two_servers(tmp_path, url=backend, allowed_hosts="127.0.0.1", **variables) as urls,
        between(urls) as proxy,
        httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http,
    ):
        # Files: uploaded at one, named, read and removed at the other.
        lines = "phone,name\n" + "".join(f"{one},P\n" for one in PEOPLE)
        told = (await http.post(proxy.url + "/files?name=people.csv", content=lines.encode())).json()
        listed = [(await http.get(proxy.url + "/files")).json() for _ in urls]
        assert listed[0] == listed[1]
        assert told["tasks_file"] in str(listed[0])

        async with client_of(proxy.url, MODERN, headers=headers, elicitation_callback=person) as client:
            model = Model(client)
            create = {"from_number": FROM, "tasks_file": told["tasks_file"]}
            # Idempotency: the same call again, at whichever of them.
            made = [await model.call("create_batch_call", **create) for _ in range(3)]
            assert ["replayed" in one for one in made] == [False, True, True]
            name = made[0]["batch_call"]["batch_call_id"]
            assert {one["batch_call"]["batch_call_id"] for one in made} == {name}

            # Questions: each answer comes with a request of its own.
            launch = {"batch_call_id": name, "trigger_timestamp": "now"}
            begun = [await model.call("start_batch_call", **launch) for _ in range(3)]
            assert ["replayed" in one for one in begun] == [False, True, True]
            assert len(person.questions) == 1
            assert vendor.dialled == PEOPLE

            # Watches: one waits at a server while the other one is asked.
            before, watched = len(vendor.requests), []

            async def watch() -> None:
                watched.append(await model.call("watch_batch_call", batch_call_id=name, timeout_seconds=60))

            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                while len(vendor.requests) == before:
                    assert (await http.get(proxy.url + "/readyz")).status_code == 200
                vendor.finish(name, {})
            assert watched[0]["batch_call"]["status"] == "completed"

            exported = await model.call("export_batch_call", batch_call_id=name)
            for _ in urls:
                assert (await http.get(exported["file"])).text.count("\n") == 1 + len(PEOPLE)
        assert min(proxy.connections[url] for url in urls) > 5


async def test_a_client_that_cannot_be_asked_is_approved_in_a_terminal_and_both_replicas_dial_once(
    tmp_path: Path,
) -> None:
    """A client of 2025 without a session, the built-in dialer in both servers, and an operator on a third machine."""
    shared = {"database_url": postgresql_url(), "confirm": "person", "calling_hours": "00:00-24:00"}
    served = shared | {"simulated_speed": "1000", "allowed_hosts": "127.0.0.1"}
    operator = of_operator(tmp_path / "three", **shared)
    made = await command(operator, "dialer", "keys", "create")
    pair = re.findall(r"BATCHCALL_API_(KEY|SECRET)=(\S+)", made.out)
    headers = {f"X-API-{name}": value for name, value in pair} | {"connection": "close"}
    async with (
        serving(tmp_path / "one", sessions=False, **served) as one,
        serving(tmp_path / "two", sessions=False, **served) as two,
        between((one, two)) as proxy,
        client_of(proxy.url, Way("stateless", "legacy"), headers=headers) as client,
    ):
        model = Model(client)
        people = [{"to_number": each} for each in numbers(2000)[::50]]
        create = {"from_number": FROM, "tasks": people, "idempotency_key": "november", "window": ALWAYS}
        drafts = [await model.call("create_batch_call", **create, max_concurrency=10) for _ in range(3)]
        launch = {"batch_call_id": drafts[0]["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        assert ["replayed" in each for each in drafts] == [False, True, True]
        for _ in range(2):
            assert (await model.call("start_batch_call", **launch))["result"] == "waiting_for_person"
        async with terminal(operator, "approve") as screen:
            await screen.shows("type the number of people who would be called")
            assert await screen.types(str(len(people))) == 0
        begun = [await model.call("start_batch_call", **launch) for _ in range(3)]
        assert ["replayed" in each for each in begun] == [False, True, True]
        done = await model.call("watch_batch_call", batch_call_id=launch["batch_call_id"], timeout_seconds=60)
        assert done["batch_call"]["status"] == "completed"
    rang = dials(tmp_path / "one") + dials(tmp_path / "two")
    assert rang.total() == len(rang) == len(people)
