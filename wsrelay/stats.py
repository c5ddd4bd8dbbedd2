"""Counters of what the relay did since it started. Plain integers; no clock, no I/O.

Counted once per batch or per event, never per delivered message in a loop of its own, so
counting costs nothing on the fan-out path. Reading them (metrics, status) happens elsewhere.
"""

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Stats"]


@dataclass(slots=True)
class Stats:
    """What happened so far.

    Attributes:
        connections_opened: handshakes answered with 101.
        handshakes_denied: HTTP status and :attr:`wsrelay.errors.Denied.cause` → handshakes refused for that.
        closes_sent: close code → closing handshakes that we started.
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
            :data:`wsrelay.room.SHED` → connections that were closed because memory was short.
        pauses: times that a room has paused its publishers.
        log_bytes: what all rooms' logs cost now, as plain frames; the only one that goes down.
        failures: callbacks that raised: our bugs or an extension's.
    """

    connections_opened: int = 0
    handshakes_denied: Counter[tuple[int, str]] = field(default_factory=Counter)
    closes_sent: Counter[int] = field(default_factory=Counter)
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
