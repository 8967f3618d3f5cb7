"""The entry in each client's format: by its documentation, next to what is there, which stays as it is written."""

from __future__ import annotations

import itertools
import json
import random
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.cli.setup import entry as entries
from batchcall_mcp.cli.setup.clients import BY_NAME, CLIENTS, Client, Machine, server_command
from batchcall_mcp.cli.setup.entry import Entry
from batchcall_mcp.cli.setup.files import difference
from batchcall_mcp.cli.setup.json_text import JsonText
from batchcall_mcp.cli.setup.problems import FileProblem
from tests.server.transports import ROOT

FIXTURES = Path(__file__).parent / "fixtures"
ENV_FILE = "/home/me/.config/batchcall-mcp/batchcall.env"
ENTRY = Entry("/opt/bin/batchcall-mcp", [], ENV_FILE, without=("BATCHCALL_BACKEND", "BATCHCALL_API_KEY"))
WITH_KEY = Entry("uvx", ["batchcall-mcp"], ENV_FILE, asked={"BATCHCALL_API_KEY": "API key of zudu"})
EVERY = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def fixture(client: Client) -> str:
    return (FIXTURES / f"{client.name}.{'toml' if client.form == 'toml' else 'json'}").read_text(encoding="utf-8")


def read(client: Client, text: str) -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads(text) if client.form == "toml" else JsonText(text, comments=True).value
    return document


def lines_gone(old: str, new: str) -> list[str]:
    return [line for line in difference(Path("f"), old, new) if line.startswith("-") and not line.startswith("---")]


@EVERY
def test_the_entry_is_put_next_to_the_others_and_nothing_else_changes(client: Client) -> None:
    text = fixture(client)
    new = entries.changed(client, text, ENTRY)
    document = read(client, new)
    wanted: dict[str, Any] = {"type": "stdio"} if client.typed else {}
    assert document[client.key].pop("batchcall") == wanted | {
        "command": "/opt/bin/batchcall-mcp",
        "args": [],
        "env": {"BATCHCALL_ENV_FILE": ENV_FILE},
    }
    assert document == read(client, text)
    if client.name != "cursor":  # whose fixture is one line
        # Only a line to whose end a comma was added is another one.
        assert len(lines_gone(text, new)) <= 1
    assert re.findall(r"(?://|/\*|#) [a-z ]+", new) == re.findall(r"(?://|/\*|#) [a-z ]+", text)


@EVERY
def test_a_second_run_changes_nothing(client: Client) -> None:
    once = entries.changed(client, fixture(client), WITH_KEY)
    assert entries.changed(client, once, WITH_KEY) == once


@EVERY
def test_removed_it_is_as_it_was(client: Client) -> None:
    text = fixture(client)
    removed = entries.changed(client, entries.changed(client, text, WITH_KEY), None)
    if client.form == "toml":
        assert removed.strip() == text.strip()
    else:
        assert re.sub(r"[\s,]", "", removed) == re.sub(r"[\s,]", "", text)  # VS Code's has a comma after the last one
    assert entries.changed(client, text, None) == text


@EVERY
@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_gets_the_entry_alone(client: Client, text: str) -> None:
    new = entries.changed(client, text, ENTRY)
    assert list(read(client, new)) == [client.key]
    assert list(read(client, new)[client.key]) == ["batchcall"]


@EVERY
def test_an_earlier_entry_is_changed_in_place(client: Client) -> None:
    """As the README had it: the account is in the file now; a setting that is not about it stays; so does the rest."""
    env = {"BATCHCALL_BACKEND": "zudu", "BATCHCALL_API_KEY": "sk_old", "BATCHCALL_MODE": "draft", "LANG": "C"}
    if client.form == "toml":
        pairs = "\n".join(f'{name} = "{value}"' for name, value in env.items())
        text = (
            '[mcp_servers.batchcall]\ncommand = "uvx"\nargs = [\n  "batchcall-mcp", # from the index\n]\n'
            f"startup_timeout_sec = 30 # slow\n\n[mcp_servers.batchcall.env]\n{pairs}\n\n[tui]\na = 1\n"
        )
    else:
        old = {"command": "uvx", "args": ["batchcall-mcp"], "env": env, "timeout": 5}
        text = json.dumps({"a": 1, client.key: {"batchcall": old, "z": {}}}, indent=4)
    new = entries.changed(client, text, ENTRY)
    found = read(client, new)[client.key]["batchcall"]
    assert (found["command"], found["args"]) == ("/opt/bin/batchcall-mcp", [])
    assert found["env"] == {"BATCHCALL_MODE": "draft", "LANG": "C", "BATCHCALL_ENV_FILE": ENV_FILE}
    assert found.get("timeout", found.get("startup_timeout_sec")) in {5, 30}
    shown = "\n".join(difference(Path("f"), *(entries.masked(client, one, ENTRY) for one in (text, new))))
    assert "sk_old" not in shown
    assert "/opt/bin/batchcall-mcp" in shown


def test_a_setting_that_stays_in_an_entry_is_said() -> None:
    for client in CLIENTS:
        text = '[mcp_servers.batchcall]\nenv = { BATCHCALL_MODE = "draft" }\n'
        if client.form != "toml":
            text = json.dumps({client.key: {"batchcall": {"env": {"BATCHCALL_MODE": "draft"}}}})
        new = entries.changed(client, text, ENTRY)
        assert entries.other_variables(client, new, ENTRY) == ("BATCHCALL_MODE",)


def test_vs_code_asks_for_keys_itself() -> None:
    """By its reference: an input of type promptString with password, named by ${input:id}."""
    client = BY_NAME["vscode"]
    document = read(client, entries.changed(client, fixture(client), WITH_KEY))
    assert document["inputs"][1:] == [
        {"type": "promptString", "id": "batchcall-api-key", "description": "API key of zudu", "password": True}
    ]
    assert document["servers"]["batchcall"]["env"]["BATCHCALL_API_KEY"] == "${input:batchcall-api-key}"
    without = read(client, entries.changed(client, entries.changed(client, fixture(client), WITH_KEY), ENTRY))
    assert [each["id"] for each in without["inputs"]] == ["perplexity-key"]
    assert list(without["servers"]["batchcall"]["env"]) == ["BATCHCALL_ENV_FILE"]


@EVERY
def test_what_is_shown_has_no_value_of_others(client: Client) -> None:
    text = fixture(client)
    shown = entries.masked(client, entries.changed(client, text, WITH_KEY), WITH_KEY)
    for secret in ("ghp_0123456789", "MY_ENV_VALUE", "EXTERNAL_API_KEY", "perplexity-key}", "notion.com", "typed once"):
        assert secret not in shown
    assert ENV_FILE in shown


def test_a_multi_line_string_is_not_shown_in_part() -> None:
    text = '[mcp_servers.batchcall]\ncommand = "x"\nnote = """\nsk_one\nkey = "sk_two" # sk_three\n"""\n# sk_four\n'
    shown = entries.masked(BY_NAME["codex"], text, ENTRY)
    assert [word for word in ("sk_one", "sk_two", "sk_three", "sk_four") if word in shown] == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("claude-desktop", '{\n  // mine\n  "mcpServers": {}\n}', "line 2 has a comment"),
        ("claude-desktop", '{"mcpServers": {},}', "not valid JSON (line 1)"),
        ("claude-desktop", '{"mcpServers": {}', "not valid JSON"),
        ("claude-desktop", '{"a": 01}', "not valid JSON"),
        ("cursor", "[]", "not a JSON object"),
        ("cursor", '{"mcpServers": []}', "mcpServers is not a JSON object"),
        ("cursor", '{"mcpServers": {"batchcall": {"env": []}}}', "env is not a JSON object"),
        ("cursor", '{"mcpServers": {}, "mcpServers": {}}', 'the key "mcpServers" is there twice'),
        ("gemini", "[" * 300, "nested too deeply"),
        ("vscode", '{"inputs": {}}', "another form"),
        ("codex", 'a = "', "not valid TOML"),
        ("codex", 'mcp_servers = { a = { command = "x" } }', "not written as [mcp_servers.NAME] tables"),
        ("codex", "mcp_servers = 1", "not written as"),
        ("codex", 'mcp_servers.batchcall.command = "x"', "not written as"),
    ],
)
def test_a_file_of_another_form_is_left_alone_and_said(name: str, text: str, said: str) -> None:
    with pytest.raises(FileProblem, match=re.escape(said)) as caught:
        entries.changed(BY_NAME[name], text, WITH_KEY)
    assert str(caught.value).count(". ") >= 1  # what to do


def test_windows_line_ends_stay() -> None:
    for client in CLIENTS:
        new = entries.changed(client, fixture(client).replace("\n", "\r\n"), WITH_KEY)
        assert new.count("\n") == new.count("\r\n")


def test_an_entry_between_others_is_removed_with_its_comma() -> None:
    text = '{\n  "mcpServers": {\n    "a": 1,\n    "batchcall": {},\n    "b": 2\n  }\n}\n'
    assert entries.changed(BY_NAME["cursor"], text, None) == '{\n  "mcpServers": {\n    "a": 1,\n    "b": 2\n  }\n}\n'
    last = '{\n  "mcpServers": {\n    "a": 1,\n    "batchcall": {}\n  }\n}\n'
    assert entries.changed(BY_NAME["cursor"], last, None) == '{\n  "mcpServers": {\n    "a": 1\n  }\n}\n'


def test_a_table_that_only_looks_like_one_inside_a_string_is_not_touched() -> None:
    text = 'a = """\n[mcp_servers.batchcall]\ncommand = 1\n"""\n'
    with pytest.raises(FileProblem):
        entries.changed(BY_NAME["codex"], text, ENTRY)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    document=st.dictionaries(st.text(max_size=5), VALUES, max_size=4),
    servers=st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
    indent=st.sampled_from([None, 0, 1, 2, 4, "\t"]),
    ascii_only=st.booleans(),
)
def test_whatever_is_in_a_file_of_json_stays(
    document: dict[str, Any], servers: dict[str, Any], indent: int | str | None, ascii_only: bool
) -> None:
    client = BY_NAME["cursor"]
    old = document | {"mcpServers": servers}
    text = json.dumps(old, indent=indent, ensure_ascii=ascii_only)
    new = json.loads(entries.changed(client, text, WITH_KEY))
    assert new["mcpServers"].pop("batchcall")["command"] == "uvx"
    assert new == old
    assert json.loads(entries.changed(client, entries.changed(client, text, WITH_KEY), None)) == old


@pytest.mark.parametrize(
    ("config", "places"),
    [
        (
            "/Users/me/Library/Application Support",
            ("Claude/claude_desktop_config.json", "Code/User/mcp.json"),
        ),
        ("C:/Users/me/AppData/Roaming", ("Claude/claude_desktop_config.json", "Code/User/mcp.json")),
        ("/home/me/.config", ("Claude/claude_desktop_config.json", "Code/User/mcp.json")),
    ],
)
def test_where_clients_keep_their_servers(config: str, places: tuple[str, str]) -> None:
    machine = Machine(Path("/home/me"), Path(config), {})
    found = {client.name: client.path(machine).as_posix() for client in CLIENTS}
    assert found == {
        "claude-desktop": f"{config}/{places[0]}",
        "claude-code": "/home/me/.claude.json",
        "cursor": "/home/me/.cursor/mcp.json",
        "vscode": f"{config}/{places[1]}",
        "codex": "/home/me/.codex/config.toml",
        "gemini": "/home/me/.gemini/settings.json",
    }


def test_a_client_s_own_variable_moves_its_file() -> None:
    machine = Machine(Path("/home/me"), Path("/c"), {"CODEX_HOME": "/x/codex", "CLAUDE_CONFIG_DIR": "/x/claude"})
    assert BY_NAME["codex"].path(machine) == Path("/x/codex/config.toml")
    assert BY_NAME["claude-code"].path(machine) == Path("/x/claude/.claude.json")


def test_the_entry_starts_what_is_installed_here_and_uvx_where_uvx_runs(tmp_path: Path) -> None:
    (tmp_path / "batchcall-mcp").touch()
    assert server_command(str(tmp_path / "python"), "/opt/tool") == (str(tmp_path / "batchcall-mcp"), [])
    assert server_command("/nowhere/python", "/opt/tool") == ("/nowhere/python", ["-m", "batchcall_mcp"])
    command, args = server_command(str(tmp_path / "python"), "/home/me/.cache/uv/archive-v0/abc")
    assert (Path(command).name, args) == ("uvx", ["batchcall-mcp"])


def test_the_page_about_clients_names_each_file_and_its_documentation() -> None:
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    for client in CLIENTS:
        row = next(line for line in page.splitlines() if line.startswith(f"| {client.title} | `{client.name}` |"))
        assert client.documented in row
        assert Path(client.file).name in row


GAPS = ("", "", " ", "\n", "\n\t", " // c\n", "/* d */", "\n  // e, }\n  ")


def written_freely(value: Any, chance: random.Random) -> str:
    """JSON as a person may write it in a format with comments: spaces, line ends, comments, a comma after the last."""

    def gap() -> str:
        return chance.choice(GAPS)

    if isinstance(value, dict):
        parts = [
            f"{gap()}{json.dumps(key)}{gap()}:{gap()}{written_freely(one, chance)}{gap()}" for key, one in value.items()
        ]
    elif isinstance(value, list):
        parts = [f"{gap()}{written_freely(one, chance)}{gap()}" for one in value]
    else:
        return json.dumps(value)
    last = "," + gap() if parts and chance.random() < 0.5 else ""
    begin, end = "{}" if isinstance(value, dict) else "[]"
    return f"{begin}{','.join(parts) or gap()}{last}{end}"


def some_value(chance: random.Random, depth: int = 0) -> Any:
    kind = 0 if depth > 2 else chance.randrange(4)
    if kind < 2:
        return chance.choice([1, "a", None, True, "// x", "{"])
    keys = chance.sample("abc", chance.randrange(3))
    return {key: some_value(chance, depth + 1) for key in keys} if kind == 2 else [some_value(chance, 3) for _ in keys]


@pytest.mark.parametrize("seed", range(10))
def test_however_a_file_with_comments_is_written_they_stay(seed: int) -> None:
    chance, client = random.Random(seed), BY_NAME["gemini"]
    for _ in range(50):
        servers = {key: some_value(chance) for key in chance.sample("abc", chance.randrange(3))}
        env = dict.fromkeys(chance.sample(["BATCHCALL_API_KEY", "BATCHCALL_ENV_FILE", "Y"], chance.randrange(4)), "v")
        ours = {"batchcall": {"x": 1, "env": env}} if chance.random() < 0.6 else {}
        servers = servers | ours if chance.random() < 0.5 else ours | servers
        text = written_freely({"p": some_value(chance), "mcpServers": servers, "z": 1}, chance)
        new = entries.changed(client, text, ENTRY)
        found, before = read(client, new), read(client, text)
        kept = {name: "v" for name in ("Y",) if ours and name in env}
        assert found["mcpServers"].pop("batchcall")["env"] == kept | {"BATCHCALL_ENV_FILE": ENV_FILE}, text
        before["mcpServers"].pop("batchcall", None)
        assert found == before
        if not ours:
            assert [new.count(one) for one in ("// c", "/* d */", "// e")] == [
                text.count(one) for one in ("// c", "/* d */", "// e")
            ]
        assert entries.changed(client, new, ENTRY) == new
        assert "batchcall" not in read(client, entries.changed(client, new, None))["mcpServers"]
        read(client, entries.masked(client, new, ENTRY))


def test_however_codex_has_it_the_entry_is_right_or_the_file_is_left_alone() -> None:
    own = (
        "",
        '[mcp_servers.batchcall]\ncommand = "x"\n',
        (
            '[ mcp_servers . "batchcall" ] # c\nargs = [\n  "a", # b\n]\n'
            '[mcp_servers.batchcall.env]\nBATCHCALL_API_KEY = "k"\n'
        ),
        '[mcp_servers.batchcall]\nenv = { BATCHCALL_API_KEY = "k", Y = "v" }',
        "[mcp_servers.batchcall]\nenv.Y = 'v'\n",
        "[[mcp_servers.batchcall]]\na = 1\n",
        "[mcp_servers]\nbatchcall = { command = 'x' }\n",
        "[mcp_servers.batchcall]\nargs = [\n[1]\n]\nenv = 1\n",
    )
    others = (
        "",
        "a = 1\n",
        '# c\n[mcp_servers.o]\ncommand = "x"\n',
        '[t]\ntext = """\n[x]\n"""\n',
        "[[t.u]]\na = [[1],\n[2]]\n",
    )
    client, changed = BY_NAME["codex"], 0
    tables = [one for one in others if one != "a = 1\n"]  # which would belong to the table before it
    for one, before, after in itertools.product(own, others, tables):
        text = f"{before}{one}\n{after}"
        try:
            meant = read(client, text)
            new = entries.changed(client, text, ENTRY)
        except (FileProblem, tomllib.TOMLDecodeError):
            continue
        changed += 1
        found = read(client, new)
        entry = found["mcp_servers"].pop("batchcall")
        assert (entry["command"], entry["args"]) == (ENTRY.command, ENTRY.args)
        assert entry["env"].pop("BATCHCALL_ENV_FILE") == ENV_FILE
        assert entry["env"] in ({}, {"Y": "v"})
        meant.get("mcp_servers", {}).pop("batchcall", None)
        assert {key: value for key, value in found.items() if value} == {k: v for k, v in meant.items() if v}
        assert entries.changed(client, new, ENTRY) == new
        assert "batchcall" not in read(client, entries.changed(client, new, None)).get("mcp_servers", {})
    assert changed > 60
