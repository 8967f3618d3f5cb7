"""What three callers do in one example: the same for the same seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, TypeVar

Kind: TypeAlias = Literal[
    "create",
    "replace",
    "replace and send",
    "add",
    "rename",
    "start now",
    "start soon",
    "start tomorrow",
    "send now",
    "move to tomorrow",
    "make a draft again",
    "pause",
    "resume",
    "cancel",
    "retry",
]
State: TypeAlias = Literal["draft", "scheduled", "paused", "finished"]
_T = TypeVar("_T")

CALLERS: Final = ("ann", "bob", "cleo")
MAX_CALLS_PER_LAUNCH: Final = 5
MAX_CALLS_PER_DAY: Final = 12
MOST_PEOPLE: Final = MAX_CALLS_PER_LAUNCH + 1
_NUMBERS: Final = 100
"""Of each example: nobody is in two of them."""
_POOL: Final = 7
"""So few different people that lists share some."""
_DIGITS: Final = "00127779"
"""The last digit decides how the simulated call goes: 0 to 3 answered, 7 busy, 9 failed."""
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class _Theme:
    """What an example is mostly about: the states that its batch calls begin in, and what is then asked of them."""

    batches: tuple[int, ...]
    states: Mapping[State, int]
    kinds: Mapping[Kind, int]


_LAUNCHES: Final[Mapping[Kind, int]] = {
    "start now": 8,
    "send now": 4,
    "start soon": 1,
    "start tomorrow": 2,
    "replace": 5,
    "replace and send": 4,
    "add": 4,
    "rename": 1,
    "pause": 1,
    "cancel": 1,
}
_STOPS: Final[Mapping[Kind, int]] = {
    "pause": 5,
    "resume": 8,
    "cancel": 2,
    "start now": 3,
    "replace": 2,
    "add": 4,
    "move to tomorrow": 1,
    "make a draft again": 2,
}
_RETRIES: Final[Mapping[Kind, int]] = {
    "retry": 8,
    "start now": 4,
    "pause": 2,
    "resume": 2,
    "cancel": 1,
    "create": 1,
    "add": 2,
}
_OVERLAPS: Final[Mapping[Kind, int]] = {
    "start now": 6,
    "send now": 3,
    "resume": 3,
    "retry": 3,
    "start tomorrow": 1,
    "start soon": 1,
}
_THEMES: Final = (
    _Theme((1, 1, 2), {"draft": 5, "scheduled": 1}, _LAUNCHES),
    _Theme((1, 1, 2), {"paused": 3, "scheduled": 2}, _STOPS),
    _Theme((1, 1, 2), {"finished": 3, "draft": 1}, _RETRIES),
    _Theme((2, 3), {"draft": 3, "finished": 1, "paused": 1}, _OVERLAPS),
    _Theme((2, 3), {"draft": 2, "scheduled": 1, "paused": 1, "finished": 1}, {**_RETRIES, **_STOPS, **_LAUNCHES}),
)
_SIZES: Final = (1, 1, 2, 2, 3, 3, 4, MOST_PEOPLE)


@dataclass(frozen=True, slots=True)
class People:
    """One version of a list. Everybody on it has the `tag` as first name, so that a question tells which one it is."""

    tag: str
    numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tool call. `batch` is a batch call's place in the example, `people` that of a list.

    `server` is the process that is asked; `roams`: the answer goes to the other one; `twice`: it goes to both;
    `ponders`: the person answers when nothing is dialled any more.
    """

    kind: Kind
    batch: int = 0
    people: int = 0
    server: int = 0
    era: Literal["auto", "legacy"] = "auto"
    roams: bool = False
    twice: bool = False
    ponders: bool = False

    def __str__(self) -> str:
        """As a failure shows it."""
        of = "" if self.kind == "create" else f" batch {self.batch}"
        people = f" list {self.people}" if self.kind in {"create", "replace", "replace and send", "add"} else ""
        how = " roams" * self.roams + " twice" * self.twice + " ponders" * self.ponders
        return f"{self.kind}{of}{people} at {self.server} ({self.era}{how})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One example.

    `opening`: the batch calls that are there when the three begin, each with its list and state. `steps`: of each
    caller. `held`: the share of requests and answers that wait until every other caller waits too. `etags`: whether the
    backend has them; without, the ledger alone stands between a change and a launch.
    """

    number: int
    seed: int
    people: tuple[People, ...]
    opening: tuple[tuple[int, State], ...]
    steps: tuple[tuple[Step, ...], ...]
    held: float
    etags: bool

    def __str__(self) -> str:
        """As a failure shows it."""
        lines = [f"example {self.number} of seed {self.seed}: held {self.held}, {'' if self.etags else 'no '}ETags"]
        lines += [f"  list {at} {one.tag}: {', '.join(one.numbers)}" for at, one in enumerate(self.people)]
        lines += [f"  batch {at}: list {of}, {state}" for at, (of, state) in enumerate(self.opening)]
        lines += [f"  {who}: {'; '.join(map(str, mine))}" for who, mine in zip(CALLERS, self.steps, strict=True)]
        return "\n".join(lines)


def script(number: int, seed: int) -> Script:
    """One example of a seed."""
    chance = random.Random(f"{seed} {number}")
    pool = [
        f"+1415{3_000_000 + (number * _NUMBERS + at * 10) % 2_000_000 + int(chance.choice(_DIGITS))}" for at in range(8)
    ]
    theme = chance.choice(_THEMES)
    people = tuple(People(_tag(number, at), tuple(chance.sample(pool, chance.choice(_SIZES)))) for at in range(6))
    batches = chance.choice(theme.batches)
    opening = tuple((chance.randrange(len(people)), _one_of(chance, theme.states)) for _ in range(batches))
    return Script(
        number=number,
        seed=seed,
        people=people,
        opening=opening,
        steps=tuple(
            tuple(_step(chance, theme, batches, len(people)) for _ in range(chance.randint(2, 4))) for _ in CALLERS
        ),
        held=chance.choice([0.0, 0.5, 1.0, 1.0]),
        etags=chance.random() < 1 / 3,
    )


def _step(chance: random.Random, theme: _Theme, batches: int, lists: int) -> Step:
    return Step(
        kind=_one_of(chance, theme.kinds),
        batch=chance.randrange(batches),
        people=chance.randrange(lists),
        server=chance.randrange(2),
        era=chance.choice(["auto", "auto", "legacy"]),
        roams=chance.random() < 0.4,
        twice=chance.random() < 0.2,
        ponders=chance.random() < 0.3,
    )


def _one_of(chance: random.Random, weights: Mapping[_T, int]) -> _T:
    return chance.choices(list(weights), list(weights.values()))[0]


def _tag(number: int, at: int) -> str:
    """Letters only: a question shows nothing else of a name."""
    found, left = "", number * 10 + at
    while left:
        left, letter = divmod(left, len(_LETTERS))
        found = _LETTERS[letter] + found
    return "Gaz" + found


def shorter(script: Script) -> Iterator[Script]:
    """The same script with one step less, each of them."""
    for caller, mine in enumerate(script.steps):
        for at in range(len(mine)):
            left = (*mine[:at], *mine[at + 1 :])
            yield replace(script, steps=(*script.steps[:caller], left, *script.steps[caller + 1 :]))
