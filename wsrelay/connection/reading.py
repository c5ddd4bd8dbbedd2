"""Reading of an open connection: paused and resumed for the reasons of its :class:`~wsrelay.connection.flow.Flow`.

Must not live here: what the bytes mean (the phases), when a room holds its publishers (:mod:`wsrelay.rooms`).
"""

from typing import Any, Protocol

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.connection.context import Relay
from wsrelay.connection.flow import Flow, Hold
from wsrelay.connection.keepalive import KeepAlive
from wsrelay.connection.stage import CLOSING_STAGES, OPEN_STAGES, Stage

__all__ = ["Reader", "end_turn", "hold", "limit_rate", "release", "speed_up"]


class Reader(Protocol):
    """A connection whose reading is controlled. See :class:`wsrelay.connection.protocol.RelayProtocol`."""

    factory: Relay
    transport: Any  # no interface has all that Twisted's transports have in common
    stage: Stage
    flow: Flow
    keepalive: KeepAlive
    deadline: float
    data: bytes

    def seconds(self) -> float:
        """Return the reactor's time."""

    def reject(self, reason: CloseReason) -> None:
        """Close because of what the peer sent."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes that have come; empty: those that are not parsed yet."""


def hold(reader: Reader, why: Hold) -> None:
    """Stop reading."""
    # While it closes, the room and the rates do not hold it: what it still sends is discarded, in turns.
    may_hold = why == Hold.TURN or reader.stage not in CLOSING_STAGES
    if may_hold and reader.flow.hold(why, reader.seconds()):
        reader.transport.pauseProducing()


def release(reader: Reader, why: int) -> None:
    """Take back reasons for not reading; where none is left, it is read again in a later turn."""
    if reader.flow.release(why):
        reader.factory.reactor.callLater(0, _read_on, reader)


def end_turn(reader: Reader) -> None:
    """Let other connections have their turn of the reactor before the rest of what was read is parsed."""
    hold(reader, Hold.TURN)
    reader.factory.reactor.callLater(0, release, reader, Hold.TURN)


def limit_rate(reader: Reader, now: float) -> None:
    """Hold a peer above its rate limits.

    Peer sees:
        TCP taking no more; 1008 after ``rate_grace_seconds`` of that.
    """
    factory = reader.factory
    if reader.flow.over_seconds(now) > factory.settings.rate_grace_seconds:
        reader.reject(closecodes.TOO_FAST)
        return
    factory.stats.slowdowns += 1
    factory.slowed_down.add(reader)
    hold(reader, Hold.RATE)


def speed_up(reader: Reader) -> None:
    """Read a peer again that was above its rate limits, if it no longer is. For the sweep."""
    if not reader.flow.is_overdrawn(reader.factory.now):
        reader.factory.slowed_down.discard(reader)
        release(reader, Hold.RATE)


def _read_on(reader: Reader) -> None:
    held_seconds = reader.flow.resume(reader.seconds())
    if held_seconds is None or reader.stage in (Stage.ENDING, Stage.LOST):
        return
    reader.transport.resumeProducing()
    if reader.stage in OPEN_STAGES:
        reader.keepalive.read_again(held_seconds)
        reader.deadline = reader.keepalive.deadline
    if reader.data:
        reader.dataReceived(b"")
