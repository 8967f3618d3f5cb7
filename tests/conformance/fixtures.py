"""A server of ours with the tools, resources and prompts that MCP's conformance suite asks for by name.

What they have to say is in the description of each scenario of `@modelcontextprotocol/conformance`. Everything else is
the real thing: `StrictServer`, its schemas and its refusals, and what seals the state of a question.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import Message, UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    PromptReference,
    ResourceTemplateReference,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import Field

from batchcall_mcp.errors import NotFound
from batchcall_mcp.server.credentials import request_state_security
from batchcall_mcp.server.tools.strict_tools import StrictServer, strict_tool
from batchcall_mcp.settings import Settings

Caller: TypeAlias = Context[Any, Any]
Asking: TypeAlias = CallToolResult | InputRequiredResult

SEALING_KEY = secrets.token_bytes(32)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
NAME_FORM: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
COLOR_FORM: dict[str, Any] = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
OK_FORM: dict[str, Any] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
CONTEXT_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"context": {"type": "string"}},
    "required": ["context"],
}
USER_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
DEFAULTS_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
TITLED = [{"const": "value1", "title": "First"}, {"const": "value2", "title": "Second"}]
PLAIN = ["option1", "option2", "option3"]
ENUMS_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": PLAIN},
        "titledSingle": {"type": "string", "oneOf": TITLED},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": PLAIN}},
        "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
    },
}
WIDE_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def fixture_server(settings: Settings) -> StrictServer:
    """The server, for any HTTP transport."""
    server = StrictServer(
        "conformance",
        version="1",
        log_level="ERROR",  # the suite provokes refusals on purpose
        tools=[*map(_tool, TOOLS), _tool(json_schema_2020_12_tool).model_copy(update={"parameters": WIDE_SCHEMA})],
        request_state_security=request_state_security(settings, lambda: SEALING_KEY),
    )
    _add_resources(server)
    _add_prompts(server)
    _add_handshake_methods(server)
    return server


def _tool(function: Callable[..., Any]) -> Tool:
    name = function.__name__
    return strict_tool(function, name=name, title=name, description=function.__doc__ or "", annotations=None)


# What a tool may answer with.


async def test_simple_text() -> CallToolResult:
    """Answers with text."""
    return _said("This is a simple text response for testing.")


async def test_image_content() -> CallToolResult:
    """Answers with an image."""
    return CallToolResult(content=[_image()])


async def test_audio_content() -> CallToolResult:
    """Answers with a sound."""
    return CallToolResult(content=[AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


async def test_embedded_resource() -> CallToolResult:
    """Answers with a resource."""
    return CallToolResult(content=[_embedded("test://embedded-resource", "This is an embedded resource content.")])


async def test_multiple_content_types() -> CallToolResult:
    """Answers with a text, an image and a resource."""
    data = json.dumps({"test": "data", "value": 123})
    blocks: list[ContentBlock] = [
        TextContent(type="text", text="Multiple content types test:"),
        _image(),
        _embedded("test://mixed-content-resource", data, "application/json"),
    ]
    return CallToolResult(content=blocks)


async def test_error_handling() -> CallToolResult:
    """Fails."""
    raise NotFound("This tool intentionally returns an error for testing")


async def json_schema_2020_12_tool(name: str = "") -> CallToolResult:
    """Tool with JSON Schema 2020-12 features."""
    return _said(name)


async def test_header_region(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> CallToolResult:
    """Takes an argument that clients repeat in a header."""
    return _said(region)


# What goes to the client while a tool runs.


async def test_tool_with_logging(ctx: Caller) -> CallToolResult:
    """Logs three times."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await asyncio.sleep(0.05)
    return _said("Logged three times.")


async def test_logging_tool(ctx: Caller) -> CallToolResult:
    """Logs once, to who wants to know."""
    await ctx.info("A line of the log")
    return _said("Logged.")


async def test_tool_with_progress(ctx: Caller) -> CallToolResult:
    """Reports progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100)
        await asyncio.sleep(0.05)
    return _said("Done.")


async def test_reconnection(ctx: Caller) -> CallToolResult:
    """Closes the stream of its answer, where the transport can resume it."""
    await ctx.close_sse_stream()
    await asyncio.sleep(0.2)
    return _said("Reconnected.")


async def test_trigger_tool_change(ctx: Caller) -> CallToolResult:
    """Says that the tools have changed."""
    await ctx.notify_tools_changed()
    return _said("Told.")


async def test_trigger_prompt_change(ctx: Caller) -> CallToolResult:
    """Says that the prompts have changed."""
    await ctx.notify_prompts_changed()
    return _said("Told.")


# Asking the client in the handshake era: while the tool call waits.


async def test_sampling(prompt: str, ctx: Caller) -> CallToolResult:
    """Asks the client's model."""
    answer = await ctx.session.send_request(
        _sampling(prompt), CreateMessageResult, metadata=ServerMessageMetadata(related_request_id=ctx.request_id)
    )
    text = answer.content.text if isinstance(answer.content, TextContent) else ""
    return _said(f"LLM response: {text}")


async def test_elicitation(message: str, ctx: Caller) -> CallToolResult:
    """Asks the person."""
    return await _elicited(ctx, "User response", message, USER_FORM)


async def test_elicitation_sep1034_defaults(ctx: Caller) -> CallToolResult:
    """Asks the person, with a default for each kind of value."""
    return await _elicited(ctx, "Elicitation completed", "Who are you?", DEFAULTS_FORM)


async def test_elicitation_sep1330_enums(ctx: Caller) -> CallToolResult:
    """Asks the person to choose."""
    return await _elicited(ctx, "Elicitation completed", "Choose.", ENUMS_FORM)


# Asking the client since 2026-07-28: the question is the result, the answer comes with the next call.


async def test_input_required_result_elicitation(ctx: Caller) -> Asking:
    """Asks for a name."""
    name = _answered(ctx, "user_name", "name")
    return _ask(user_name=_form("What is your name?", NAME_FORM)) if name is None else _said(f"Hello, {name}!")


async def test_streaming_elicitation(ctx: Caller) -> Asking:
    """Reports progress, then asks for a name."""
    await ctx.report_progress(1, 2)
    return await test_input_required_result_elicitation(ctx)


async def test_input_required_result_sampling(ctx: Caller) -> Asking:
    """Asks the client's model."""
    answer = _answers(ctx).get("capital_question")
    if not isinstance(answer, CreateMessageResult):
        return _ask(capital_question=_sampling("What is the capital of France?"))
    return _said(answer.content.text if isinstance(answer.content, TextContent) else "No text came.")


async def test_input_required_result_list_roots(ctx: Caller) -> Asking:
    """Asks for the client's roots."""
    roots = getattr(_answers(ctx).get("client_roots"), "roots", None)
    if roots is None:
        return _ask(client_roots=ListRootsRequest())
    return _said(", ".join(str(root.uri) for root in roots))


async def test_input_required_result_request_state(ctx: Caller) -> Asking:
    """Asks for a confirmation and knows what it was for."""
    if ctx.request_state != "the draft" or _answered(ctx, "confirm", "ok") is None:
        return _ask("the draft", confirm=_form("Please confirm", OK_FORM))
    return _said("state-ok")


async def test_input_required_result_tampered_state(ctx: Caller) -> Asking:
    """Asks for a confirmation."""
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: Caller) -> Asking:
    """Asks three things at once."""
    wanted: dict[str, InputRequest] = {
        "user_name": _form("What is your name?", NAME_FORM),
        "greeting": _sampling("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    return _said("All three came.") if wanted.keys() <= _answers(ctx).keys() else _ask("three", **wanted)


async def test_input_required_result_multi_round(ctx: Caller) -> Asking:
    """Asks for a name, then for a color."""
    name, color = _answered(ctx, "step1", "name"), _answered(ctx, "step2", "color")
    if ctx.request_state is not None and color is not None:
        return _said(f"{json.loads(ctx.request_state)['name']} likes {color}.")
    if name is None:
        return _ask(json.dumps({}), step1=_form("Step 1: What is your name?", NAME_FORM))
    return _ask(json.dumps({"name": name}), step2=_form("Step 2: What is your favorite color?", COLOR_FORM))


async def test_input_required_result_capabilities(ctx: Caller) -> Asking:
    """Asks what the client can answer."""
    can = ctx.client_capabilities
    possible: dict[str, InputRequest] = {}
    if can and can.elicitation:
        possible["user_name"] = _form("What is your name?", NAME_FORM)
    if can and can.sampling:
        possible["greeting"] = _sampling("Generate a greeting")
    return _said("All came.") if possible.keys() <= _answers(ctx).keys() else _ask(**possible)


async def test_missing_capability(ctx: Caller) -> Asking:
    """Cannot do without the client's model."""
    if not (ctx.client_capabilities and ctx.client_capabilities.sampling):
        needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "The client did not declare sampling", needed)
    return await test_input_required_result_sampling(ctx)


TOOLS: tuple[Callable[..., Any], ...] = (
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_header_region,
    test_tool_with_logging,
    test_logging_tool,
    test_tool_with_progress,
    test_reconnection,
    test_trigger_tool_change,
    test_trigger_prompt_change,
    test_sampling,
    test_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    test_input_required_result_elicitation,
    test_streaming_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_capabilities,
    test_missing_capability,
)


def _add_resources(server: StrictServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """An image."""
        import base64

        return base64.b64decode(PNG)

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """A text that may change."""
        return "Watched."

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 - the template's variable
        """One text for each id."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: StrictServer) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """Takes nothing."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Takes two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803 - named by the suite
        """Has a resource."""
        resource = _embedded(resourceUri, "Embedded resource content for testing.")
        return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]

    @server.prompt()
    def test_prompt_with_image() -> list[Message]:
        """Has an image."""
        return [UserMessage(_image()), UserMessage("Please analyze the image above.")]

    @server.prompt()
    def test_input_required_result_prompt(ctx: Caller) -> str | InputRequiredResult:
        """Asks before it answers."""
        context = _answered(ctx, "user_context", "context")
        return context or _ask(user_context=_form("What context should the prompt use?", CONTEXT_FORM))

    @server.completion()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        values = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return Completion(values=values, total=len(values), has_more=False)


def _add_handshake_methods(server: StrictServer) -> None:
    """What 2026-07-28 has no more and MCPServer therefore has no decorator for."""
    server.streamable_http_app()
    lowlevel = server.session_manager.app

    async def accept(_context: Any, _params: Any) -> EmptyResult:
        return EmptyResult()

    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)


def _said(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])


def _image() -> ImageContent:
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def _embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def _form(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sampling(prompt: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def _ask(state: str | None = None, /, **requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def _answers(ctx: Caller) -> Mapping[str, Any]:
    return ctx.input_responses or {}


def _answered(ctx: Caller, key: str, field: str) -> Any:
    """One field of a form that was filled in, or None."""
    answer = _answers(ctx).get(key)
    return (answer.content or {}).get(field) if isinstance(answer, ElicitResult) else None


async def _elicited(ctx: Caller, begin: str, message: str, schema: dict[str, Any]) -> CallToolResult:
    answer = await ctx.session.elicit_form(message, schema, ctx.request_id)
    return _said(f"{begin}: action={answer.action}, content={json.dumps(answer.content)}")
