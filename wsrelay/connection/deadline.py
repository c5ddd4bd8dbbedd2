"""The action at a connection's one deadline, by its stage.

Must not live here: when it is checked (:mod:`wsrelay.connection.sweep`), which action of an open connection is due
(:mod:`wsrelay.connection.keepalive`), deadlines of requests (the phases).
"""

import math
import os
from typing import Final

from wsrelay.connection.host import Host
from wsrelay.connection.keepalive import Due
from wsrelay.connection.stage import CLOSING_STAGES, OPEN_STAGES, Stage

__all__ = ["act"]

#: Bytes of a ping's payload: random, so that only a peer that has read the ping can answer it.
PAYLOAD_BYTES: Final = 8


def act(connection: Host) -> None:
    """Act on a passed deadline. Called by the sweep, once for each."""
    connection.deadline = math.inf
    if connection.stage in CLOSING_STAGES:
        _end(connection)
    elif connection.factory.turns.waiting_bytes(connection) and not _is_expired(connection):
        connection.expect_within(0)  # the next sweep looks again: what is missing may be in these bytes
    elif connection.stage in OPEN_STAGES:
        _keep_alive(connection)
    else:
        connection.phase.on_deadline()


def _end(connection: Host) -> None:
    """End TCP, unless a slow peer takes the bytes in front of its close frame, or a long response, and has time left.

    With FIN where the peer's TCP has everything: a reset would discard what it, or a proxy, has not read yet
    (TRAPS 103).
    """
    writer, close_seconds = connection.writer, connection.factory.settings.close_seconds
    more_seconds = connection.keepalive.more_time(connection.seconds(), close_seconds, writer.progressed)
    if more_seconds:
        connection.expect_within(more_seconds)
    elif connection.stage is Stage.CLOSING and writer.delivered:
        connection.dropConnection()
    else:
        connection.abort()


def _is_expired(connection: Host) -> bool:
    """Return whether the grant of an open connection has expired."""
    return connection.member is not None and connection.seconds() >= connection.keepalive.expires


def _keep_alive(connection: Host) -> None:
    """Ping an open connection, or close it for expiry or a timeout, if due."""
    assert connection.member is not None
    keepalive, now, held = connection.keepalive, connection.seconds(), connection.flow.held_since != math.inf
    due = keepalive.due(now, connection.member.progressed, held=held, within_frame=connection.mid_frame)
    if due.close is not None:
        (connection.reject if due is Due.MESSAGE_TIMEOUT else connection.close)(due.close)  # only this is a violation
        return
    if due is Due.PING:
        payload = os.urandom(PAYLOAD_BYTES)
        if keepalive.ping(now, connection.factory.settings.ping_seconds, payload):
            connection.phase.ping(payload)
    connection.deadline = keepalive.expires if held else keepalive.deadline
