"""The state of a shard: one enum, and the log line with which each begins.

Must not live here: what changes the state (:mod:`wsrelay.backplane.shard`).
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from twisted.logger import Logger

__all__ = ["State", "announce"]

_log = Logger(namespace="wsrelay")


class State(Enum):
    """What a shard can do.

    ::

        state        since                                    members              followed by
        CONNECTING   the start                                wait before they     UP DOWN
                                                              join
        UP           an own entry, sent on this pair, was     get messages         INTERRUPTED
                     read back
        INTERRUPTED  the pair was given up                    wait                 UP DOWN
        DOWN         the grace is over, or the first attempt  are closed: 1013;    UP
                     failed                                   503 before they join

    CLOSED, the end, follows every state.
    """

    CONNECTING = "connecting"
    UP = "up"
    INTERRUPTED = "interrupted"
    DOWN = "down"
    CLOSED = "closed"


#: State → level and text of its log line.
_LINES: Final[Mapping[State, tuple[Callable[..., None], str]]] = {
    State.UP: (_log.info, "backplane: up on {where}, {key}"),
    State.INTERRUPTED: (
        _log.warn,
        "backplane: interrupted: {problem}; messages wait, and clients are closed with 1013 after {grace:g} s",
    ),
    State.DOWN: (
        _log.error,
        "backplane: down: {problem}; clients are closed with 1013, new ones refused with 503, until there is a broker",
    ),
    State.CLOSED: (_log.info, "backplane: closed"),
}


def announce(state: State, where: str, key: str, problem: str, grace_seconds: float) -> None:
    """Log that a state begins.

    Args:
        state: any but the first.
        where: the broker.
        key: the shard's stream.
        problem: why it does not deliver, and what to do.
        grace_seconds: how long clients wait.
    """
    log, text = _LINES[state]
    log(text, where=where, key=key, problem=problem, grace=grace_seconds)
