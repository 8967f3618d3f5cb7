"""The Python SDK's 1.x client, run by its own interpreter: plays a person's part and prints what it saw as JSON.

python python_1.py <the server's address as JSON>
"""

# mypy sees mcp 2 here, and this is written for mcp 1.
# mypy: ignore-errors
# ruff: noqa: ANN003, ANN202, ANN204, T201

import json
import sys

import anyio
from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client

TASKS = [{"to_number": "+12125550111"}, {"to_number": "+12125550112"}]
LONGEST_S = 30
WATCH_S = 1


def transport(at):
    if at["transport"] == "stdio":
        return stdio_client(StdioServerParameters(command=at["command"], args=at["args"], env=at["env"], cwd=at["cwd"]))
    if at["transport"] == "sse":
        return sse_client(at["url"], headers=at["headers"])
    return streamablehttp_client(at["url"], headers=at["headers"])


class Person:
    """Answers the server's questions."""

    def __init__(self):
        self.yes = True
        self.questions = []

    async def __call__(self, context, params):
        self.questions.append(params.message)
        if self.yes:
            return types.ElicitResult(action="accept", content={"confirm": True})
        return types.ElicitResult(action="decline")


class Player:
    """Calls tools through one session."""

    def __init__(self, session):
        self.session = session

    async def call(self, tool, **arguments):
        result = await self.session.call_tool(tool, arguments)
        assert not result.isError, result.content[0].text
        return result.structuredContent

    async def draft(self, key):
        made = await self.call("create_batch_call", from_number="+14155550100", tasks=TASKS, idempotency_key=key)
        return made["batch_call"]["batch_call_id"]

    async def start(self, batch_call_id):
        arguments = {"batch_call_id": batch_call_id, "trigger_timestamp": "now"}
        return await self.session.call_tool("start_batch_call", arguments)

    async def cancelled_watch(self, batch_call_id):
        """Cancel a watch at its first sign of progress. What comes for it all the same, although it would end soon."""
        began, ended = anyio.Event(), anyio.Event()
        came = []

        async def progress(done, total, message):
            began.set()

        async def watch():
            arguments = {"batch_call_id": batch_call_id, "timeout_seconds": WATCH_S}
            try:
                result = await self.session.call_tool("watch_batch_call", arguments, progress_callback=progress)
                came.append(result.model_dump_json())
            except McpError as error:
                came.append(str(error))
            began.set()
            ended.set()

        async with anyio.create_task_group() as tasks:
            request_id = self.session._request_id  # the one that the next request will have
            tasks.start_soon(watch)
            await began.wait()
            notice = types.CancelledNotificationParams(requestId=request_id, reason="the person has gone")
            await self.session.send_notification(types.ClientNotification(types.CancelledNotification(params=notice)))
            with anyio.move_on_after(2 * WATCH_S):
                await ended.wait()
            tasks.cancel_scope.cancel()
        return came


async def main(at):
    person = Person()
    with anyio.fail_after(LONGEST_S):
        async with transport(at) as streams, ClientSession(*streams[:2], elicitation_callback=person) as session:
            opened = await session.initialize()
            player = Player(session)
            seen = {
                "protocol": opened.protocolVersion,
                "tools": [tool.name for tool in (await session.list_tools()).tools],
            }
            launched = await player.draft("first")
            answer = await player.start(launched)
            assert not answer.isError, answer.content[0].text
            seen["yes"] = answer.structuredContent
            person.yes = False
            refused = await player.start(await player.draft("second"))
            seen["no"] = {"error": refused.isError, "text": refused.content[0].text}
            seen["questions"] = person.questions
            seen["replay"] = await player.draft("first") == launched
            seen["watch"] = await player.cancelled_watch(launched)
            seen["afterwards"] = await player.call("get_batch_call", batch_call_id=launched)
    print(json.dumps(seen))


anyio.run(main, json.loads(sys.argv[1]))
