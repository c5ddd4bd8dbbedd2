"""Choices by room: one for all rooms, others for those of a pattern. Pure.

What there is to choose from, and what it means, is whoever's option it is.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

from wsrelay.names import RoomPattern
from wsrelay.wire import frames

__all__ = ["MESSAGE_TYPES", "ByRoom"]

Choice = TypeVar("Choice")

#: What may be published in a room: an opcode, or ``None`` for either.
MESSAGE_TYPES: Final[Mapping[str, int | None]] = {"any": None, "text": frames.TEXT, "binary": frames.BINARY}


class ByRoom(Generic[Choice]):
    """Which room has which choice.

    Args:
        texts: each ``NAME``, for all rooms, or ``PATTERN=NAME`` for those of a pattern (see
            :class:`wsrelay.names.RoomPattern`), of which the first that fits counts.
        choices: the choices by name; the first one is for all rooms where ``texts`` has none.

    Raises:
        ValueError: names all that are wrong, with what to write instead.
    """

    def __init__(self, texts: Sequence[str], choices: Mapping[str, Choice]) -> None:
        self._choices = choices
        self._general: list[str] = []
        self._by_pattern: list[tuple[RoomPattern, Choice]] = []
        problems: list[str] = []
        for text in texts:
            try:
                self._add(*text.rpartition("="))
            except ValueError as error:
                problems.append(f"{text!r}: {error}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def chosen(self) -> list[Choice]:
        """All that some room may have."""
        return [self._default, *(choice for _, choice in self._by_pattern)]

    def of(self, room: str) -> Choice:
        """Return the choice for a room, given its name."""
        return next((choice for pattern, choice in self._by_pattern if room in pattern), self._default)

    @property
    def _default(self) -> Choice:
        return self._choices[next(iter(self._general or self._choices))]

    def _add(self, pattern: str, equals: str, name: str) -> None:
        if name not in self._choices:
            raise ValueError(f"write NAME or PATTERN=NAME with one of {', '.join(self._choices)}")
        if equals:
            self._by_pattern.append((RoomPattern(pattern), self._choices[name]))
        elif self._general:
            raise ValueError(f"{self._general[0]} is for all rooms already; write PATTERN={name} for some of them")
        else:
            self._general.append(name)
