"""Only what the SDK certainly accepts is answered from the snapshot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.shared.inbound import InboundModernRoute, classify_inbound_request
from mcp.types import InitializeRequestParams, JSONRPCRequest, jsonrpc_message_adapter
from mcp.types import methods as sdk
from mcp.types.version import LATEST_HANDSHAKE_VERSION

from batchcall_mcp.fast_start.answers import Snapshot
from tests.fast_start.messages import CLIENT, INITIALIZED, LISTS, META, initialize, line, modern, request

scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(), st.text(max_size=3))
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
objects: st.SearchStrategy[Any] = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(st.sampled_from(["form", "url", "context", "tools", "list", "x"]), inner, max_size=2),
    max_leaves=4,
)
capabilities = st.dictionaries(
    st.sampled_from(
        ["roots", "sampling", "elicitation", "tasks", "experimental", "extensions", "prompts", "listChanged"]
    ),
    st.one_of(objects, anything, st.fixed_dictionaries({"listChanged": scalars})),
    max_size=3,
)
clients = st.dictionaries(
    st.sampled_from(["name", "version", "title", "description", "websiteUrl", "icons", "x"]),
    st.one_of(st.text(max_size=4), anything),
    max_size=4,
).map(lambda other: CLIENT | other)
ids = st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=4), scalars)


def _judged(message: dict[str, Any], first: bytes | None = None) -> tuple[bytes, bool] | None:
    snapshot = Snapshot("zudu", "full")
    if first is not None:
        assert snapshot.answer(first) is not None
    return snapshot.answer(line(message))


def _read(message: dict[str, Any]) -> JSONRPCRequest:
    """As the SDK's stdio reads it."""
    read = jsonrpc_message_adapter.validate_json(line(message).decode(), by_name=False)
    assert isinstance(read, JSONRPCRequest)
    return read


@given(ids, capabilities, clients, st.sampled_from([LATEST_HANDSHAKE_VERSION, "2024-11-05"]))
@example(0, {"roots": {"listChanged": 1}}, CLIENT, LATEST_HANDSHAKE_VERSION)
@example(0, {"experimental": {"x": 5}, "extensions": {"x": {}}}, CLIENT, LATEST_HANDSHAKE_VERSION)
def test_an_answered_handshake_is_one_that_the_sdk_accepts(id: Any, can: Any, client: Any, version: str) -> None:  # noqa: A002
    params = {"protocolVersion": version, "capabilities": can, "clientInfo": client}
    message = {"jsonrpc": "2.0", "id": id, "method": "initialize", "params": params}
    answered = _judged(message)
    if answered is not None:
        read = _read(message)
        sdk.validate_client_request("initialize", LATEST_HANDSHAKE_VERSION, read.params)
        InitializeRequestParams.model_validate(read.params, by_name=False)
        assert json.loads(answered[0])["id"] == read.id
        assert type(json.loads(answered[0])["id"]) is type(read.id)


@given(ids, st.sampled_from([*LISTS, "server/discover"]), capabilities, clients, scalars)
def test_an_answered_list_of_2026_is_one_that_the_sdk_accepts(
    id: Any,  # noqa: A002
    method: str,
    can: Any,
    client: Any,
    token: Any,
) -> None:
    own = {"clientCapabilities": can, "clientInfo": client}
    meta = META | {f"io.modelcontextprotocol/{name}": value for name, value in own.items()} | {"progressToken": token}
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": {"_meta": meta}}
    if _judged(message) is not None:
        read = _read(message)
        route = classify_inbound_request({"method": method, "params": read.params})
        assert isinstance(route, InboundModernRoute)
        sdk.validate_client_request(method, route.protocol_version, read.params)


@given(ids, st.sampled_from([*LISTS, "ping"]), st.dictionaries(st.sampled_from(["progressToken", "x"]), anything))
def test_an_answered_list_of_2025_is_one_that_the_sdk_accepts(id: Any, method: str, meta: Any) -> None:  # noqa: A002
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": {"_meta": meta}}
    if _judged(message, initialize()) is not None:
        sdk.validate_client_request(method, LATEST_HANDSHAKE_VERSION, _read(message).params)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ([], initialize()),
        ([], initialize(capabilities={"elicitation": {"form": {}}, "roots": {"listChanged": True}})),
        (
            [],
            initialize(
                "a-1", capabilities={"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html"]}}}
            ),
        ),
        ([], initialize(capabilities={"tools": True, "prompts": True, "logging": False, "elicitation": {}})),
        ([initialize()], INITIALIZED),
        ([initialize(), INITIALIZED], request(1, "tools/list")),
        ([initialize(), INITIALIZED], request(1, "tools/list", {})),
        ([initialize(), INITIALIZED], request(1, "resources/templates/list", {"_meta": {"progressToken": "t"}})),
        ([], modern(1, "server/discover")),
        ([modern(0, "server/discover")], initialize(1)),
        ([modern(0, "server/discover")], modern(1, "tools/list")),
        ([], modern(1, "prompts/list")),
    ],
    ids=str,
)
def test_what_real_clients_send_is_answered(before: list[bytes], message: bytes) -> None:
    snapshot = Snapshot("zudu", "full")
    for earlier in before:
        assert snapshot.answer(earlier) is not None
    assert snapshot.answer(message) is not None


HELLO = [initialize(), INITIALIZED]


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ([], initialize(clientInfo=CLIENT | {"title": 5})),
        ([], initialize(clientInfo=CLIENT | {"name": None})),
        ([], initialize(capabilities={"extensions": {"x": 5}})),
        ([], initialize(capabilities={"experimental": {"x": 5}, "extensions": {"x": {}}})),
        ([], initialize(capabilities={"elicitation": {"form": True}})),
        ([], initialize(10**20)),
        ([], initialize(version="2099-01-01")),
        ([], b'{"jsonrpc":"2.0","id":-0,"method":"initialize"}\n'),
        (HELLO, request(10**20, "tools/list")),
        (HELLO, b'{"jsonrpc":"2.0","id":-0,"method":"tools/list"}\n'),
        (HELLO, request(1.5, "tools/list")),
        (HELLO, request(True, "tools/list")),
        (HELLO, request(None, "tools/list")),
        (HELLO, request("", "tools/list")),
        (HELLO, request(1, "tools/list", {"_meta": {"progressToken": True}})),
        (HELLO, request(1, "tools/list", {"_meta": {"progressToken": None}})),
        (HELLO, request(1, "tools/list", {"_meta": META})),
        (HELLO, request(1, "tools/list", {"cursor": None})),
        (HELLO, request(1, "server/discover")),
        (HELLO, b'{"jsonrpc":"2.0",\r"id":1,"method":"tools/list"}\n'),
        (HELLO, b'{"jsonrpc":"2.0","id":"\\uD83D","method":"tools/list"}\n'),
        (HELLO, b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n'),
        (HELLO, initialize(5)),
        ([modern(0, "tools/list")], initialize(5)),
        ([modern(0, "tools/list")], modern(5, "server/discover")),
        ([], request(1, "ping")),
        ([], INITIALIZED),
        ([], modern(1, "tools/list", clientInfo={"name": "x"})),
    ],
    ids=str,
)
def test_what_only_the_sdk_can_judge_is_not_answered(before: list[bytes], message: bytes) -> None:
    snapshot = Snapshot("zudu", "full")
    for earlier in before:
        assert snapshot.answer(earlier) is not None
    assert snapshot.answer(message) is None


@pytest.mark.parametrize("id", ["@VERSION@", "2025-11-25"])
def test_no_id_is_taken_for_a_part_of_the_answer(id: str) -> None:  # noqa: A002
    judged = Snapshot("zudu", "full").answer(initialize(id))
    assert judged is not None
    answer = json.loads(judged[0])
    assert (answer["id"], answer["result"]["protocolVersion"]) == (id, "2025-11-25")
