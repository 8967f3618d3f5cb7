"""What is known of the numbers that a launch would call, as warnings. Pure; no number is ever named, only counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from batchcall_mcp.model import CallTask
from batchcall_mcp.wording import quoted

_MOST_IDS: Final = 3
_MOST_VARIABLES: Final = 10
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,80}", re.ASCII)


def from_number_warning(tasks: Sequence[CallTask], from_number: str | None) -> list[str]:
    """A line that calls itself is engaged."""
    found = sum(task.to_number == from_number for task in tasks)
    return [f"{_of_the_numbers(found)} from_number itself."] if found else []


def repeated_warning(tasks: Sequence[CallTask]) -> list[str]:
    """A list that was made elsewhere may hold somebody twice; one that was read here does not."""
    found = len(tasks) - len({task.to_number for task in tasks})
    return [f"{found} of the calls go to a number that is in the list more than once."] if found else []


def do_not_call_warning(tasks: Sequence[CallTask], never: frozenset[str]) -> list[str]:
    """A list that the backend keeps was read against the do-not-call list of another day."""
    found = sum(task.to_number in never for task in tasks) if never else 0
    return [f"{_of_the_numbers(found)} now on the do-not-call list."] if found else []


def elsewhere_warning(tasks: Sequence[CallTask], elsewhere: Mapping[str, str], own_id: str | None) -> list[str]:
    """Who is about to be called twice. `elsewhere`: number -> id of the other batch call."""
    others = Counter(elsewhere[task.to_number] for task in tasks if task.to_number in elsewhere) if elsewhere else None
    if others:
        del others[own_id or ""]
    if not others:
        return []
    shown = [_identifier(one) for one, _ in others.most_common(_MOST_IDS)]
    more = f" and {len(others) - len(shown)} more" if len(others) > len(shown) else ""
    return [f"{_of_the_numbers(others.total())} in another live batch call ({', '.join(shown)}{more})."]


def attempts_warning(
    tasks: Sequence[CallTask], attempts: Mapping[str, int], most_dials: Callable[[CallTask], int], cap: int
) -> list[str]:
    """Who was dialled today, and might be dialled more often than `cap` with this launch."""
    ours: Counter[str] = Counter()
    for task in tasks if attempts else ():
        if attempts.get(task.to_number, 0) > 0:
            ours[task.to_number] += most_dials(task)
    found = sum(attempts[number] + dials > cap for number, dials in ours.items())
    if not found:
        return []
    numbers = "number was" if found == 1 else "numbers were"
    return [f"{found} {numbers} dialled in the last 24 hours, and may now be dialled more than {cap} times in a day."]


def variables_warning(tasks: Sequence[CallTask], variables: Sequence[str] | None, *, told: bool) -> list[str]:
    """Whose blanks the agent would read out. `told`: whether the tasks hold their variables at all."""
    if not variables or not tasks:
        return []
    if not told:
        return ["The backend does not give the variables of its tasks back: whether any lack one was not checked."]
    lacking = {name: sum(not task.dynamic_variables.get(name) for task in tasks) for name in dict.fromkeys(variables)}
    found = [f"{_tasks(count)} the agent's variable {_in_quotes(name)}." for name, count in lacking.items() if count]
    more = len(found) - _MOST_VARIABLES
    return [*found[:_MOST_VARIABLES], *([f"{more} more variables are missing."] if more > 0 else [])]


def _of_the_numbers(found: int) -> str:
    return f"{found} of the numbers {'is' if found == 1 else 'are'}"


def _tasks(count: int) -> str:
    return "1 task lacks" if count == 1 else f"{count} tasks lack"


def _identifier(text: str) -> str:
    """A backend's id as it is, if it looks like one; else as the foreign text that it may be."""
    return text if _PLAIN_ID.fullmatch(text) else _in_quotes(text)


def _in_quotes(text: str) -> str:
    return quoted(text.replace('"', "'"))
