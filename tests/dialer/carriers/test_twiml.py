"""TwiML: what a variable holds is spoken, never obeyed."""

from __future__ import annotations

from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, fromstring

import pytest

from batchcall_mcp.dialer.carriers.agents import PhoneAgent
from batchcall_mcp.dialer.carriers.twiml import LONGEST_TWIML, LONGEST_VALUE, problem, twiml

KEYS_URL = "https://dialer.example.com/carriers/twilio"
REMINDER = PhoneAgent(agent_id="reminder", kind="say", content="Hello {{name}}.", voice="Polly.Amy", language="en-GB")
SONG = PhoneAgent(agent_id="song", kind="play", content="https://example.com/a.mp3?a=1&b=2")
VOICE_AGENT = PhoneAgent(agent_id="voice", kind="sip", content="sip:agent@example.com;transport=tls")
SOCKET = PhoneAgent(agent_id="socket", kind="stream", content="wss://example.com/agent")
ATTACKS = (
    "</Say><Dial>+19005550100</Dial><Say>",
    "</Parameter></Stream></Connect><Dial>+19005550100</Dial>",
    '"/><Dial>+19005550100</Dial><Parameter name="',
    "&X-Admin=1?X-Other=2;x=3</Sip><Number>+19005550100</Number>",
    "]]><Dial>+19005550100</Dial><![CDATA[",
    "&#60;Dial&#62;",
    "{{name}}",
    "\x00\x1b\ud800\ufffe\uffff\r\nX-Injected: 1",
    "Ünïcode 😀 <break time='9s'/>",
)


def verbs(document: str) -> list[str]:
    """Every element, in order, the root first."""
    return [element.tag for element in fromstring(document).iter()]


def test_a_text_is_said() -> None:
    document = twiml(REMINDER, {"name": "Ada", "more": "unused"})
    assert document == '<Response><Say voice="Polly.Amy" language="en-GB">Hello Ada.</Say></Response>'


def test_a_recording_is_played() -> None:
    assert twiml(SONG, {}) == "<Response><Play>https://example.com/a.mp3?a=1&amp;b=2</Play></Response>"


def test_a_sip_agent_gets_the_variables_as_headers() -> None:
    sip = fromstring(twiml(VOICE_AGENT, {"name": "Ada & Bob", "first_name": "Ada"})).find("./Dial/Sip")
    assert sip is not None
    assert sip.text == "sip:agent@example.com;transport=tls?X-name=Ada%20%26%20Bob&X-first_name=Ada"
    assert twiml(VOICE_AGENT, {}) == "<Response><Dial><Sip>sip:agent@example.com;transport=tls</Sip></Dial></Response>"


def test_a_websocket_agent_gets_the_variables_as_parameters() -> None:
    assert twiml(SOCKET, {"name": "Ada", "day": "Monday"}) == (
        '<Response><Connect><Stream url="wss://example.com/agent"><Parameter name="name" value="Ada" />'
        '<Parameter name="day" value="Monday" /></Stream></Connect></Response>'
    )


def test_a_key_is_asked_for_only_with_an_address_for_it() -> None:
    agent = PhoneAgent(agent_id="a", kind="say", content="Press 1.", keys={"1": "confirmed"})
    assert verbs(twiml(agent, {})) == ["Response", "Say"]
    document = twiml(agent, {}, KEYS_URL)
    assert verbs(document) == ["Response", "Gather", "Say"]
    gather = fromstring(document)[0]
    assert gather.attrib == {
        "input": "dtmf",
        "numDigits": "1",
        "finishOnKey": "",
        "action": KEYS_URL,
        "method": "POST",
    }
    assert verbs(twiml(REMINDER, {"name": "Ada"}, KEYS_URL)) == ["Response", "Say"]


@pytest.mark.parametrize("value", ATTACKS)
@pytest.mark.parametrize("agent", [REMINDER, SONG, VOICE_AGENT, SOCKET], ids=lambda agent: agent.kind)
def test_a_value_adds_no_verb(agent: PhoneAgent, value: str) -> None:
    assert verbs(twiml(agent, {"name": value})) == verbs(twiml(agent, {"name": "Ada"}))


@pytest.mark.parametrize("value", [one for one in ATTACKS if "\x00" not in one])
def test_a_value_arrives_as_it_is(value: str) -> None:
    assert fromstring(twiml(REMINDER, {"name": value}))[0].text == f"Hello {value}."
    parameter = fromstring(twiml(SOCKET, {"name": value})).find("./Connect/Stream/Parameter")
    assert parameter is not None
    assert parameter.attrib == {"name": "name", "value": value}
    assert headers(fromstring(twiml(VOICE_AGENT, {"name": value}))) == [("X-name", value)]


def headers(response: Element) -> list[tuple[str, str]]:
    """Of the SIP address in a document."""
    sip = response.find("./Dial/Sip")
    assert sip is not None
    assert sip.text is not None
    return parse_qsl(sip.text.partition("?")[2], keep_blank_values=True)


def test_control_characters_are_spaces() -> None:
    ((name, value),) = headers(fromstring(twiml(VOICE_AGENT, {"name": "a\r\nX-Injected: 1\x00\ufffe"})))
    assert (name, value) == ("X-name", "a  X-Injected: 1  ")


def test_the_name_of_a_parameter_is_only_a_name() -> None:
    assert verbs(twiml(SOCKET, {'"/><Dial>1</Dial>': "x"})) == ["Response", "Connect", "Stream", "Parameter"]


@pytest.mark.parametrize("variables", [{}, {"name": ""}, {"name": " \t"}, {"Name": "Ada"}])
def test_a_missing_variable_is_named(variables: dict[str, str]) -> None:
    said = problem(REMINDER, variables)
    assert said == "The agent reminder needs name, which dynamic_variables does not have."


def test_what_can_be_spoken_has_no_problem() -> None:
    assert problem(REMINDER, {"name": "A" * LONGEST_VALUE, "unused": "x" * 1000}) is None
    assert problem(SONG, {"unused": "x" * 1000}) is None
    assert problem(VOICE_AGENT, {"name": "x"}) is None
    assert problem(SOCKET, {"first name": "x"}) is None


@pytest.mark.parametrize("agent", [REMINDER, VOICE_AGENT, SOCKET], ids=lambda agent: agent.kind)
def test_a_value_is_short(agent: PhoneAgent) -> None:
    assert problem(agent, {"name": "A" * (LONGEST_VALUE + 1)}) == "The value of name has more than 200 characters."


def test_a_name_that_is_no_sip_header_is_refused() -> None:
    for name in ("first name", "a&b", "a=b", "ä", ""):
        assert str(problem(VOICE_AGENT, {name: "x"})).startswith("Each variable is a SIP header")


def test_all_sip_headers_together_are_short() -> None:
    most = {f"v{number}": "ä" * 100 for number in range(2)}
    assert "1024" in str(problem(VOICE_AGENT, most))


def test_a_parameter_of_a_stream_is_short() -> None:
    assert "500" in str(problem(SOCKET, {"n" * 400: "v" * 101}))


def test_the_whole_document_is_short() -> None:
    agent = PhoneAgent(
        agent_id="long", kind="say", content="x" * (LONGEST_TWIML - len("<Response><Say></Say></Response>"))
    )
    assert problem(agent, {}) is None
    assert len(twiml(agent, {})) == LONGEST_TWIML
    keyed = PhoneAgent(agent_id="long", kind="say", content=agent.content, keys={"1": "yes"})
    assert "4000" in str(problem(keyed, {}, KEYS_URL))
    escaped = PhoneAgent(agent_id="many", kind="say", content="{{name}} " * 5)
    assert problem(escaped, {"name": "x" * 200}) is None
    assert "4000" in str(problem(escaped, {"name": "&" * 200}))
