"""BATCHCALL_AGENTS: what a file of agents says, and what is wrong with one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batchcall_mcp.dialer.carriers.agents import PhoneAgent, parse_agents, read_agents
from batchcall_mcp.errors import ConfigurationError

EVERY_KIND = """
[reminder]
say = "Hello {{name}}, see you {{ day }}, {{name}}."
name = "Reminder of a visit"
voice = "Polly.Joanna-Neural"
language = "en-US"
machine = "leave_message"
keys = {1 = "confirmed", 9 = "do_not_call", "*" = "call me back", "#" = "other"}

[song]
play = "https://example.com/songs/one.mp3?version=2"
machine = "hang_up"

[voice-agent]
sip = "sip:agent@sip.example.com:5060;transport=tcp"

[socket]
stream = "wss://agent.example.com/calls"
machine = "ignore"
"""


def test_each_table_is_an_agent() -> None:
    assert parse_agents(EVERY_KIND) == {
        "reminder": PhoneAgent(
            agent_id="reminder",
            kind="say",
            content="Hello {{name}}, see you {{ day }}, {{name}}.",
            name="Reminder of a visit",
            voice="Polly.Joanna-Neural",
            language="en-US",
            machine="leave_message",
            keys={"1": "confirmed", "9": "do_not_call", "*": "call me back", "#": "other"},
        ),
        "song": PhoneAgent(
            agent_id="song", kind="play", content="https://example.com/songs/one.mp3?version=2", machine="hang_up"
        ),
        "voice-agent": PhoneAgent(
            agent_id="voice-agent", kind="sip", content="sip:agent@sip.example.com:5060;transport=tcp"
        ),
        "socket": PhoneAgent(agent_id="socket", kind="stream", content="wss://agent.example.com/calls"),
    }


def test_an_agent_needs_the_variables_of_its_placeholders() -> None:
    agents = parse_agents(EVERY_KIND)
    assert agents["reminder"].placeholders == ("name", "day")
    assert [agents[other].placeholders for other in ("song", "voice-agent", "socket")] == [(), (), ()]


def test_a_value_is_not_filled_a_second_time() -> None:
    agent = parse_agents(EVERY_KIND)["reminder"]
    assert agent.filled({"name": "{{day}}", "day": "{{name}}"}) == "Hello {{day}}, see you {{name}}, {{day}}."


def test_lines_of_a_text_are_spoken_as_one() -> None:
    assert parse_agents('[a]\nsay = """\nHello.\n  Goodbye.\n"""')["a"].content == "Hello. Goodbye."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There are no agents. Write a table such as [reminder]"),
        ("[a", "It is not TOML"),
        (
            'say = "Hello"',
            "say: this key is in no table. Write the name of its agent in a line above it, as [reminder].",
        ),
        ('["a b"]\nsay = "Hello"', '["a b"]: write a name of letters'),
        (
            '[a]\nsay = "Hello"\nvoise = "x"',
            "[a] voise: unknown key, did you mean voice? Write only say, play, sip, stream",
        ),
        ('[a]\nsay = "Hello"\nurl = "x"', "[a] url: unknown key. Write only say, play, sip, stream"),
        ('[a]\nname = "Nobody"', "[a]: write exactly one of say, play, sip and stream; this one has none of them."),
        (
            '[a]\nsay = "Hello"\nsip = "sip:a@example.com"',
            "[a]: write exactly one of say, play, sip and stream; this one has say and sip.",
        ),
        ("[a]\nsay = 5", "[a] say: write what it says in quotation marks"),
        ('[a]\nsay = " "', "[a] say: write what it says in quotation marks"),
        ('[a]\nsay = "Hello {{first name}}."', '[a] say: "{{first name}}." cannot be filled. Write {{name}}'),
        ('[a]\nsay = "Hello {name}."', '[a] say: "{name}." cannot be filled.'),
        ('[a]\nsay = "Hello {{name}, bye."', '[a] say: "{{name}, bye." cannot be filled.'),
        ('[a]\nsay = "Hello {{}}."', '[a] say: "{{}}." cannot be filled.'),
        ('[a]\nsay = "Hello name}}."', '[a] say: "}}." cannot be filled.'),
        ('[a]\nplay = "ftp://example.com/a.mp3"', "[a] play: write the address of a recording"),
        ('[a]\nplay = "https://example.com/{{name}}.mp3"', "[a] play: write the address of a recording"),
        ('[a]\nplay = "https://"', "[a] play: write the address of a recording"),
        ('[a]\nplay = "https://a:b@example.com/a.mp3"', "[a] play: write the address of a recording"),
        ('[a]\nplay = "https://[x/a.mp3"', "[a] play: write the address of a recording"),
        ('[a]\nsip = "tel:+19005550100"', "[a] sip: write a SIP address"),
        ('[a]\nsip = "sip:{{name}}@example.com"', "[a] sip: write a SIP address"),
        ('[a]\nsip = "sip:a@example.com?X-a=b"', "[a] sip: write a SIP address"),
        ('[a]\nsip = "sip:a@example.com\\n"', "[a] sip: write a SIP address"),
        ('[a]\nstream = "ws://example.com/"', "[a] stream: write a WebSocket address"),
        ('[a]\nstream = "wss://example.com/?name=1"', "[a] stream: write a WebSocket address without a query"),
        ('[a]\nsay = "Hello"\nmachine = "hangup"', '[a] machine: write "hang_up", "leave_message" or "ignore".'),
        ('[a]\nsay = "Hello"\nmachine = true', "[a] machine: write"),
        ('[a]\nsay = "Hello"\nname = ""', "[a] name: write a name for people"),
        ('[a]\nsay = "Hello"\nvoice = "<x>"', "[a] voice: write the name of a voice"),
        ('[a]\nsay = "Hello"\nlanguage = "English, please"', "[a] language: write a language"),
        ('[a]\nplay = "https://example.com/a.mp3"\nvoice = "alice"', "[a] voice: it goes with say only. Remove it."),
        ('[a]\nsay = "Hello"\nkeys = {10 = "ten"}', "[a] keys: write what each key of the phone means"),
        ('[a]\nsay = "Hello"\nkeys = {1 = 1}', "[a] keys: write what each key of the phone means"),
        ('[a]\nsay = "Hello"\nkeys = {1 = ""}', "[a] keys: write what each key of the phone means"),
        ('[a]\nsay = "Hello"\nkeys = {}', "[a] keys: write what each key of the phone means"),
        ('[a]\nsay = "Hello"\nkeys = [1]', "[a] keys: write what each key of the phone means"),
        ('[a]\nsip = "sip:a@example.com"\nkeys = {1 = "yes"}', "[a] keys: it goes with play or say only. Remove it."),
    ],
)
def test_a_mistake_is_named_by_its_table_and_key(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        parse_agents(text)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(said)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "agents.toml"
    path.write_text('[a]\nsay = "Hello {name}"\nvoise = "x"\n[b]\nmachine = "x"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        read_agents(path)
    first, *lines = str(refused.value).splitlines()
    assert first == f"BATCHCALL_AGENTS: {path} cannot be used. Nothing was started. Correct this:"
    assert [line.partition(": ")[0] for line in lines] == ["[a] say", "[a] voise", "[b]", "[b] machine"]


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "agents.toml"
    path.write_bytes(b'\xef\xbb\xbf[a]\r\nsay = "Hello {{name}}, gr\xc3\xbc\xc3\x9fe."\r\n')
    assert read_agents(path)["a"].content == "Hello {{name}}, grüße."


@pytest.mark.parametrize("content", [None, b"[a]\nsay = '\xff'"])
def test_a_file_that_cannot_be_read_names_the_setting(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "agents.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        ConfigurationError, match=r"BATCHCALL_AGENTS: .*agents\.toml cannot be read \(.+\)\. Nothing was"
    ):
        read_agents(path)
