"""Who is called and who speaks, in words: enough to recognise them, and never a whole number of anybody. Pure.

Names and spoken texts are somebody else's: they are cleaned and cut, and cannot end a sentence of ours.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.model import Agent, CallTask
from batchcall_mcp.text import FEWEST_HIDDEN, identifier, in_quotes

_LONGEST_WORD: Final = 20
_LONGEST_NAME_READ: Final = 200
_LONGEST_AGENT: Final = 40
_LONGEST_SPOKEN: Final = 200
_LONGEST_SPOKEN_READ: Final = 2000
_LONGEST_VALUE: Final = 100
_SHOWN_LAST: Final = 3
_SHOWN_OF_FOREIGN: Final = 2
_VARIABLE = re.compile(r"\{\{\s*([^{}\s]{1,80})\s*\}\}")
_PHONE = re.compile(
    r"(?<![\w.])"
    r"(?:\+\d(?:[ ().\-/]{0,2}\d){6,14}"  # international
    r"|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"  # national, in the groups of North America
    r"|\d{9,15})"  # digits alone; a date with its hyphens is none
    r"(?!\w)"
)


def person(task: CallTask) -> str:
    """`Tara B., +44 … 106`; the number alone where no name is known."""
    name = _first_name_and_initial(task.name or task.dynamic_variables.get("name") or "")
    number = masked(task.to_number)
    return f"{name}, {number}" if name else number


def masked(to_number: str) -> str:
    """`+44 … 106`: the country and the last three digits, fewer of a short number: at least six are hidden."""
    # A backend's own list may hold it in another spelling: +1 (212) 555-0101, or without the plus.
    groups = _groups("+" + re.sub(r"[^0-9]", "", to_number))
    if groups is None:
        return "a number that cannot be read"
    country, *national = groups
    digits = "".join(national)
    shown = min(_SHOWN_LAST, max(0, len(digits) - FEWEST_HIDDEN))
    return " ".join(part for part in (country, "…", digits[len(digits) - shown :]) if part)


def written(from_number: str) -> str:
    """A number of the caller's own, whole: `+1 415 555 0199`."""
    groups = _groups(from_number)
    return in_quotes(from_number) if groups is None else " ".join(groups)


def without_numbers(text: str) -> str:
    """A foreign text in which every phone number is hidden: it may be that of a called person."""
    return _PHONE.sub(lambda found: _ending(found.group()), text)


def _ending(number: str) -> str:
    digits = [character for character in number if character.isdigit()]
    shown = min(_SHOWN_OF_FOREIGN, len(digits) - FEWEST_HIDDEN)
    return "…" + "".join(digits[len(digits) - shown :])


def agent_words(agent_id: str, name: str | None) -> str:
    """`Agent "Reminder" (agent_1)`."""
    known = identifier(agent_id)
    if not name:
        return f"Agent {known}"
    return f"Agent {in_quotes(without_numbers(name[:_LONGEST_NAME_READ]), _LONGEST_AGENT)} ({known})"


def who_speaks(agent: Agent | None, agent_id: str | None, capabilities: Capabilities) -> str | None:
    """The agent as the account reports it; else by the batch call's id, unless the caller number decides instead."""
    if agent is not None:
        return agent_words(agent.agent_id, agent.name)
    if capabilities.agent == "caller_number":
        return "The agent of that number"
    return agent_words(agent_id, None) if agent_id else None


def spoken_words(agent: Agent | None, first: CallTask) -> str | None:
    """The first 200 characters that the agent says to the first person, in quotes; None where it is not reported."""
    if agent is None or not agent.begins:
        return None

    def value(found: re.Match[str]) -> str:
        known = first.dynamic_variables.get(found[1])
        return found[0] if known is None else known[:_LONGEST_VALUE]

    said = _VARIABLE.sub(value, agent.begins[:_LONGEST_SPOKEN_READ])
    return in_quotes(without_numbers(" ".join(said.split())), _LONGEST_SPOKEN)


def _first_name_and_initial(name: str) -> str:
    """Letters only, so that a name is a name: `Tara B.`."""
    cleaned = ("".join(filter(_is_of_a_name, word)) for word in name[:_LONGEST_NAME_READ].split())
    words = [word for word in cleaned if any(map(str.isalpha, word))]
    if not words:
        return ""
    initial = next(letter for letter in words[-1] if letter.isalpha()) if len(words) > 1 else ""
    return words[0][:_LONGEST_WORD] + (f" {initial.upper()}." if initial else "")


def _is_of_a_name(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM" or character in "'\N{RIGHT SINGLE QUOTATION MARK}-"


def _groups(number: str) -> list[str] | None:
    """An E.164 number as it is written in its country, country code first; None if it is none."""
    from phonenumbers import NumberParseException, PhoneNumberFormat, format_number, parse

    try:
        known = parse(number)
    except NumberParseException:
        return None
    groups = re.sub(r"[^+0-9]+", " ", format_number(known, PhoneNumberFormat.INTERNATIONAL)).split()
    return groups if "".join(groups) == number else None  # some that nobody can have lose their zeros
