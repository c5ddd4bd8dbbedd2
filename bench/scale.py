#!/usr/bin/env python3
"""What nodes and brokers do at 1 to 1000 nodes and 10^4 to 10^8 messages/s, from what each message and entry costs.

Usage: ``bench/scale.py [--members 10] [--round-trip-ms 0.5]``: prints the tables of docs/scaling.md. Pure arithmetic:
the costs are `COSTS`, which ``bench/node_costs.py`` and ``bench/entry_path.py`` measure. A node is one process on one
core, and a shard is a Redis of its own on one core. What is not in it: TLS, bursts, uneven rooms and nodes.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Costs:
    """What one of each costs: microseconds of CPU, and bytes. Messages have 64 bytes.

    Attributes:
        receive: a node, a message that one of its clients published.
        deliver: a node, a message for one member.
        own_message: a node, what the broker adds to a message of its own: packed, written, read back.
        own_entry: a node, an entry of its own, written and read back.
        other_entry: a node, an entry of another node.
        other_message: a node, a message of another node to a room without members here.
        other_here: a node, a message of another node to a room with members here, before it is delivered.
        add_entry: the broker, an XADD.
        add_message: the broker, a message in it.
        reply: the broker, a reply to an XREAD that waited.
        read_entry: the broker, an entry in a reply.
        read_message: the broker, a message in a reply.
        entry_bytes: of an entry in a reply, without its messages.
        message_bytes: of a message in an entry: payload, frame, room, packing.
    """

    receive: float
    deliver: float
    own_message: float
    own_entry: float
    other_entry: float
    other_message: float
    other_here: float
    add_entry: float
    add_message: float
    reply: float
    read_entry: float
    read_message: float
    entry_bytes: float = 110.0
    message_bytes: float = 85.0


#: As bench/node_costs.py fitted them on 2026-11-29: two cores of a virtual machine (AMD EPYC), Python 3.11, Redis 7.0
#: on a unix socket. Its fit is within 40 %: figures made of them are right to about half.
COSTS: Final = Costs(
    receive=5.5,
    deliver=5.9,
    own_message=0.1,
    own_entry=92.0,
    other_entry=64.0,
    other_message=0.07,
    other_here=0.1,
    add_entry=16.5,
    add_message=0.06,
    reply=16.4,
    read_entry=0.74,
    read_message=0.02,
)

#: Of each resource, so much is used at most: the rest is for bursts.
FULL: Final = 0.7

#: Of a broker's network, and of a node's.
BYTES_PER_SECOND: Final = 10e9 / 8

#: A node without messages for a shard writes one entry in this time.
HEARTBEAT_SECONDS: Final = 1.0

#: An entry has at most so many bytes of messages.
ENTRY_BYTES: Final = 65536

NODES: Final = (1, 2, 5, 10, 20, 50, 100, 300, 1000)
RATES: Final = tuple(10**power for power in range(4, 9))
SHARDS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384)


@dataclass(frozen=True)
class Layout:
    """What is asked.

    Attributes:
        nodes: how many.
        shards: each a Redis of its own.
        affinity: the proxy sends all clients of a shard's rooms to one node, or to as few as there are nodes for it.
            Without, the members of each room are on all nodes.
        members: of a room; one publishes, the others get it.
        round_trip: seconds from XADD to its reply, in which a node collects the next entry.
        linger: seconds that a reader waits between two replies, so that each has more entries; the relay does not.
    """

    nodes: int
    shards: int = 1
    affinity: bool = False
    members: int = 10
    round_trip: float = 0.0005
    linger: float = 0.0

    @property
    def tailing(self) -> float:
        """Nodes that tail one shard for its rooms; as many write to it."""
        return max(1.0, self.nodes / self.shards) if self.affinity else float(self.nodes)

    @property
    def tailed(self) -> float:
        """Shards that one node tails for their rooms, on average."""
        return self.tailing * self.shards / self.nodes

    @property
    def guest(self) -> float:
        """The chance that a node tails one more shard: that of its readiness probe, which is any of them."""
        return 1 - self.tailed / self.shards

    @property
    def here(self) -> float:
        """The chance that a room in which another node publishes has members on this one."""
        return 1 - (1 - 1 / self.tailing) ** (self.members - 1)


def entries(layout: Layout, costs: Costs, per_second: float) -> float:
    """Return the entries per second that one node writes to one shard: one at a time, or heartbeats.

    Args:
        layout: what is asked.
        costs: of each.
        per_second: messages in the whole cluster.
    """
    messages = per_second / layout.shards / layout.tailing
    one_at_a_time = messages / (1 + messages * layout.round_trip)
    return max(one_at_a_time, messages * costs.message_bytes / ENTRY_BYTES, 1 / HEARTBEAT_SECONDS)


def use(layout: Layout, costs: Costs, per_second: float) -> dict[str, float]:
    """Return the share of each resource that is used at a rate.

    Args:
        layout: what is asked.
        costs: of each.
        per_second: messages in the whole cluster.
    """
    own, guests = entries(layout, costs, per_second), layout.guest * layout.nodes / layout.shards
    messages, written = per_second / layout.shards, own * layout.tailing + guests / HEARTBEAT_SECONDS
    out_bytes = written * costs.entry_bytes + messages * costs.message_bytes
    tailing = layout.tailing + guests
    return {
        "node CPU": node_cpu(layout, costs, per_second, own, written),
        "broker CPU": broker_cpu(layout, costs, messages, written, tailing),
        "broker network": tailing * out_bytes / BYTES_PER_SECOND,
        "node network": (layout.tailed + layout.guest) * out_bytes / BYTES_PER_SECOND,
    }


def node_cpu(layout: Layout, costs: Costs, per_second: float, own_entries: float, written: float) -> float:
    """Return how much of its core a node uses.

    Args:
        layout: what is asked.
        costs: of each.
        per_second: messages in the whole cluster.
        own_entries: per second, of this node in one shard.
        written: entries per second of all nodes in one shard.
    """
    own, in_shard = per_second / layout.nodes, per_second / layout.shards
    others = layout.tailed * in_shard - own
    foreign_entries = layout.tailed * (written - own_entries) + layout.guest * written
    microseconds = (
        own * (costs.receive + costs.own_message)
        + own * (layout.members - 1) * costs.deliver
        + (layout.tailed * own_entries + layout.guest / HEARTBEAT_SECONDS) * costs.own_entry
        + foreign_entries * costs.other_entry
        + others * (layout.here * costs.other_here + (1 - layout.here) * costs.other_message)
        + layout.guest * in_shard * costs.other_message
    )
    return microseconds / 1e6


def broker_cpu(layout: Layout, costs: Costs, messages: float, written: float, tailing: float) -> float:
    """Return how much of its core the broker of one shard uses: each node that tails it gets all that is written.

    Args:
        layout: what is asked.
        costs: of each.
        messages: per second, in the shard.
        written: entries per second, in the shard.
        tailing: nodes that tail it, for whatever reason.
    """
    replies = written / (1 + written * (layout.round_trip + layout.linger))
    add = written * costs.add_entry + messages * costs.add_message
    read = replies * costs.reply + written * costs.read_entry + messages * costs.read_message
    return (add + tailing * read) / 1e6


def first_full(layout: Layout, costs: Costs, per_second: float) -> tuple[str, float]:
    """Return the resource that is used most, and how much of it."""
    used = use(layout, costs, per_second)
    name = max(used, key=lambda one: used[one])
    return name, used[name]


def most(layout: Layout, costs: Costs) -> tuple[float, str]:
    """Return the highest rate at which no resource is used above `FULL`, and the one that is full then.

    0 where heartbeats alone are too much.
    """
    low, high = 0.0, 1e11
    if first_full(layout, costs, low)[1] > FULL:
        return 0.0, first_full(layout, costs, low)[0]
    while high - low > max(1.0, low / 1000):
        middle = math.sqrt(max(low, 1.0) * high)
        low, high = (middle, high) if first_full(layout, costs, middle)[1] <= FULL else (low, middle)
    return low, first_full(layout, costs, high)[0]


def least(layouts: Iterable[Layout], costs: Costs, per_second: float) -> Layout | None:
    """Return the first layout that carries a rate; None where none does."""
    return next((layout for layout in layouts if first_full(layout, costs, per_second)[1] <= FULL), None)


def node_counts() -> list[int]:
    """Return numbers of nodes from 1 to 20 000 in steps of about a tenth."""
    return sorted({round(1.1**power) for power in range(104)} | {20_000})


def short(number: float) -> str:
    """Return a number with two digits, such as 640, 64 k, 6.4 M."""
    if number < 1:
        return "0"
    digits = round(number, 1 - math.floor(math.log10(number)))
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if digits >= size:
            return f"{digits / size:.0f}{unit}" if digits >= 10 * size else f"{digits / size:.1f}{unit}"
    return f"{digits:.0f}"


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table, with all columns but the first to the right."""
    rows = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


#: The columns of the first table: title, shards and affinity.
COLUMNS: Final = (
    ("1 shard", 1, False),
    ("16 shards", 16, False),
    ("16 shards, affinity", 16, True),
    ("64 shards, affinity", 64, True),
    ("1024 shards, affinity", 1024, True),
)

#: What makes a layout of nodes, shards and affinity.
Make = Callable[[int, int, bool], Layout]


def by_nodes(make: Make, costs: Costs) -> str:
    """Return the table of the most that so many nodes carry, and what is full then."""

    def cell(nodes: int, shards: int, affinity: bool) -> str:
        rate, name = most(make(nodes, shards, affinity), costs)
        return f"{short(rate)}: {name}"

    lines = [[str(nodes), *(cell(nodes, shards, affinity) for _, shards, affinity in COLUMNS)] for nodes in NODES]
    return markdown(["nodes", *(title for title, _, _ in COLUMNS)], lines)


def by_rate(make: Make, costs: Costs) -> str:
    """Return the table of the least nodes, and then the least shards, that carry a rate."""

    def cell(rate: float, affinity: bool) -> str:
        found = least((make(nodes, one, affinity) for nodes in node_counts() for one in SHARDS), costs, rate)
        return f"{found.nodes:,} with {found.shards:,}" if found else f"none up to {max(node_counts()):,}"

    lines = [[short(rate), cell(rate, False), cell(rate, True)] for rate in RATES]
    return markdown(["messages/s", "without affinity: nodes with shards", "with affinity"], lines)


def shares(make: Make, costs: Costs, shards: int, affinity: bool) -> str:
    """Return the table of how much of the fullest resource is used, by nodes and rate."""

    def cell(nodes: int, rate: float) -> str:
        name, used = first_full(make(nodes, shards, affinity), costs, rate)
        return f"{used:.0%} {name}" if used <= FULL else f"– {name}"

    lines = [[str(nodes), *(cell(nodes, rate) for rate in RATES)] for nodes in NODES]
    return markdown(["nodes", *(f"{short(rate)}/s" for rate in RATES)], lines)


def main(arguments: list[str]) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What nodes and brokers do at some rates.")
    parser.add_argument("--members", type=int, default=10, help="of a room; default 10")
    parser.add_argument("--round-trip-ms", type=float, default=0.5, help="from XADD to its reply; default 0.5")
    parser.add_argument("--linger-ms", type=float, default=0.0, help="a reader's wait between replies; default none")
    options = parser.parse_args(arguments)

    def make(nodes: int, shards: int, affinity: bool) -> Layout:
        return Layout(nodes, shards, affinity, options.members, options.round_trip_ms / 1000, options.linger_ms / 1000)

    print("Modelled from the measured costs of each message and entry, not measured at these sizes.\n")
    print(f"The most messages/s, and what is full then (rooms of {options.members}, {FULL:.0%} of each resource):\n")
    print(by_nodes(make, COSTS))
    print("\nThe least nodes, and with them the least shards, that carry a rate:\n")
    print(by_rate(make, COSTS))
    for title, shards, affinity in COLUMNS:
        print(f"\n{title}: the fullest resource (–: above {FULL:.0%})\n")
        print(shares(make, COSTS, shards, affinity))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
