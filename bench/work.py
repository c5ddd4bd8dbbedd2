"""The work that every server is given, as a table. Adding a row is adding a line."""

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One kind of work.

    Attributes:
        name: for the command line and the results.
        title: for the tables.
        members: connections per room.
        rooms: how many of them.
        publishers: how many members of a room publish, or "all".
        window: messages that a publisher has under way before it waits.
        size: bytes of a message.
        rate: messages per second, at fixed times, whether or not earlier ones have arrived; None for a window.
        deflate: with compression.
        idle: nobody publishes.
        tls: over TLS; each handshake is a full one, without resumption.
        burst: with a rate, so many messages are due at one time.
        servers: patterns of the servers that are measured at it, which commas separate.
        history: messages that its rooms keep; for the guard, whose relay is made for the row.
    """

    name: str
    title: str
    members: int
    rooms: int = 1
    publishers: str = "1"
    window: int = 1
    size: int = 64
    rate: int | None = None
    deflate: bool = False
    idle: bool = False
    tls: bool = False
    burst: int = 1
    servers: str = "*"
    history: int = 0

    @property
    def connections(self) -> int:
        """How many there are in all rooms."""
        return self.members * self.rooms

    @property
    def kind(self) -> str:
        """What its results are about: "idle", "paced" or "window"."""
        return "idle" if self.idle else "paced" if self.rate else "window"

    def arguments(self) -> list[str]:
        """Give what the load generator is told of it."""
        words = {
            "rooms": self.rooms,
            "members": self.members,
            "publishers": self.publishers,
            "size": self.size,
            **({"rate": self.rate} if self.rate else {"window": self.window}),
            **({"burst": self.burst} if self.burst > 1 else {}),
        }
        flags = [f"--{flag}" for flag in ("deflate", "idle", "tls") if getattr(self, flag)]
        return [word for name, value in words.items() for word in (f"--{name}", str(value))] + flags


MEMBERS = [10, 100, 1000, 9000]
WINDOWS = [1, 16, 64]

#: With window 4: the row of figures that others have published.
PUBLISHED = (9000, 4)


def _one_publisher(members: int, window: int) -> Row:
    """Make a row in which one of a room publishes."""
    return Row(f"{members}x{window}", f"1 publisher, {members} members, window {window}", members, window=window)


ROWS = [
    *(_one_publisher(members, window) for members in MEMBERS for window in WINDOWS),
    _one_publisher(*PUBLISHED),
    Row("all-100", "all 100 members publish", 100, publishers="all"),
    Row("rooms-500x2", "500 rooms of 2, all publish", 2, rooms=500, publishers="all"),
    Row("16k-100", "16 KiB messages, 100 members, window 16", 100, window=16, size=16 * 1024),
    Row("paced-100", "200 messages/s to 100 members", 100, rate=200),
    Row("paced-1000", "200 messages/s to 1000 members", 1000, rate=200),
    Row("deflate-100", "1 KiB messages with deflate, 100 members, window 16", 100, window=16, size=1024, deflate=True),
    Row("idle-9000", "9000 idle connections", 9000, idle=True),
    Row("100x1-1k", "1 KiB messages, 100 members, window 1", 100, size=1024),
    Row("100x16-1k", "1 KiB messages, 100 members, window 16", 100, window=16, size=1024),
    Row("100x1-tls", "1 KiB messages over TLS, 100 members, window 1", 100, size=1024, tls=True),
    Row("100x16-tls", "1 KiB messages over TLS, 100 members, window 16", 100, window=16, size=1024, tls=True),
    Row("idle-1000-tls", "1000 idle connections over TLS", 1000, idle=True, tls=True),
]

#: One relay beside itself with a broker, and any number of nodes.
ONE_NODE = "relay,relay-redis"
NODES = "relay,relay-redis*"

#: The work for relays with a broker, which is done where one of them is measured. Of several nodes, the first member
#: of a room is on the first, the second one on the second, and so on in turn.
BROKER_ROWS = [
    Row("one-200", "200 messages/s to 10 members", 10, rate=200, servers=ONE_NODE),
    Row("one-1000", "1000 messages/s to 10 members", 10, rate=1000, servers=ONE_NODE),
    Row("turns-2x1", "1 publisher, 2 members, window 1: one message per turn", 2, servers=ONE_NODE),
    Row("pairs-5000", "5000 messages/s in 50 rooms of 2", 2, 50, "all", rate=5000, servers=ONE_NODE),
    Row(
        *("pairs-5000-bursts", "5000 messages/s in 50 rooms of 2, 5 at a time", 2, 50, "all"),
        rate=5000,
        burst=5,
        servers=ONE_NODE,
    ),
    Row("cross-10000", "10 000 messages/s to the other node, 10 rooms of 2", 2, 10, "all", rate=10000, servers=NODES),
    Row("nodes-200", "200 messages/s in 10 rooms of 6, over the nodes", 6, 10, "all", rate=200, servers=NODES),
    Row("nodes-2000", "2000 messages/s in 10 rooms of 6, over the nodes", 6, 10, "all", rate=2000, servers=NODES),
    Row("nodes-6x16", "10 rooms of 6 over the nodes, all publish, window 16", 6, 10, "all", window=16, servers=NODES),
]

BY_NAME = {row.name: row for row in (*ROWS, *BROKER_ROWS)}

#: The guard's work, by name. With `idle`, handshakes are counted.
GUARDED = {
    row.name: row
    for row in [
        Row("pairs", "50 rooms of 2, all publish", 2, rooms=50, publishers="all"),
        _one_publisher(10, 1),
        _one_publisher(10, 64),
        Row("all-100", "all 100 members publish", 100, publishers="all"),
        # Less than the warm-up publishes, so that each message that comes makes the log forget one.
        Row("10x1-history", "1 publisher, 10 members, window 1, 20 messages kept", 10, history=20),
        Row("10x64-history", "1 publisher, 10 members, window 64, 100 messages kept", 10, window=64, history=100),
        Row("pairs-history", "50 rooms of 2, all publish, 20 messages kept", 2, 50, "all", history=20),
        Row("small-in", "small frames in: 1 publisher, 2 members, window 512", 2, window=512, size=16),
        Row("handshake", "a handshake", 10, idle=True),
    ]
}


def matches(name: str, pattern: str) -> bool:
    """Whether a row's name matches any of the patterns, which commas separate."""
    return any(fnmatch.fnmatchcase(name, one) for one in pattern.split(","))


def select(pattern: str, with_broker: bool = False) -> list[Row]:
    """Give the rows whose names match, in the order of the tables.

    Args:
        pattern: one or more, with commas.
        with_broker: also from `BROKER_ROWS`.
    """
    rows = [*ROWS, *BROKER_ROWS] if with_broker else ROWS
    return [row for row in rows if matches(row.name, pattern)]


def weight(row: Row, seconds: float) -> float:
    """Guess how long one measurement takes, so that a total can be estimated."""
    return 2 + seconds + row.connections / 1500
