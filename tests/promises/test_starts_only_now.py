"""Where nothing holds a time: a create makes a draft, a draft starts now, and no argument promises more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.promises.test_creates_that_dial import TASKS, created, using
from tests.vendors.varied import Varied, able
from tests.walks.stage import FROM, Person, tomorrow_at


@pytest.fixture
def never_scheduled(monkeypatch: pytest.MonkeyPatch) -> Varied:
    able(monkeypatch, drafts="now_only")
    return Varied()


async def drafted(model: Any) -> str:
    answer = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
    assert answer["batch_call"]["status"] == "draft"
    batch_call_id: str = answer["batch_call"]["batch_call_id"]
    return batch_call_id


async def test_a_create_takes_no_time_and_is_not_confirmed(never_scheduled: Varied, tmp_path: Path) -> None:
    async with using(tmp_path, never_scheduled) as model:
        assert "trigger_timestamp" not in await model.schema("create_batch_call")
        await drafted(model)
        with pytest.raises(AssertionError, match="trigger_timestamp"):
            await created(model)
    assert never_scheduled.dialled == []


async def test_where_a_pause_is_the_only_stop_the_question_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="now_only", stop="never", without="cancel")
    vendor, person = Varied(), Person()
    async with using(tmp_path, vendor, person) as model:
        await model.call("start_batch_call", batch_call_id=await drafted(model), trigger_timestamp="now")
    assert "You can pause it: who is not dialled yet is then not called until it is resumed." in person.questions[-1]
    assert "Cannot be stopped" not in person.questions[-1]


async def test_a_draft_starts_now_and_at_no_time(never_scheduled: Varied, tmp_path: Path) -> None:
    async with using(tmp_path, never_scheduled) as model:
        assert (await model.schema("start_batch_call"))["trigger_timestamp"]["const"] == "now"
        made = await drafted(model)
        at = tomorrow_at(9).isoformat()
        text = await model.refused("start_batch_call", "invalid_input", batch_call_id=made, trigger_timestamp=at)
        assert "must be 'now'" in text
        assert never_scheduled.dialled == []
        checked = await model.call("check_batch_call", batch_call_id=made, trigger_timestamp=at)
        assert checked["next"]["ask_person"] == "Nothing can be scheduled here. Should it be started now?"
        await model.call("start_batch_call", batch_call_id=made, trigger_timestamp="now")
    assert never_scheduled.dialled
