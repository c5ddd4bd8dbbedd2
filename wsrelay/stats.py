"""Counters, histograms, and the status of rooms and connections at one moment.

Pure data. Events and batches are counted, never single deliveries, so that counting costs nothing on the fan-out path.
Must not live here: export (:mod:`wsrelay.admin.metrics`) and display (:mod:`wsrelay.admin.views`).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

__all__ = [
    "NOTHING",
    "BackplaneStats",
    "BackplaneStatus",
    "ConnectionStatus",
    "Histogram",
    "NodeStatus",
    "RoomStatus",
    "Stats",
    "Tally",
]


class Histogram:
    """Cumulative histogram of observed values.

    Not prometheus-client's: one of its observations costs a microsecond and more, most of it for a lock, and flushes
    are observed one by one.

    Args:
        bounds: ascending; a value falls under the first bound that it does not exceed, or beyond the last.

    Attributes:
        bounds: the same.
        counts: the number of values under each bound and over the one before; the last: over all bounds.
        total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def __bool__(self) -> bool:
        """Whether anything was observed."""
        return any(self.counts)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


#: The bounds of histograms.
_DELIVERIES: Final = (1, 10, 100, 1e3, 1e4, 1e5)
_SECONDS: Final = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(slots=True)
class BackplaneStats:
    """Counters of a backplane with a broker, all shards together; zero with the local one.

    Attributes:
        reconnects: the reason, in one word → connections to the broker that ended or failed.
        incarnations: times that the broker was another one than before: restarted, or a replica took over.
        published_entries: entries that the broker has acknowledged; one has the messages of a turn or more.
        read_entries: entries read, our own included.
        read_messages: ``yes`` and ``no``, whether their room has members here → messages of other nodes read.
        duplicates: entries that had been read before.
        gaps: times that entries of a node were missing.
        resent: entries sent again, because a broker might not have them.
        round_trip_seconds: from sending an entry to reading it back.
    """

    reconnects: Counter[str] = field(default_factory=Counter)
    incarnations: int = 0
    published_entries: int = 0
    read_entries: int = 0
    read_messages: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    gaps: int = 0
    resent: int = 0
    round_trip_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))


@dataclass(slots=True)
class Stats:
    """Counters since the start, and three values of the present: ``log_bytes``, ``history_rooms``, ``history_bytes``.

    Attributes:
        connections_opened: handshakes answered with 101.
        handshakes_denied: HTTP status and :attr:`wsrelay.errors.Denied.cause` → handshakes refused for that.
        closes_sent: close code → closing handshakes that we started.
        connections_closed: which side closed it (``relay``, ``client``; ``lost`` where TCP just ended) and the code, as
            :func:`wsrelay.closecodes.counted_as` names it → connections that were open and have ended.
        connections_dropped: over-limit connections ended without an answer: all slots for refusals were taken.
        slowdowns: times that reading from a connection was paused by a rate limit.
        messages_in: messages accepted from publishers.
        bytes_in: their size as plain frames: unmasked, in one piece, inflated.
        deliveries: messages handed to subscribers' transports, one per message and subscriber.
        bytes_out: frame bytes handed to subscribers' transports.
        messages_dropped: messages that came in on a connection already closing; not relayed.
        messages_missed: the lag of subscribers when they left, were closed, failed or met the slow policy; own messages
            may be among them.
        evictions: slow policy → subscribers that it evicted, or that skipped messages under it;
            :data:`wsrelay.rooms.room.SHED` → connections that were closed because memory was short.
        pauses: times that a room has held its publishers.
        log_bytes: the cost of all rooms' logs now, as plain frames.
        resumes: ``resumed`` or ``gone`` → clients that joined or read with ``since``.
        replayed_messages: old messages handed to subscribers that joined with ``since``, ``last`` or a greeting.
        history_rooms: rooms without members that are kept for their history, now.
        history_bytes: the cost of their logs now, as plain frames; part of ``log_bytes``.
        failures: callbacks that raised.
        http_requests: method and HTTP status → requests on the relay's own ports that were no handshakes.
        flush_deliveries: how many deliveries the flushes of a reactor turn made.
        flush_seconds: how long they took.
        reactor_lag_seconds: how late the reactor came to the sweep.
        backplane: the counters of the backplane.
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
    resumes: Counter[str] = field(default_factory=Counter)
    replayed_messages: int = 0
    history_rooms: int = 0
    history_bytes: int = 0
    failures: int = 0
    http_requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    flush_deliveries: Histogram = field(default_factory=partial(Histogram, _DELIVERIES))
    flush_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))
    reactor_lag_seconds: Histogram = field(default_factory=partial(Histogram, _SECONDS))
    backplane: BackplaneStats = field(default_factory=BackplaneStats)


@dataclass(frozen=True, slots=True)
class BackplaneStatus:
    """A backplane.

    Attributes:
        state: ``local`` without a broker; else ``connecting``, ``up``, ``interrupted``, ``down`` or ``closed``; with
            several shards the worst of them.
        problem: why it does not deliver now, and what to do; empty while it does, for some rooms at least.
        pending_bytes: published messages that no broker has acknowledged.
        lag_seconds: for how long the oldest own entry has not come back.
        nodes: the nodes that have been heard within ten seconds, this one included.
    """

    state: str
    problem: str = ""
    pending_bytes: int = 0
    lag_seconds: float = 0.0
    nodes: int = 1


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A process that serves rooms, as it has described itself.

    Attributes:
        id: random, new at each start.
        name: ``--node-name``.
        version: of wsrelay.
        since: when it started, in seconds since the epoch.
        connections: its TCP connections.
        rooms: its rooms with members.
        lag_seconds: see :class:`BackplaneStatus`.
        seen_seconds_ago: how old this description is.
    """

    id: str
    name: str
    version: str
    since: float
    connections: int
    rooms: int
    lag_seconds: float
    seen_seconds_ago: float


@dataclass(frozen=True, slots=True)
class RoomStatus:
    """A room.

    Attributes:
        name: its name.
        members: connections in it.
        publishers: those of them that may publish.
        subscribers: those of them that receive.
        slow: subscribers that lag behind the others.
        lag_messages: the lag of the slowest, in messages.
        log_bytes: the cost of its log now.
        messages: published since it was opened.
        bytes: their size as plain frames.
        held: whether its publishers are held, for a slow subscriber.
    """

    name: str
    members: int
    publishers: int
    subscribers: int
    slow: int
    lag_messages: int
    log_bytes: int
    messages: int
    bytes: int
    held: bool


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """A connection.

    Attributes:
        number: its number in this process, counted from 1.
        handle: its ``Wsrelay-Connection``; ``None`` without ``--http``, and until it opens.
        peer: its client's address.
        room: the room that it is or was in; empty until it opens.
        identity: as in its grant; ``None`` is anonymous.
        state: ``handshake``, ``open``, ``closing`` or ``closed``.
        seconds: since it has opened; 0 until then.
        messages_in: messages that it published.
        bytes_in: their size as plain frames: unmasked, in one piece, inflated.
        messages_out: messages handed to its transport.
        bytes_out: their size as plain frames, before deflating.
        paused: whether bytes wait in its transport, because the peer does not read.
        held: whether reading from it is paused, by a rate limit or for a slow subscriber.
    """

    number: int
    handle: str | None
    peer: str
    room: str
    identity: str | None
    state: str
    seconds: float
    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    paused: bool
    held: bool


#: A number of messages, and their bytes as plain frames. A plain tuple: one with names takes ten times as long.
Tally = tuple[int, int]

NOTHING: Final[Tally] = (0, 0)
