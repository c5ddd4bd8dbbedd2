"""Timeline: the epoch of rooms' ids, and from where on rooms know their messages.

Without a broker there is one for all rooms; with one, each shard has its own. Pure data. Must not live here: the
messages of a room (:mod:`wsrelay.rooms.history`), when a broker has lost some (:mod:`wsrelay.backplane`).
"""

from wsrelay.message_id import MessageId

__all__ = ["Timeline"]


class Timeline:
    """An epoch, and two marks.

    Args:
        epoch: the first epoch; empty: not known yet.
        place: where it begins.

    Attributes:
        begin: where the epoch began; ids before this are void.
        floor: rooms that are opened from now on know nothing of what was before this.
        head: the place up to which everything was delivered here. Without a broker it is the number of messages in all
            rooms with history: so an id that is current now lies above the floor, whichever room is closed.
    """

    __slots__ = ("begin", "floor", "head")

    def __init__(self, epoch: str, place: tuple[int, ...] = (0,)) -> None:
        self.begin = MessageId(epoch, place)
        self.floor = self.begin
        self.head = place

    @property
    def epoch(self) -> str:
        """The epoch."""
        return self.begin.epoch

    def change(self, epoch: str, place: tuple[int, ...]) -> None:
        """Begin another epoch, which must be larger, at a place; what rooms know stays, their ids are void."""
        self.begin = MessageId(epoch, place)
        self.floor = max(self.floor, self.begin)

    def raise_floor(self, identity: MessageId) -> None:
        """Let rooms that are opened from now on begin behind an id, if they do not begin later anyway."""
        self.floor = max(self.floor, identity)
