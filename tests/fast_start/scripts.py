"""Scripts of raw messages: what a client sends, and when it waits.

A step is bytes to send, the number of lines that the client waits for in total, END of input, or a signal. Input ends
after the last step, unless the script has ended it.
"""

from __future__ import annotations

import signal
from typing import Any, Final, TypeAlias

from tests.fast_start.messages import (
    CLIENT,
    INITIALIZED,
    LISTS,
    META,
    call,
    initialize,
    line,
    modern,
    notification,
    request,
)

END: Final = "end"
Step: TypeAlias = bytes | int | str | signal.Signals

HELLO: list[Step] = [initialize(), 1, INITIALIZED]
"""The handshake, as every client of 2025 does it; then one line has come."""
PROBE = modern("probe", "server/discover")
ALL = b"".join(request(number, method) for number, method in enumerate(LISTS, 1))
ALL_MODERN = b"".join(modern(number, method) for number, method in enumerate(LISTS, 1))
TOOLS = request(1, "tools/list")
READ = request(9, "resources/read", {"uri": "batchcall://backend"})
READ_MODERN = modern(9, "resources/read", {"uri": "batchcall://backend"})
DEEP: Any = {}
for _ in range(300):
    DEEP = {"x": DEEP}


def _bytewise(data: bytes) -> list[Step]:
    return [data[at : at + 1] for at in range(len(data))]


SCRIPTS: dict[str, list[Step]] = {
    # The handshake of 2025.
    "handshake and lists, one after the other": [*HELLO, TOOLS, 2, request(2, "prompts/list"), 3, READ, 4],
    "handshake and all lists at once": [*HELLO, ALL, 5],
    "all before the first answer is read": [initialize() + INITIALIZED + ALL + READ, 6],
    "a tool call before the first answer is read": [initialize() + INITIALIZED + call(1), 2],
    "a tool call, then the lists": [*HELLO, call(1), 2, ALL, 6],
    "a tool call between the lists": [*HELLO, TOOLS, call(2), request(3, "tools/list"), 4],
    "initialized never comes": [initialize(), 1, TOOLS, 2, call(2), 3],
    "initialized comes before initialize": [INITIALIZED, initialize(), 1, TOOLS, 2],
    "initialized comes three times": [*HELLO, INITIALIZED, TOOLS, 2, INITIALIZED, call(2), 3],
    "initialized with parameters": [
        initialize(),
        1,
        notification("notifications/initialized", {"_meta": {"a": 1}}),
        TOOLS,
        2,
    ],
    "pings": [*HELLO, request(1, "ping"), 2, request(2, "ping", {}), request("3", "ping"), 4],
    "a ping before the handshake": [request(1, "ping"), 1, initialize(), 2],
    "a list before the handshake": [TOOLS, 1, initialize(2), 2, INITIALIZED, request(3, "tools/list"), 3],
    "initialize again": [*HELLO, initialize(1, "2025-06-18"), 2, request(2, "tools/list"), 3],
    "initialize again at once": [initialize() + initialize(1), 2],
    "the version of 2024": [initialize(version="2024-11-05"), 1, INITIALIZED, ALL, 5],
    "the version of March 2025": [initialize(version="2025-03-26"), 1, INITIALIZED, ALL, 5],
    "the version of June 2025": [initialize(version="2025-06-18"), 1, INITIALIZED, ALL, 5],
    "a version that nobody knows": [initialize(version="2099-01-01"), 1, INITIALIZED, TOOLS, 2],
    "the modern version in a handshake": [initialize(version="2026-07-28"), 1, INITIALIZED, TOOLS, 2],
    "a version that is a number": [initialize(version=None, protocolVersion=1), 1, initialize(1), 2],
    "no version": [initialize(version=None), 1],
    "no client": [initialize(clientInfo=None), 1, initialize(1), 2],
    "a client without a version": [initialize(clientInfo={"name": "client"}), 1, initialize(1), 2],
    "a client with everything": [
        initialize(
            clientInfo=CLIENT | {"title": "Client", "websiteUrl": "https://example.com", "description": "One"},
            capabilities={
                "roots": {"listChanged": True},
                "sampling": {"context": {}, "tools": {}},
                "elicitation": {"form": {}, "url": {}},
                "experimental": {"x": {"y": [1, "2", None]}},
                "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html"]}},
                "prompts": True,
            },
        ),
        1,
        INITIALIZED,
        TOOLS,
        2,
    ],
    "capabilities that are wrong": [
        initialize(capabilities={"roots": {"listChanged": "perhaps"}}),
        1,
        initialize(1),
        2,
    ],
    "capabilities that are none": [initialize(capabilities=[]), 1, initialize(1), 2],
    "parameters that nobody knows": [initialize(more=1), 1, INITIALIZED, request(1, "tools/list", {"x": 1}), 2],
    "a progress token": [*HELLO, request(1, "tools/list", {"_meta": {"progressToken": 5}}), 2],
    "a progress token that is none": [*HELLO, request(1, "tools/list", {"_meta": {"progressToken": [5]}}), 2],
    "a cursor": [*HELLO, request(1, "tools/list", {"cursor": "x"}), 2],
    "a cursor that is null": [*HELLO, request(1, "tools/list", {"cursor": None}), 2, TOOLS, 3],
    "parameters that are a list": [*HELLO, request(1, "tools/list", []), request(2, "tools/list"), call(3), 3],
    "methods that there are not": [*HELLO, request(1, "no/such"), 2, request(2, "TOOLS/LIST"), 3, TOOLS, 4],
    # The era of 2026.
    "a probe": [PROBE, 1],
    "a probe and lists": [PROBE, 1, ALL_MODERN, 5, READ_MODERN, 6],
    "lists without a probe": [ALL_MODERN, 4, modern(5, "server/discover"), 5],
    "a list and a call of 2026 before an answer is read": [modern(1, "tools/list") + READ_MODERN, 2],
    "two lists of 2026 with one id": [
        modern(1, "tools/list") + modern(1, "prompts/list"),
        2,
        modern(1, "tools/list"),
        3,
    ],
    "a probe of a version that nobody knows": [
        modern(1, "server/discover", protocolVersion="2099-01-01"),
        1,
        ALL_MODERN,
        5,
    ],
    "a probe without capabilities": [
        request(1, "server/discover", {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}),
        1,
        PROBE,
        2,
    ],
    "a list of 2026 with a log level": [modern(1, "tools/list", logLevel="debug"), 1, modern(2, "tools/list"), 2],
    "a list of 2026 with a cursor": [modern(1, "tools/list", {"cursor": "x"}), 1, modern(2, "tools/list"), 2],
    # From one era to the other.
    "a probe, then the handshake": [PROBE, 1, initialize(), 2, INITIALIZED, TOOLS, 3, call(2), 4],
    "two probes, then the handshake": [
        PROBE,
        PROBE.replace(b"probe", b"again"),
        2,
        initialize(),
        3,
        INITIALIZED,
        TOOLS,
        4,
    ],
    "lists of 2026, then the handshake": [modern(1, "tools/list"), 1, initialize(2), 2, request(3, "tools/list"), 3],
    "the handshake, then lists of 2026": [*HELLO, modern(1, "tools/list"), 2, TOOLS.replace(b"1", b"2"), 3],
    "the handshake, then a probe": [*HELLO, PROBE, 2, TOOLS, 3],
    "the handshake with a modern envelope": [initialize(_meta=META), 1, INITIALIZED, TOOLS, 2],
    # Ids.
    "ids that are 0, text, large and negative": [
        *HELLO,
        request("", "tools/list"),
        2,
        request(10**30, "ping"),
        3,
        request(-5, "ping"),
        4,
        request("ä", "ping"),
        5,
        request(2**53, "ping"),
        6,
    ],
    "ids that are none": [
        *HELLO,
        request(None, "tools/list"),
        request(1.5, "tools/list"),
        request([1], "ping"),
        call(2),
        2,
    ],
    "an id that is true": [*HELLO, request(True, "tools/list"), call(2), 2],
    "an id of initialize that is empty": [initialize(""), 1, INITIALIZED, TOOLS, 2],
    "an id of initialize that is a float": [
        initialize(1.0),
        initialize(2),
        1,
        INITIALIZED,
        TOOLS.replace(b"1", b"3"),
        2,
    ],
    "one id for everything": [initialize(1), 1, INITIALIZED, TOOLS + call(1) + request(1, "ping"), 4],
    "the id of initialize, for a call before its answer is read": [initialize(7) + INITIALIZED + call(7), 2],
    "the answer to a question that nobody asked": [*HELLO, line({"jsonrpc": "2.0", "id": 0, "result": {}}), TOOLS, 2],
    # Lines.
    "byte after byte": [*_bytewise(initialize()), 1, INITIALIZED[:30], INITIALIZED[30:] + TOOLS[:9], TOOLS[9:], 2],
    "Windows line ends": [
        part.replace(b"\n", b"\r\n") if isinstance(part, bytes) else part for part in [*HELLO, TOOLS, 2]
    ],
    "a carriage return inside": [*HELLO, TOOLS.replace(b", ", b",\r"), call(2), 2],
    "empty lines": [b"\n", initialize(), 1, b"\n\n", INITIALIZED, b" \n", TOOLS, 2],
    "no JSON": [b"no json\n", initialize(), 1, INITIALIZED, b"{\n", TOOLS, 2, b"]\n", call(2), 3],
    "no UTF-8": [*HELLO, b'{"jsonrpc":"2.0","id":1,"method":"tools/list\xff"}\n', 2, TOOLS.replace(b"1", b"2"), 3],
    "half a character": [*HELLO, b'{"jsonrpc":"2.0","id":"\\ud83d","method":"tools/list"}\n', 2, TOOLS, 3],
    "NaN": [
        *HELLO,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":NaN}}}\n',
        2,
        TOOLS,
        3,
    ],
    "one name twice": [*HELLO, b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping","method":"tools/list"}\n', 2],
    "more names than a request has": [
        *HELLO,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","result":{}}\n',
        call(2),
        3,
    ],
    "another version of JSON-RPC": [*HELLO, b'{"jsonrpc":"1.0","id":1,"method":"tools/list"}\n', call(2), 2],
    "a batch": [*HELLO, b"[" + TOOLS.strip() + b"]\n", call(2), 2],
    "a deep one": [*HELLO, request(1, "tools/list", {"_meta": DEEP}), 2, TOOLS.replace(b"1", b"2"), 3],
    "a long one": [*HELLO, request(1, "tools/list", {"_meta": {"progressToken": "x" * 300_000}}), 2, TOOLS, 3],
    "a long one in the handshake": [initialize(clientInfo=CLIENT | {"title": "x" * 300_000}), 1, INITIALIZED, TOOLS, 2],
    # Cancelled.
    "the handshake is cancelled": [
        initialize() + notification("notifications/cancelled", {"requestId": 0}),
        1,
        TOOLS,
        2,
    ],
    "a list is cancelled after its answer": [
        *HELLO,
        TOOLS,
        2,
        notification("notifications/cancelled", {"requestId": 1}),
        call(2),
        3,
    ],
    "what was never asked is cancelled": [*HELLO, notification("notifications/cancelled", {"requestId": 99}), TOOLS, 2],
    # The end.
    "nothing at all": [END],
    "an end after half a line": [initialize()[:40], END],
    "an end after the handshake": [*HELLO, END],
    "an end after initialize": [initialize(), 1, END],
    "an end after the lists": [*HELLO, ALL, 5, END],
    "an end after a list and half a line": [*HELLO, TOOLS, 2, TOOLS[:20], END],
    "an end after a probe": [PROBE, 1, END],
    "an end after a call": [*HELLO, call(1), 2, END],
    "an end without the last line's end": [*HELLO, TOOLS, 2, call(2).rstrip(), 2, END],
}
SIGNALS: dict[str, list[Step]] = {
    "Ctrl+C after the handshake": [*HELLO, signal.SIGINT],
    "Ctrl+C after the lists": [*HELLO, TOOLS, 2, signal.SIGINT],
    "Ctrl+C after a call": [*HELLO, call(1), 2, signal.SIGINT],
    "terminated after the handshake": [*HELLO, signal.SIGTERM],
    "terminated after a list of 2026": [modern(1, "tools/list"), 1, signal.SIGTERM],
}
