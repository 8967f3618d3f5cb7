"""The entry of this server in the text of a client's file: put in, changed or removed, and nothing else touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from batchcall_mcp.cli.setup import toml_text
from batchcall_mcp.cli.setup.clients import Client
from batchcall_mcp.cli.setup.json_text import JsonText
from batchcall_mcp.cli.setup.problems import FileProblem

NAME: Final = "batchcall"
ENV_FILE: Final = "BATCHCALL_ENV_FILE"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a client needs to start the server."""

    command: str
    args: list[str]
    env_file: str
    """Where its settings are."""
    without: tuple[str, ...] = ()
    """Variables that an earlier entry may have and that are in the file now."""
    asked: dict[str, str] = field(default_factory=dict)
    """Secrets that a client asks for itself: the variable, and how it names it to the person."""

    def env(self, client: Client) -> dict[str, str]:
        asked = self.asked if client.asks_for_secrets else {}
        return {ENV_FILE: self.env_file} | {name: f"${{input:{_input_id(name)}}}" for name in asked}

    def shown(self, client: Client) -> frozenset[str]:
        """The strings of the entry; none of them is a secret."""
        ids = (_input_id(name) for name in self.asked)
        return frozenset(
            {self.command, *self.args, *self.env(client).values(), *ids, *self.asked.values(), "stdio", "promptString"}
        )


def changed(client: Client, text: str, entry: Entry | None) -> str:
    """The text with this entry of the server; with none of it if `entry` is None.

    Raises:
        FileProblem: the file has another form than the client documents.
    """
    if client.form == "toml":
        return _changed_toml(text, entry)
    if not text.strip():
        if entry is None:
            return text
        text = "{}\n"
    document = JsonText(text, comments=client.form != "json")
    if not isinstance(document.value, dict):
        raise FileProblem("it is not a JSON object", "Correct that by hand, or remove it")
    before = _without_ours(document.value, client.key)
    if entry is None:
        document.remove([client.key, NAME])
        _remove_inputs(document)
    else:
        _put(document, client, entry)
    if _without_ours(document.value, client.key) != before:
        raise FileProblem("changing it would change something else in it", "Add the entry by hand")
    return document.text


def _put(document: JsonText, client: Client, entry: Entry) -> None:
    there = document.value.get(client.key, {})
    old = there.get(NAME, {}) if isinstance(there, dict) else {}
    values: dict[str, Any] = {"type": "stdio"} if client.typed else {}
    values |= {"command": entry.command, "args": entry.args}
    env = entry.env(client)
    if not isinstance(old, dict) or not old:
        document.set([client.key, NAME], values | {"env": env})
    else:
        part = document.part([client.key, NAME])
        for key, value in values.items():
            if old.get(key) != value:
                part.set([key], value)
        for name in entry.without:
            if name not in env:
                part.remove(["env", name])
        for name, value in env.items():
            if (old.get("env") or {}).get(name) != value:
                part.set(["env", name], value)
        document.put([client.key, NAME], part)
    if client.asks_for_secrets:
        _remove_inputs(document, but=set(map(_input_id, entry.asked)))
        _ask(document, entry)


def _ask(document: JsonText, entry: Entry) -> None:
    inputs = document.value.get("inputs", [])
    there = {each.get("id") for each in inputs if isinstance(each, dict)} if isinstance(inputs, list) else set()
    for name, title in entry.asked.items():
        if _input_id(name) not in there:
            if "inputs" not in document.value:
                document.set(["inputs"], [])
            document.append(
                ["inputs"],
                {"type": "promptString", "id": _input_id(name), "description": title, "password": True},
            )


def _remove_inputs(document: JsonText, but: set[str] | frozenset[str] = frozenset()) -> None:
    if isinstance(document.value.get("inputs"), list):
        document.remove(["inputs"], lambda one: _is_our_input(one) and one["id"] not in but)


def _input_id(variable: str) -> str:
    return variable.lower().replace("_", "-")


def _is_our_input(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("id")).startswith("batchcall-")


def _without_ours(value: dict[str, Any], key: str) -> dict[str, Any]:
    """Everything in a file that is not ours; an object or array that is empty without us is as one that is missing."""
    others = dict(value)
    servers = others.get(key)
    if isinstance(servers, dict):
        others[key] = {name: each for name, each in servers.items() if name != NAME}
    if isinstance(others.get("inputs"), list):
        others["inputs"] = [each for each in others["inputs"] if not _is_our_input(each)]
    return {name: each for name, each in others.items() if name not in {key, "inputs"} or each}


def _changed_toml(text: str, entry: Entry | None) -> str:
    """The text that says what is meant and everything else as before."""
    key, before = toml_text.TABLE, toml_text.read(text)
    server = toml_text.TomlServer(text, NAME)
    try:
        if entry is None:
            server.remove()
        else:
            env = {ENV_FILE: entry.env_file}
            server.set({"command": entry.command, "args": entry.args}, env, entry.without)
        after = toml_text.read(server.text)
    except FileProblem:
        after = {}
    if not _says(toml_text.entry_in(after, NAME), entry) or _without_ours(before, key) != _without_ours(after, key):
        raise FileProblem(
            "the servers in it are not written as [mcp_servers.NAME] tables, or a part cannot be changed safely",
            f"Change the entry of {NAME} by hand",
        )
    return server.text


def _says(found: dict[str, Any], entry: Entry | None) -> bool:
    """Whether an entry that was read is the one that was meant."""
    if entry is None:
        return not found
    env = found.get("env", {})
    return (found.get("command"), found.get("args"), env.get(ENV_FILE)) == (
        entry.command,
        entry.args,
        entry.env_file,
    ) and not set(entry.without) & set(env)


def other_variables(client: Client, text: str, entry: Entry) -> tuple[str, ...]:
    """The settings of ours that the entry in a text has in addition."""
    if client.form == "toml":
        found = toml_text.entry_in(toml_text.read(text), NAME)
    else:
        found = JsonText(text, comments=client.form != "json").value[client.key][NAME]
    return tuple(name for name in found["env"] if name.startswith("BATCHCALL_") and name not in entry.env(client))


def masked(client: Client, text: str, entry: Entry | None) -> str:
    """The text as it may be shown to whoever looks at the screen: no string that is not our own, no comment."""
    known = entry.shown(client) if entry is not None else frozenset[str]()
    if client.form == "toml":
        return toml_text.masked(text, known)
    return JsonText(text, comments=client.form != "json").masked(known) if text.strip() else text
