"""Relays in memory that share a broker in memory: the real factories, protocols, client and wire, one clock.

:class:`BrokerTestCase` has the broker and makes nodes. Must not live here: the broker
(:mod:`tests.harness.fake_redis`).
"""

import itertools
from typing import Any

from twisted.internet.testing import MemoryReactorClock

from tests.harness.fake_redis import FakeRedis
from tests.harness.support import Relay, RelayTestCase
from wsrelay import factory
from wsrelay.backplane.entry import Entry, pack
from wsrelay.backplane.shard import Shard
from wsrelay.backplane.state import State
from wsrelay.wire.frames import TEXT, encode

__all__ = ["BrokerTestCase"]


class BrokerTestCase(RelayTestCase):
    """Nodes and their broker.

    Attributes:
        clock: of all.
        broker: it.
        pumps: move all bytes.
    """

    def setUp(self) -> None:
        """Start a broker."""
        super().setUp()
        self.clock = MemoryReactorClock()
        self.broker = FakeRedis(self.clock)
        self.pumps: list[Any] = [self.broker]
        names = itertools.count(1)
        self.patch(factory, "token_hex", lambda size: f"{next(names):0{2 * size}x}")

    def node(self, *, settled: bool = True, **settings: Any) -> Relay:
        """Return a relay with the broker; ``settled``: it has connected, if it can."""
        options = {"backplane": "redis://broker", "drain_seconds": 0.0, **settings}
        made = Relay(self, options.pop("validators", ()), clock=self.clock, pumps=self.pumps, **options)
        if settled:
            made.settle()
        return made

    def nodes(self, count: int = 2, **settings: Any) -> list[Relay]:
        """Return relays."""
        return [self.node(node_name=f"node{number}", **settings) for number in range(count)]

    def publish_elsewhere(
        self,
        seq: int,
        *texts: str,
        room: str = "room",
        node: str = "other",
        age: float | None = None,
        bye: bool = False,
        epoch: str = "",
    ) -> None:
        """Append an entry of a node that is not here."""
        blob = pack([(room, encode(TEXT, text.encode()), 1) for text in texts])
        self.broker.add(Entry(node, seq, blob, age, bye, epoch).fields())

    def shard(self, node: Relay, number: int = 0) -> Shard:
        """Return a shard of a node."""
        shards: dict[int, Shard] = node.factory.backplane._shards
        return shards[number]

    def state(self, node: Relay, number: int = 0) -> State:
        """Return the state of a shard of a node."""
        return self.shard(node, number).state
