"""No key may stand twice in one object of a request: one parser takes the first value, another one the last."""

from __future__ import annotations

from typing import Any, Final

import ijson  # type: ignore[import-untyped]

_OBJECT: Final = "start_map"
_ARRAY: Final = "start_array"
_ENDS: Final = frozenset({"end_map", "end_array"})


class Keys:
    """Follows a JSON value event by event, as ijson gives them."""

    def __init__(self) -> None:
        # What is open: the keys that an object has had by now (None: an array), and the last one of them.
        self._open: list[tuple[set[str] | None, str | None]] = []

    def repeated(self, event: str, value: Any) -> str | None:
        """The place of the key that this event gives a second time, such as `window.start`; None: it gives none."""
        if event == "map_key":
            keys, _ = self._open[-1]
            assert keys is not None  # noqa: S101 - a key is in an object
            self._open[-1] = keys, value
            if value in keys:
                return ".".join(name for _, name in self._open if name is not None)
            keys.add(value)
        elif event == _OBJECT:
            self._open.append((set(), None))
        elif event == _ARRAY:
            self._open.append((None, None))
        elif event in _ENDS:
            self._open.pop()
        return None


def repeated(body: bytes) -> str | None:
    """The place of the first key that a body gives twice; None: there is none, or it cannot be read so far."""
    keys = Keys()
    try:
        for event, value in ijson.basic_parse(body):
            if (place := keys.repeated(event, value)) is not None:
                return place
    except (ijson.JSONError, UnicodeDecodeError):
        return None
    return None
