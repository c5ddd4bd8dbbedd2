"""What a client wants of a room's history, when it joins or asks. Pure data.

Must not live here: requests (:mod:`wsrelay.http.wants`), answers (:mod:`wsrelay.rooms.history`).
"""

from typing import Final, NamedTuple

from wsrelay.message_id import MessageId

__all__ = ["ALL_NEW", "Start", "Wanted"]


class Wanted(NamedTuple):
    """What a client wants. ``since`` first; ``last`` if there is no ``since``, or its history is gone.

    Attributes:
        since: the id behind which it wants everything, as it was given; ``None``: not given.
        id: the same, parsed; ``None``: no id of this version, so its history is gone.
        last: so many of the newest messages at most; ``None``: not given, so the room may greet it.
        may_greet: whether the room may greet it with its newest messages.
    """

    since: str | None = None
    id: MessageId | None = None
    last: int | None = None
    may_greet: bool = True


#: From the next message on; the room may greet.
ALL_NEW: Final = Wanted()


class Start(NamedTuple):
    """Where a member starts.

    Attributes:
        at: everything up to this id is known, or not wanted; ``None``: its room has no history.
        is_gone: whether the history behind its ``since`` is gone, so that nothing of it is replayed.
    """

    at: MessageId | None = None
    is_gone: bool = False
