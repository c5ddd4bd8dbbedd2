"""The state of a connection: one enum, and a table of transitions.

Must not live here: behaviour in a state (the phases).
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

__all__ = ["CLOSING_STAGES", "OPENING_STAGES", "OPEN_STAGES", "TRANSITIONS", "Stage"]


class Stage(Enum):
    """Where a connection stands between accept and the end of TCP.

    ::

        stage     begins with                  phase          deadline                followed by
        REQUEST   accept                       Opening        the whole request       GRANT OPEN EXCHANGE ENDING
        GRANT     asynchronous validators      Opening        their answer            OPEN EXCHANGE ENDING
        EXCHANGE  a granted HTTP request       PlainHTTP      the whole body          STREAM ENDING
        OPEN      the 101                      OpenWebSocket  ping, expiry, message   CLOSING ENDING
        STREAM    the head of an event stream  EventStream    ping, expiry            ENDING
        CLOSING   a close frame is written     OpenWebSocket  the peer's close frame  ENDING
        ENDING    the last byte is written     Ended          the end of TCP          LOST

    LOST, the end of TCP, follows every stage. A missed deadline in CLOSING or ENDING aborts TCP.
    """

    REQUEST = auto()
    GRANT = auto()
    EXCHANGE = auto()
    OPEN = auto()
    STREAM = auto()
    CLOSING = auto()
    ENDING = auto()
    LOST = auto()

    __hash__ = object.__hash__  # that of Enum is a Python function


#: Stage → the stages that may follow it.
TRANSITIONS: Final[Mapping[Stage, frozenset[Stage]]] = {
    Stage.REQUEST: frozenset([Stage.GRANT, Stage.OPEN, Stage.EXCHANGE, Stage.ENDING, Stage.LOST]),
    Stage.GRANT: frozenset([Stage.OPEN, Stage.EXCHANGE, Stage.ENDING, Stage.LOST]),
    Stage.EXCHANGE: frozenset([Stage.STREAM, Stage.ENDING, Stage.LOST]),
    Stage.OPEN: frozenset([Stage.CLOSING, Stage.ENDING, Stage.LOST]),
    Stage.STREAM: frozenset([Stage.ENDING, Stage.LOST]),
    Stage.CLOSING: frozenset([Stage.ENDING, Stage.LOST]),
    Stage.ENDING: frozenset([Stage.LOST]),
    Stage.LOST: frozenset(),
}

#: Before the response, which may be a refusal.
OPENING_STAGES: Final = frozenset([Stage.REQUEST, Stage.GRANT, Stage.EXCHANGE])

#: In a room.
OPEN_STAGES: Final = frozenset([Stage.OPEN, Stage.STREAM])

#: The end has begun; a missed deadline aborts TCP.
CLOSING_STAGES: Final = frozenset([Stage.CLOSING, Stage.ENDING, Stage.LOST])
