"""Reading of an open connection: paused and resumed by the reasons of its :class:`~wsrelay.connection.flow.Flow`.

Must not live here: handling of bytes (the phases), the rooms' decision to hold publishers (:mod:`wsrelay.rooms`).
"""

from typing import Any, Final, Protocol

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.connection.context import SWEEP_SECONDS, Relay
from wsrelay.connection.flow import Flow
from wsrelay.connection.keepalive import KeepAlive
from wsrelay.connection.stage import CLOSING_STAGES, OPEN_STAGES, Stage
from wsrelay.interfaces import Hold
from wsrelay.limits.admission import Visit, too_many

__all__ = [
    "Reader",
    "charge",
    "charge_records",
    "end_turn",
    "hold",
    "is_too_fast",
    "limit_rate",
    "release",
    "settle",
    "speed_up",
]

#: The shortest time of being held for a rate, in seconds: pausing and resuming costs as much as a few reads.
_SLOWDOWN_SECONDS: Final = 0.02

#: ``Retry-After`` of an address above its rates, in seconds.
_RETRY_SECONDS: Final = 1

#: Refills the buckets of an address.
_NOTHING: Final = (0, 0, 0, 0)


class Reader(Protocol):
    """The part of :class:`wsrelay.connection.protocol.RelayProtocol` that is used here."""

    factory: Relay
    transport: Any  # no interface has all methods that Twisted's transports share
    stage: Stage
    visit: Visit
    flow: Flow
    keepalive: KeepAlive
    deadline: float
    data: bytes

    def seconds(self) -> float:
        """Return the reactor's time."""

    def reject(self, reason: CloseReason) -> None:
        """Close for a violation or an exceeded limit."""

    def abort(self) -> None:
        """End TCP now."""

    def dataReceived(self, data: bytes) -> None:
        """Take received bytes; empty: go on with the unparsed ones."""

    @property
    def network(self) -> object:
        """See :class:`wsrelay.limits.turns.Waiting`."""

    def take_turn(self, data: bytes) -> None:
        """Read again after :func:`end_turn`."""


def hold(reader: Reader, why: Hold) -> None:
    """Stop reading. No effect while it closes: its input is discarded, without room and rate limits."""
    if reader.stage not in CLOSING_STAGES and reader.flow.hold(why, reader.seconds()):
        reader.transport.pauseProducing()


def release(reader: Reader, why: int) -> None:
    """Take back reasons for not reading; when none is left, reading resumes in a later turn."""
    if reader.flow.release(why):
        reader.factory.reactor.callLater(0, _read_on, reader)


def end_turn(reader: Reader, *, keeps_place: bool = False) -> None:
    """Leave the rest of a read to a later turn of the reactor, so that other connections have theirs.

    Args:
        reader: the connection.
        keeps_place: see :meth:`wsrelay.limits.turns.Turns.wait`.
    """
    reader.transport.pauseProducing()
    reader.factory.turns.wait(reader, keeps_place=keeps_place)


def is_too_fast(reader: Reader) -> bool:
    """Charge what was read since the last sweep to the address; return whether one of the two is above its rates."""
    now = reader.factory.now
    if now > reader.flow.refilled_at:
        settle(reader, now)
    return reader.flow.is_overdrawn or reader.visit.is_overdrawn


def limit_rate(reader: Reader) -> None:
    """Hold a peer above its rate limits, or those of its address.

    Peer sees:
        TCP backpressure; 1008 once its own excess, paying its debt included, takes more than ``rate_grace_seconds``.
    """
    factory, flow, now = reader.factory, reader.flow, reader.seconds()
    settle(reader, now)  # exactly: the rate of half a second is more than a burst
    if flow.is_overdrawn and flow.over_seconds(now) > factory.settings.rate_grace_seconds:
        reader.reject(closecodes.TOO_FAST)
    elif flow.is_overdrawn or reader.visit.is_overdrawn:
        factory.stats.slowdowns += 1
        factory.slowed_down.add(reader)
        hold(reader, Hold.RATE)
        if 0 < (wait_seconds := flow.wait_seconds()) < SWEEP_SECONDS:  # else the sweep is early enough
            factory.reactor.callLater(max(wait_seconds, _SLOWDOWN_SECONDS), speed_up, reader)


def charge_records(reader: Reader, full: int, empty: int) -> None:
    """Charge TLS records to the rate limits on frames and control frames. See :class:`wsrelay.net.tls.Charged`.

    Args:
        reader: the connection.
        full: small records with application data beyond the first of a read.
        empty: records without, such as KeyUpdates; each costs as much as a control frame, and counts as one.

    Peer sees:
        As for any excess of frames; while it is not open, the end of TCP for an empty one.
    """
    if reader.stage in OPEN_STAGES:
        reader.flow.frames -= full
        reader.flow.controls -= empty
        if is_too_fast(reader):
            limit_rate(reader)
    elif empty and reader.stage is not Stage.LOST:
        reader.abort()


def speed_up(reader: Reader) -> None:
    """Release a peer that is within its rate limits again. Called when its own debt is paid, and by each sweep."""
    slowed_down = reader.factory.slowed_down
    if reader in slowed_down:
        settle(reader, reader.seconds())
        if not reader.flow.is_overdrawn and not reader.visit.is_overdrawn:
            slowed_down.discard(reader)
            release(reader, Hold.RATE)


def settle(reader: Reader, now: float) -> None:
    """Refill the connection's allowance, and charge what it has taken since the last time to its address."""
    reader.visit.charge(reader.flow.settle(now), reader.factory.now)


def charge(reader: Reader, frames: int, size_bytes: int) -> None:
    """Charge a message over plain HTTP to its address, unless that refuses it.

    Args:
        reader: its connection.
        frames: the parts in which the body came.
        size_bytes: the length of the body.

    Raises:
        Denied: 429, its address has sent more than its rates allow.
    """
    visit, now = reader.visit, reader.factory.now
    visit.charge(_NOTHING, now)
    if visit.is_overdrawn:  # not charged: else one client that goes on would keep all others of its address held
        reader.factory.stats.slowdowns += 1
        raise too_many("too many messages from your address", "address_rate_factor", _RETRY_SECONDS)
    visit.charge((1, frames, size_bytes, 0), now)


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
