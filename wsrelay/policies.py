"""Policies per room: what happens to slow subscribers, which message types are accepted, how many messages are kept.

Pure tables, and the choice of a row by the room's name. Must not live here: applying a policy
(:mod:`wsrelay.rooms.room`, connection).

A subscriber is slow when its cursor has fallen off its room's log, or when the oldest message that it still needs is
older than ``slow_seconds``, or where it is not evicted, than the row's ``late_seconds``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from wsrelay.names import RoomPattern, usable_pattern
from wsrelay.wire import frames

__all__ = ["COUNTS", "DISCONNECT", "MAX_COUNT", "MESSAGE_TYPES", "SLOW_POLICIES", "ByRoom", "SlowPolicy"]


@dataclass(frozen=True, slots=True)
class SlowPolicy:
    """One row of the table.

    Attributes:
        name: for options and counters.
        log_share: the share of the log, from its head, with which a subscriber that has fallen off goes on. 0: only the
            newest message; 1: all of it, and it would fall off again at once. ``None``: it is evicted. Peer sees: 1013
            and "too slow".
        late_seconds: the oldest message that a paused subscriber which is not evicted still gets; it skips older ones
            before it falls off the log. 0: no limit.
        holds_publishers: whether the room stops reading its publishers while any subscriber is far behind.
    """

    name: str
    log_share: float | None = None
    late_seconds: float = 0.0
    holds_publishers: bool = False

    @property
    def evicts(self) -> bool:
        """Whether a slow subscriber is evicted, by lag and by age (``slow_seconds``); else it skips messages."""
        return self.log_share is None


#: The default slow policy.
DISCONNECT: Final = SlowPolicy("disconnect")

#: The slow policies by name. A new one is a row here.
SLOW_POLICIES: Final[Mapping[str, SlowPolicy]] = {
    policy.name: policy
    for policy in (
        DISCONNECT,
        # Half of the log, so that it does not fall off again at the next flush.
        SlowPolicy("drop-oldest", log_share=0.5),
        # Reported up to a sweep late, so a short pause skips nothing.
        SlowPolicy("latest", log_share=0, late_seconds=0.25),
        SlowPolicy("pause-publishers", holds_publishers=True),
    )
}


Choice = TypeVar("Choice")

#: Message types that a room accepts, by name: an opcode, or the sum of both, which has the bits of each.
MESSAGE_TYPES: Final[Mapping[str, int]] = {
    "any": frames.TEXT | frames.BINARY,
    "text": frames.TEXT,
    "binary": frames.BINARY,
}


#: The highest of :data:`COUNTS`.
MAX_COUNT: Final = 1_000_000


class _Counts(Mapping[str, int]):
    """See :data:`COUNTS`. Not a ``dict``: a million entries would take some 100 MB."""

    def __getitem__(self, text: str) -> int:
        if not re.fullmatch("[0-9]{1,7}", text) or int(text) > MAX_COUNT:
            raise KeyError(text)
        return int(text)

    def __iter__(self) -> Iterator[str]:
        return map(str, range(MAX_COUNT + 1))

    def __len__(self) -> int:
        return MAX_COUNT + 1


#: Whole numbers from 0 to :data:`MAX_COUNT`, by their decimal digits; 0 is the first.
COUNTS: Final[Mapping[str, int]] = _Counts()


class ByRoom(Generic[Choice]):
    """A choice per room, by pattern.

    Args:
        texts: each ``NAME``, for all rooms, or ``PATTERN=NAME`` for the rooms of a pattern (see
            :class:`wsrelay.names.RoomPattern`); the first pattern that fits counts.
        choices: the choices by name; the first one is the default where ``texts`` has none for all rooms.

    Raises:
        ValueError: names all wrong texts, with what to write instead.
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
        self._default = choices[next(iter(self._general or choices))]

    @property
    def chosen(self) -> list[Choice]:
        """All choices that a room may get."""
        return [self._default, *(choice for _, choice in self._by_pattern)]

    def of(self, room: str) -> Choice:
        """Return the choice for a room, given its name."""
        for pattern, choice in self._by_pattern:
            if room in pattern:
                return choice
        return self._default

    def _add(self, pattern: str, equals: str, name: str) -> None:
        if name not in self._choices:
            raise ValueError(_expected(self._choices))
        if equals:
            self._by_pattern.append((usable_pattern(pattern), self._choices[name]))
        elif self._general:
            raise ValueError(f"{self._general[0]} is for all rooms already; write PATTERN={name} for some of them")
        else:
            self._general.append(name)


def _expected(choices: Mapping[str, object]) -> str:
    if choices is COUNTS:
        return f"write COUNT or PATTERN=COUNT with a whole number from 0 to {MAX_COUNT}"
    return f"write NAME or PATTERN=NAME with one of {', '.join(choices)}"
