"""What PostgreSQL says of a row that it refuses quotes the row; the log and the answer do not."""

from __future__ import annotations

import io
import logging

import pytest
import sqlalchemy as sa

from batchcall_mcp.server.log import MaskingFormatter
from tests.dialer.conftest import Caller, NewCaller, body, numbers
from tests.postgresql import postgresql_url

PEOPLE = numbers(20)


@pytest.mark.parametrize("mask", [False, True])
async def test_a_refused_row_is_in_no_line_of_the_log(
    new_caller: NewCaller, caplog: pytest.LogCaptureFixture, mask: bool
) -> None:
    """Neither by COPY, whose CONTEXT names the line and its values, nor by a statement, whose DETAIL has the row."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(MaskingFormatter() if mask else logging.Formatter())
    logging.getLogger().addHandler(handler)
    try:
        async with new_caller(start=False, database=postgresql_url()) as caller:
            with caller.dialer.store().writing() as tx:
                tx.execute(sa.text("ALTER TABLE tasks ADD CONSTRAINT few CHECK (position < 10)"))
            text = await copy_fails(caller)
            error = await statement_fails(caller)
    finally:
        logging.getLogger().removeHandler(handler)
    told = stream.getvalue() + caplog.text + text + error
    assert 'violates check constraint "few" (SQLSTATE 23514)' in text
    assert 'violates check constraint "few" (SQLSTATE 23514)' in error
    assert not [
        quoted for quoted in ("CONTEXT", "DETAIL", "Failing row", *(one[:-4] for one in PEOPLE)) if quoted in told
    ]


async def copy_fails(caller: Caller) -> str:
    """A web server logs what is raised here with its whole traceback."""
    with pytest.raises(sa.exc.DBAPIError) as caught:
        await caller.http.post("/batch-call", json=body(PEOPLE, name="Tara"))
    logging.getLogger("anybody").error("failed", exc_info=caught.value)
    return str(caught.value)


async def statement_fails(caller: Caller) -> str:
    draft = await caller.create(PEOPLE[:2])
    late = sa.text("UPDATE tasks SET position = 99 WHERE batch_call_id = :id AND position = 0")
    with pytest.raises(sa.exc.IntegrityError) as caught, caller.dialer.store().writing() as tx:
        tx.execute(late, {"id": draft})
    logging.getLogger("anybody").error("failed", exc_info=caught.value)
    return str(caught.value)
