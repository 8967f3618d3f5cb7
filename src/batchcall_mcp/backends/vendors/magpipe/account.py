"""Whose numbers and agents a Magpipe key has (list-phone-numbers, list-agents), and which agent speaks on a number."""

from __future__ import annotations

from batchcall_mcp.backends.account_reading import Part, read_parts
from batchcall_mcp.backends.vendors.magpipe.mapping import agent, caller_number, list_in
from batchcall_mcp.errors import BatchCallError, InvalidInput, NotSupported
from batchcall_mcp.model import Account, Agent, CallerNumber
from batchcall_mcp.vendor_http.client import CallerHttp
from batchcall_mcp.vendor_http.json_values import read_each

LIMIT = 100


async def read_account(http: CallerHttp) -> Account:
    """Numbers and agents; a part that cannot be read is None and a note.

    Raises:
        AuthenticationFailed: the key is not accepted at all.
    """

    async def numbers() -> Part[CallerNumber]:
        return await own_numbers(http), ()

    async def agents() -> Part[Agent]:
        answer = await http.read("list the agents", "POST", "/list-agents", json={"limit": LIMIT})
        return read_each(list_in(answer, "agents"), agent), ()

    return await read_parts(numbers, agents)


async def own_numbers(http: CallerHttp) -> tuple[CallerNumber, ...]:
    """The account's active numbers."""
    body = {"limit": LIMIT, "is_active": True}
    answer = await http.read("list the caller numbers", "POST", "/list-phone-numbers", json=body)
    return read_each(list_in(answer, "numbers"), caller_number)


async def own_number(http: CallerHttp, from_number: str) -> CallerNumber:
    """The account's number `from_number`.

    Raises:
        InvalidInput: it is not one of the account's; nothing was sent.
        NotSupported: that could not be read; nothing was sent.
    """
    try:
        numbers = await own_numbers(http)
    except BatchCallError as error:
        raise NotSupported(
            f"Whether {from_number} is a number of this account, and which agent speaks on it, could not be read, and "
            f"Magpipe does not check it. Nothing was changed. {error.message}"
        ) from None
    for number in numbers:
        if number.from_number == from_number:
            return number
    raise InvalidInput(
        f"from_number: {from_number} is not an active number of this account. Nothing was sent. get_backend lists them."
    )


async def check_agent(http: CallerHttp, from_number: str, agent_id: str) -> None:
    """Refuse an agent that would not speak.

    Raises:
        NotSupported: another agent speaks on this number, or that could not be read; nothing was sent.
    """
    number = await own_number(http, from_number)
    if number.agent_id != agent_id:
        speaks = f"agent {number.agent_id}" if number.agent_id else "an agent that Magpipe does not name"
        raise NotSupported(
            f"agent_id: on calls from {from_number} {speaks} speaks, whatever is given here. Nothing was sent. Leave "
            "agent_id out, or give the number another agent at Magpipe."
        )
