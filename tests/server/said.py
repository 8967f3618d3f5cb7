"""The two forms of an answer: the same, but that the text says in words what is next."""

from __future__ import annotations

import json
from typing import Any


def check_same(text: str, structured: dict[str, Any]) -> None:
    """Hold the text of an answer against its structured form: a reader of one of them misses nothing."""
    following = structured.get("next")
    said = json.loads(text)
    assert text == json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    words = said.pop("next", None)
    assert said == {name: value for name, value in structured.items() if name != "next"}
    assert (words is None) == (following is None)
    if following is None:
        return
    assert following.keys() in ({"tool", "arguments", "why"}, {"ask_person"}, {"ask_person", "then"})
    call = following if "tool" in following else following.get("then")
    assert (following.get("why") or following["ask_person"]) in words
    if call is not None:
        assert {"tool", "arguments"} <= call.keys()
        assert call["tool"] in words
        for name, value in call["arguments"].items():
            assert f"{name}={json.dumps(value, ensure_ascii=False, separators=(',', ':'))}" in words
