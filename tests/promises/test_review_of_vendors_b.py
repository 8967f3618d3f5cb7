"""What a review of the adapters of Bland, Bolna and Dograh found, by their published documents and source."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.vendors.bland import BlandBackend
from batchcall_mcp.backends.vendors.bolna import BolnaBackend
from batchcall_mcp.backends.vendors.dograh import DograhBackend
from batchcall_mcp.errors import IllegalTransition, InvalidInput
from batchcall_mcp.model import BatchCallRequest, BatchStatus, CallTask, Counts, RetryPolicy, TaskQuery, TaskStatus
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.operator.processes import command, variables
from tests.vendors import bland as bland_fake
from tests.vendors import bolna as bolna_fake
from tests.vendors import dograh as dograh_fake
from tests.vendors.bland import Bland
from tests.vendors.bolna import Bolna
from tests.vendors.dograh import Dograh
from tests.walks.stage import Person, playing

ANN, BOB, OTHER = "+14155550110", "+14155550111", "+15005550006"
LIST = (CallTask(to_number=ANN), CallTask(to_number=BOB))


@pytest.fixture
def bland_vendor() -> Bland:
    return Bland()


@pytest.fixture
async def bland(bland_vendor: Bland) -> AsyncIterator[BlandBackend]:
    async with bland_vendor.served() as url, open_client() as client:
        yield BlandBackend(BackendHttp(client, url, 5), Credentials(SecretStr(bland_vendor.key)))


@pytest.fixture
def bolna_vendor() -> Bolna:
    return Bolna()


@pytest.fixture
async def bolna(bolna_vendor: Bolna) -> AsyncIterator[BolnaBackend]:
    async with bolna_vendor.served() as url, open_client() as client:
        yield BolnaBackend(BackendHttp(client, url, 5), Credentials(SecretStr(bolna_vendor.key)))


@pytest.fixture
def dograh_vendor() -> Dograh:
    return Dograh(lines=1)


@pytest.fixture
async def dograh(dograh_vendor: Dograh) -> AsyncIterator[DograhBackend]:
    async with dograh_vendor.served() as url, open_client() as client:
        yield DograhBackend(BackendHttp(client, url, 5), Credentials(SecretStr(dograh_vendor.key)))


def of_bland(**changes: Any) -> BatchCallRequest:
    whole = BatchCallRequest(name="N", agent_id=bland_fake.PATHWAY, tasks=LIST, send_now=True)
    return replace(whole, **changes)


def of_bolna(**changes: Any) -> BatchCallRequest:
    whole = BatchCallRequest(name="N", from_number=bolna_fake.NUMBER, agent_id=bolna_fake.AGENT, tasks=LIST)
    return replace(whole, **changes)


def of_dograh(**changes: Any) -> BatchCallRequest:
    whole = BatchCallRequest(name="N", from_number=dograh_fake.NUMBER, agent_id=dograh_fake.AGENT, tasks=LIST)
    return replace(whole, **changes)


class TestBland:
    async def test_a_variable_cannot_name_another_number(self, bland_vendor: Bland, bland: BlandBackend) -> None:
        """Bland gives the number called back among the variables: one of that name would be taken for it."""
        request = of_bland(tasks=(CallTask(to_number=ANN, dynamic_variables={"phone_number": OTHER}),))
        with pytest.raises(InvalidInput, match="dynamic_variables: Bland takes phone_number for its own"):
            bland.check_state(Operation.CREATE, request, None)
        with pytest.raises(InvalidInput, match="Nothing was sent"):
            await bland.create(request)
        assert bland_vendor.requests == []

    def test_an_utterance_of_the_robot_is_the_agents(self) -> None:
        said = [{"user": who, "text": who} for who in ("robot", "user", "agent-action")]
        found = BlandBackend.__new__(BlandBackend).read_call({"call_id": "c", "to": ANN, "transcripts": said})
        assert [(turn.speaker, turn.text) for turn in found.transcript or ()] == [
            ("agent", "robot"),
            ("person", "user"),
        ]


class TestBolna:
    async def test_a_batch_whose_time_came_meanwhile_is_not_deleted(
        self, bolna_vendor: Bolna, bolna: BolnaBackend
    ) -> None:
        """Between the read and the stop everybody was called: a delete would take what came of it away."""
        seen = await bolna.start(await bolna.create(of_bolna()), None)
        bolna_vendor.tick(bolna_vendor.now + timedelta(minutes=20))
        bolna_vendor.finish(seen.batch_call_id)
        with pytest.raises(IllegalTransition, match="not queued or running"):
            await bolna.cancel(seen)
        assert bolna_vendor.batch_ids() == [seen.batch_call_id]

    async def test_an_id_with_hyphens_is_the_same(self, bolna_vendor: Bolna, bolna: BolnaBackend) -> None:
        """The schema says 32 digits for `batch_id` and uuid for the path, the pages of executions say uuid."""
        started = await bolna.start(await bolna.create(of_bolna()), None)
        bolna_vendor.tick(bolna_vendor.now + timedelta(minutes=20))
        plain = started.batch_call_id
        hyphened = "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))
        for execution in bolna_vendor.batches[plain]["executions"]:
            execution["batch_id"] = hyphened
        tasks = (await bolna.tasks(plain, TaskQuery())).tasks
        assert [one.to_number for one in tasks] == [ANN, BOB]
        assert (await bolna.get_call(plain, tasks[0].call_id or "")).task == tasks[0]

    def test_where_a_word_is_not_known_nobody_is_counted(self) -> None:
        documented = {"batch_id": "3" * 32, "status": "queued", "valid_contacts": 3, "total_contacts": 3}
        data = {**documented, "execution_status": {"completed": 1, "levitating": 1}}
        assert BolnaBackend.__new__(BolnaBackend).read_batch(data).counts == Counts(total=3)


class TestDograh:
    async def test_a_pause_while_the_list_is_read_says_that_it_may_dial_on(
        self, dograh_vendor: Dograh, dograh: DograhBackend
    ) -> None:
        """By its source, the job that reads the list sets the campaign running when it is through, paused or not."""
        paused = await dograh.pause(await dograh.start(await dograh.create(of_dograh()), None))
        assert (paused.status, paused.pause_may_lapse) == (BatchStatus.PAUSED, True)
        dograh_vendor.tick(dograh_vendor.now)
        running = await dograh.get(paused.batch_call_id)
        assert (running.status, dograh_vendor.dialled) == (BatchStatus.RUNNING, [ANN])
        again = await dograh.pause(running)
        dograh_vendor.tick(dograh_vendor.now + timedelta(minutes=5))
        assert (again.status, dograh_vendor.dialled) == (BatchStatus.PAUSED, [ANN])
        assert not again.pause_may_lapse

    async def test_the_answer_to_such_a_pause_does_not_say_that_nobody_is_called(
        self, dograh_vendor: Dograh, tmp_path: Path
    ) -> None:
        async with dograh_vendor.served() as url:
            variables = {"backend": "dograh", "url": url, "api_key": dograh_vendor.key, "calling_hours": "00:00-24:00"}
            async with playing("auto", Person("yes"), data_dir=tmp_path, **variables) as model:
                tasks = [{"to_number": "+12125550100"}]
                made = await model.call(
                    "create_batch_call", from_number=dograh_fake.NUMBER, agent_id=dograh_fake.AGENT, tasks=tasks
                )
                name = made["batch_call"]["batch_call_id"]
                await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
                answers = [await model.call("pause_batch_call", batch_call_id=name) for _ in range(2)]
        assert [one["result"] for one in answers] == ["paused", "nothing_to_do"]
        for answer in answers:
            assert "no new call is placed" not in answer["summary"]
            assert "may run once it is through" in answer["summary"]

    async def test_the_emergency_stop_gives_no_all_clear_for_it(self, dograh_vendor: Dograh, tmp_path: Path) -> None:
        async with dograh_vendor.served() as url, open_client() as client:
            backend = DograhBackend(BackendHttp(client, url, 5), Credentials(SecretStr(dograh_vendor.key)))
            started = await backend.start(await backend.create(of_dograh()), None)
            there = variables(tmp_path, BACKEND="dograh", URL=url, API_KEY=dograh_vendor.key)
            for was in ("running", "paused"):
                stopped = await command(there, "stop")
                assert f"not stopped: {started.batch_call_id} (was {was}). " in stopped.out
                assert "may run once it is through" in stopped.out
                assert stopped.code == 1
            dograh_vendor.tick(dograh_vendor.now)
            assert dograh_vendor.dialled == [ANN]
            stopped = await command(there, "stop")
            assert f"paused: {started.batch_call_id} (was running)" in stopped.out
            assert stopped.code == 0

    async def test_a_pause_promises_no_more_than_its_source(self, dograh_vendor: Dograh, tmp_path: Path) -> None:
        """Its dispatcher takes 10 people at a time, and looks at the state only before it takes them."""
        async with dograh_vendor.served() as url:
            settings = {"backend": "dograh", "url": url, "api_key": dograh_vendor.key, "calling_hours": "00:00-24:00"}
            async with playing("auto", Person("yes"), data_dir=tmp_path, **settings) as model:
                tasks = [{"to_number": f"+121255501{line:02d}"} for line in range(3)]
                made = await model.call(
                    "create_batch_call", from_number=dograh_fake.NUMBER, agent_id=dograh_fake.AGENT, tasks=tasks
                )
                name = made["batch_call"]["batch_call_id"]
                started = await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
                dograh_vendor.tick(dograh_vendor.now)
                paused = await model.call("pause_batch_call", batch_call_id=name)
        assert started["preflight"]["can_stop"] == (
            "You can pause it: up to 10 people whose turn has come are still called, and nobody after them."
        )
        assert "up to 10 people whose turn has come are still called" in paused["summary"]
        assert "no new call is placed" not in paused["summary"]

    async def test_retries_that_were_turned_off_are_not_called_kept(self, dograh: DograhBackend) -> None:
        batch = await dograh.create(of_dograh(retry=RetryPolicy(max_retries=2, on=("busy",), after_minutes=5)))
        changed = await dograh.update(batch, BatchCallRequest(retry=RetryPolicy(max_retries=0)))
        assert changed.retry == RetryPolicy(max_retries=0)
        assert (await dograh.get(batch.batch_call_id)).retry is None

    async def test_a_redial_at_once_waits_as_long_as_dograh_wants(
        self, dograh_vendor: Dograh, dograh: DograhBackend
    ) -> None:
        await dograh.create(of_dograh(retry=RetryPolicy(max_retries=1, after_minutes=0)))
        assert dograh_vendor.writes[-1].json["retry_config"]["retry_delay_seconds"] == 30

    @pytest.mark.parametrize("agent_id", ["abc", "7.0", "-7", "0", ""])
    async def test_an_agent_without_a_number_is_refused_before_anything_is_sent(
        self, dograh_vendor: Dograh, dograh: DograhBackend, agent_id: str
    ) -> None:
        with pytest.raises(InvalidInput, match="agent_id"):
            dograh.check_state(Operation.CREATE, of_dograh(agent_id=agent_id), None)
        with pytest.raises(InvalidInput, match="agent_id"):
            await dograh.create(of_dograh(agent_id=agent_id))
        assert dograh_vendor.requests == []
        assert dograh_vendor.storage.requests == []

    @pytest.mark.parametrize("name", ["runtime_configuration", "mps_correlation_id", "campaign_id", "phone_number"])
    def test_a_variable_that_dograh_drops_is_refused(self, name: str) -> None:
        request = of_dograh(tasks=(CallTask(to_number=ANN, dynamic_variables={name: "x"}),))
        with pytest.raises(InvalidInput, match=f"Dograh takes {name} for its own"):
            DograhBackend.__new__(DograhBackend).check_state(Operation.CREATE, request, None)

    def test_an_empty_disposition_is_no_outcome(self) -> None:
        run = {
            "id": 1,
            "is_completed": True,
            "initial_context": {"phone_number": ANN},
            "gathered_context": {"call_disposition": ""},
        }
        assert DograhBackend.__new__(DograhBackend).read_task(run).status is TaskStatus.PLACED
