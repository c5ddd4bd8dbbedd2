"""Reading of an open connection: paused and resumed by the reasons of its :class:`~wsrelay.connection.flow.Flow`.

Must not live here: handling of bytes (the phases), the rooms' decision to hold publishers (:mod:`wsrelay.rooms`).
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
    """The part of :class:`wsrelay.connection.protocol.RelayProtocol` that is used here."""

    factory: Relay
    transport: Any  # no interface has all methods that Twisted's transports share
    stage: Stage
    flow: Flow
    keepalive: KeepAlive
    deadline: float
    data: bytes

    def seconds(self) -> float:
        """Return the reactor's time."""

    def reject(self, reason: CloseReason) -> None:
        """Close for a violation or an exceeded limit."""

    def dataReceived(self, data: bytes) -> None:
        """Take received bytes; empty: go on with the unparsed ones."""


def hold(reader: Reader, why: Hold) -> None:
    """Stop reading."""
    # While it closes, only yielded turns hold it: its input is discarded in turns, without room and rate limits.
    may_hold = why == Hold.TURN or reader.stage not in CLOSING_STAGES
    if may_hold and reader.flow.hold(why, reader.seconds()):
        reader.transport.pauseProducing()


def release(reader: Reader, why: int) -> None:
    """Take back reasons for not reading; when none is left, reading resumes in a later turn."""
    if reader.flow.release(why):
        reader.factory.reactor.callLater(0, _read_on, reader)


def end_turn(reader: Reader) -> None:
    """Yield the reactor's turn to other connections; the rest of the read is parsed in a later turn."""
    hold(reader, Hold.TURN)
    reader.factory.reactor.callLater(0, release, reader, Hold.TURN)


def limit_rate(reader: Reader, now: float) -> None:
    """Hold a peer above its rate limits.

    Peer sees:
        TCP backpressure; 1008 once the excess, paying its debt included, takes more than ``rate_grace_seconds``.
    """
    factory = reader.factory
    if reader.flow.over_seconds(now) > factory.settings.rate_grace_seconds:
        reader.reject(closecodes.TOO_FAST)
        return
    factory.stats.slowdowns += 1
    factory.slowed_down.add(reader)
    hold(reader, Hold.RATE)


def speed_up(reader: Reader) -> None:
    """Release a peer that is within its rate limits again. Called by the sweep."""
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
