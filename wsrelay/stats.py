"""Counters of what the relay did since it started. Plain integers; no clock, no I/O.

Counted once per batch or per event, never per delivered message in a loop of its own, so
counting costs nothing on the fan-out path. Reading them (metrics, status) happens elsewhere.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from wsrelay.histogram import Histogram

__all__ = ["Stats"]

#: The bounds of histograms.
_DELIVERIES: Final = (1, 10, 100, 1e3, 1e4, 1e5)
_SECONDS: Final = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(slots=True)
class Stats:
    """What happened so far.

    Attributes:
        connections_opened: handshakes answered with 101.
        handshakes_denied: HTTP status and :attr:`wsrelay.errors.Denied.cause` → handshakes refused for that.
        closes_sent: close code → closing handshakes that we started.
        connections_closed: who closed it (``relay``, ``client``; ``lost`` where TCP just ended) and the code, as
            :func:`wsrelay.closecodes.counted_as` names it → connections that were open and have ended.
        connections_dropped: connections that were ended without an answer: even those that get one were too many.
        slowdowns: how often a connection was not read for a while, because it sent too much.
        messages_in: messages accepted from publishers.
        bytes_in: what they are as plain frames: unmasked, in one piece, inflated.
        deliveries: messages handed to subscribers' transports, one per message and subscriber.
        bytes_out: frame bytes handed to subscribers' transports.
        messages_dropped: messages that came in on a connection already closing; relayed to nobody.
        messages_missed: messages that a subscriber was behind with when it left, was closed, failed or met the
            slow policy; its own may be among them.
        evictions: slow policy → how often it hit a subscriber: the end of its connection, or of what it had to read;
            :data:`wsrelay.rooms.room.SHED` → connections that were closed because memory was short.
        pauses: times that a room has paused its publishers.
        log_bytes: what all rooms' logs cost now, as plain frames; the only one that goes down.
        failures: callbacks that raised: our bugs or an extension's.
        http_requests: method and HTTP status → requests on the relay's own ports that were no handshakes.
        flush_deliveries: how many deliveries the flushes of a reactor turn made.
        flush_seconds: how long they took.
        reactor_lag_seconds: how late the reactor came to the sweep.
    """

    connections_opened: int = 0
    handshakes_denied: Counter[tuple[int, str]] = field(default_factory=Counter)
    closes_sent: Counter[int] = field(default_factory=Counter)
    connections_closed: Counter[tuple[str, str]] = field(default_factory=Counter)
    connections_dropped: int = 0
    slowdowns: int = 0
    messages_in: int = 0
    bytes_in: int = 0
    deliveries: int = 0
    bytes_out: int = 0
    messages_dropped: int = 0
    messages_missed: int = 0
    evictions: Counter[str] = field(default_factory=Counter)
    pauses: int = 0
    log_bytes: int = 0
    failures: int = 0
    http_requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    flush_deliveries: Histogram = field(default_factory=partial(Histogram, _DELIVERIES))
    flush_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))
    reactor_lag_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))
