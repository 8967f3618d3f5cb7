"""What a phone hears, as TwiML: a document built of elements, so a variable's value is only ever text in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, tostring

from batchcall_mcp.dialer.carriers.agents import PhoneAgent
from batchcall_mcp.vendor_http.json_values import without_controls

LONGEST_VALUE: Final = 200
"""Characters of a variable's value."""
LONGEST_TWIML: Final = 4000
"""Characters that Twilio takes."""
_SIP_HEADERS_END: Final = 1024
"""Fewer characters than this in all headers of a SIP address together."""
_LONGEST_PARAMETER: Final = 500
"""Characters of a stream's parameter, its name and its value together."""
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)
_NOT_XML: Final = re.compile("[\ufffe\uffff]")


def twiml(agent: PhoneAgent, variables: Mapping[str, str], keys_url: str | None = None) -> str:
    """The document for one person. `keys_url`: where the key that they press is sent; None: nobody asks for one.

    Raises:
        KeyError: a variable is missing; `problem` says so before.
    """
    variables = {name: _spoken(value) for name, value in variables.items()}
    response = Element("Response")
    if agent.kind == "sip":
        SubElement(SubElement(response, "Dial"), "Sip").text = _with_headers(agent.content, variables)
    elif agent.kind == "stream":
        stream = SubElement(SubElement(response, "Connect"), "Stream", url=agent.content)
        for name, value in variables.items():
            SubElement(stream, "Parameter", name=_spoken(name), value=value)
    else:
        heard_in = response
        if agent.keys and keys_url is not None:
            # Without a key that ends it, `#` is a key like the others.
            gather = {"input": "dtmf", "numDigits": "1", "finishOnKey": "", "action": keys_url, "method": "POST"}
            heard_in = SubElement(response, "Gather", gather)
        how = {"voice": agent.voice, "language": agent.language}
        given = {name: value for name, value in how.items() if value is not None}
        SubElement(heard_in, agent.kind.capitalize(), given).text = _spoken(agent.filled(variables))
    return tostring(response, encoding="unicode")


def problem(agent: PhoneAgent, variables: Mapping[str, str], keys_url: str | None = None) -> str | None:
    """Why the agent cannot speak to a person with these variables; None: it can. Without any of the values."""
    missing = [name for name in agent.placeholders if not variables.get(name, "").strip()]
    if missing:
        return f"The agent {agent.agent_id} needs {', '.join(missing)}, which dynamic_variables does not have."
    used = agent.placeholders if agent.kind in {"say", "play"} else tuple(variables)
    too_long = next((name for name in used if len(variables[name]) > LONGEST_VALUE), None)
    if too_long is not None:
        return f"The value of {too_long} has more than {LONGEST_VALUE} characters."
    address = _problem_of_address(agent.kind, variables)
    if address is None and len(twiml(agent, variables, keys_url)) > LONGEST_TWIML:
        return f"What the agent {agent.agent_id} says is longer than the {LONGEST_TWIML} characters that Twilio takes."
    return address


def _problem_of_address(kind: str, variables: Mapping[str, str]) -> str | None:
    """Why these variables cannot go along with the address of an agent."""
    if kind == "stream" and any(len(name) + len(value) > _LONGEST_PARAMETER for name, value in variables.items()):
        return f"A variable is longer than the {_LONGEST_PARAMETER} characters of a stream's parameter."
    if kind == "sip" and not all(map(_HEADER_NAME.fullmatch, variables)):
        return "Each variable is a SIP header: its name may have only letters, digits, hyphens and underscores."
    if kind == "sip" and len(_headers(variables)) >= _SIP_HEADERS_END:
        return f"The variables are longer than the {_SIP_HEADERS_END} characters of all SIP headers."
    return None


def _with_headers(address: str, variables: Mapping[str, str]) -> str:
    return f"{address}?{_headers(variables)}" if variables else address


def _headers(variables: Mapping[str, str]) -> str:
    """Of a SIP address. `&`, `?` and `=` of a value are encoded: it cannot begin a header of its own."""
    return "&".join(f"X-{name}={quote(value, safe='')}" for name, value in variables.items())


def _spoken(value: str) -> str:
    """Without what XML cannot hold."""
    return _NOT_XML.sub(" ", without_controls(value))
