"""What a subscriber has been given: messages and bytes, without counting at each delivery. Pure.

Everybody who stands with the others has been given what the room has flushed since it came to stand there, but for its
own. So a room counts once for all of them, a publisher for each of its reads, and each only remembers from where on:
its *mark*. The change between the two is the same both ways: ``flushed - own - mark`` is what it was given, and
``flushed - own - given`` its mark.
"""

from typing import Final

__all__ = ["NOTHING", "Tally", "minus", "plus"]

#: A number of messages, and what they are as plain frames. A plain tuple: one with names takes ten times as long.
Tally = tuple[int, int]

NOTHING: Final[Tally] = (0, 0)


def plus(one: Tally, other: Tally) -> Tally:
    """Return both together."""
    return one[0] + other[0], one[1] + other[1]


def minus(one: Tally, other: Tally) -> Tally:
    """Return what one is more than the other; the same object where that is all, so that many can share it."""
    return one if other == NOTHING else (one[0] - other[0], one[1] - other[1])
