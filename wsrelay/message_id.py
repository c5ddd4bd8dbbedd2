"""Ids of messages: a place in a room's order that a client can name. Pure.

An id is one opaque string for clients, ``EPOCH-POSITION``. An *epoch* is one life of the order: where it is not known
that the order went on, a new one begins, and all ids of older ones are void. Must not live here: which ids a room
still knows (:mod:`wsrelay.rooms.history`), when an epoch begins (:mod:`wsrelay.rooms.timeline`, backplane).
"""

import re
from typing import Final, Self

import msgspec

__all__ = ["EPOCH_BITS", "EPOCH_CHARS", "MessageId", "epoch_number", "epoch_of"]

#: The length of an epoch.
EPOCH_CHARS: Final = 8

#: The bits of a first epoch's number: half of all, so that there are enough larger ones.
EPOCH_BITS: Final = 39

#: Crockford's base32, in lower case: the order of epochs as texts is that of their numbers.
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"

_ID: Final = re.compile(rf"([{_DIGITS}]{{{EPOCH_CHARS}}})((?:-[0-9]{{1,20}}){{1,3}})", re.ASCII)


class MessageId(msgspec.Struct, frozen=True, order=True, gc=False):
    """The id of a message. As a cursor: all up to this message is known.

    The ids of a room ascend, and are not consecutive. One is made for each run in a room with history: a struct takes a
    quarter of the time of a named tuple.

    Attributes:
        epoch: see :data:`EPOCH_CHARS`.
        place: the number of the message among those of all rooms with history, from 1; with a broker the two numbers of
            its entry, and its index in that entry.
    """

    epoch: str
    place: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id that is written so.

        Raises:
            ValueError: no relay of this version writes such an id.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError("not an id of a message")
        return cls(match[1], tuple(map(int, match[2][1:].split("-"))))

    def __str__(self) -> str:
        return "-".join([self.epoch, *map(str, self.place)])

    def plus(self, count: int) -> Self:
        """Return the id of a later message of the same run; ``count`` may be -1: everything before this message."""
        *place, last = self.place
        return type(self)(self.epoch, (*place, last + count))


def epoch_of(number: int) -> str:
    """Return the epoch with a number from 0 to 2^40 - 1."""
    return "".join([_DIGITS[number >> shift & 31] for shift in range(5 * (EPOCH_CHARS - 1), -1, -5)])


def epoch_number(epoch: str) -> int:
    """Return the number of an epoch."""
    number = 0
    for digit in epoch:
        number = number << 5 | _DIGITS.index(digit)
    return number
