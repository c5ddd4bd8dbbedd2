"""How a published run goes out, at once or in a flush, and what it leaves to do at the end of the reactor turn.

Must not live here: the decision (:meth:`wsrelay.rooms.room.Room.publish`).
"""

from enum import IntEnum
from typing import Final

__all__ = ["ENCODED_BYTES", "FEW", "MANY", "QUIET_TURNS", "Due"]

#: Runs of more bytes are encoded when they are published, so that the time counts for their publisher: see
#: :mod:`wsrelay.limits.turns`. Others are encoded by the flush.
ENCODED_BYTES: Final = 1024

#: With so many members, or fewer, a run always goes at once: the other publisher's message goes elsewhere.
FEW: Final = 2

#: With so many subscribers, or fewer, it does while one publishes at a time: half a millisecond of writes.
MANY: Final = 128

#: One publishes at a time if so many turns with messages had one run each. After one such turn only, a room of 100 in
#: which all publish has 0.6 of the deliveries: what goes at once there is a second round of writes in the same turn.
QUIET_TURNS: Final = 8


class Due(IntEnum):
    """What a run leaves to do at the end of the turn."""

    NOTHING = 0
    #: To call :meth:`wsrelay.rooms.room.Room.end_turn`.
    END = 1
    #: To call :meth:`wsrelay.rooms.room.Room.flush`.
    FLUSH = 2
