"""Nodes: each process describes itself in a hash of the broker, for people.

Nothing depends on it. Must not live here: which nodes messages come from (:mod:`wsrelay.backplane.inbox`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsrelay.backplane.context import Relay
from wsrelay.backplane.redis_errors import RedisError, of_reply
from wsrelay.backplane.redis_protocol import Reply
from wsrelay.backplane.shard import Shard
from wsrelay.backplane.state import State
from wsrelay.stats import NodeStatus

__all__ = ["Nodes"]

_log = Logger(namespace="wsrelay")

#: Seconds between two descriptions, and until a node without one leaves the list, and the hash.
DESCRIBE_SECONDS: Final = 2.0
LISTED_SECONDS: Final = 10.0
KEPT_SECONDS: Final = 60.0

#: Descriptions between two looks for old ones: a node that was killed leaves its own.
PRUNE_ROUNDS: Final = 30

#: The longest wait for the broker's answer.
ANSWER_SECONDS: Final = 1.0


class _Description(msgspec.Struct):
    """What a node writes.

    Attributes:
        node: its description.
        at: when, in ms of the broker's clock.
        shards: the number of shards that it spreads rooms over.
    """

    node: NodeStatus
    at: int
    shards: int = 1


_DESCRIPTION: Final = msgspec.json.Decoder(_Description)


class Nodes:
    """The list of nodes.

    Args:
        relay: this process.
        key: returns the key of a shard's hash, given its number.
        shards: the open shards, by number; a live view.
        shard_count: the number of shards, which must be the same on all nodes.
    """

    def __init__(self, relay: Relay, key: Callable[[int], str], shards: Mapping[int, Shard], shard_count: int) -> None:
        self._relay = relay
        self._key = key
        self._shards = shards
        self._shard_count = shard_count
        #: The nodes with another number, which are logged once.
        self._apart: set[str] = set()
        self._describing = LoopingCall(self._describe)
        self._describing.clock = relay.reactor
        self._rounds = 0
        #: The last error reply, which is logged once.
        self._refusal = ""

    def start(self) -> None:
        """Describe this node regularly."""
        self._describing.start(DESCRIBE_SECONDS, now=False)

    def stop(self) -> None:
        """Leave the list."""
        if self._describing.running:
            self._describing.stop()
        for number, shard in self._up():
            shard.ask("HDEL", self._key(number), self._relay.node_id)

    async def read(self) -> list[NodeStatus]:
        """Return the nodes that have described themselves within ten seconds; this one, as it is now."""
        asked = [self._ask(number, shard) for number, shard in self._up()]
        found = {self._relay.node_id: self._myself()}
        for nodes in await gatherResults(asked):
            for node in nodes:
                known = found.get(node.id)
                if known is None or node.seen_seconds_ago < known.seen_seconds_ago:
                    found[node.id] = node
        return [node for node in found.values() if node.seen_seconds_ago <= LISTED_SECONDS]

    def _ask(self, number: int, shard: Shard) -> "Deferred[list[NodeStatus]]":
        asked = shard.ask("HGETALL", self._key(number)).addTimeout(ANSWER_SECONDS, self._relay.reactor)
        return asked.addCallback(self._read, number, shard).addErrback(_nothing)

    def _read(self, reply: Reply, number: int, shard: Shard) -> list[NodeStatus]:
        """Read a hash, and remove what is old from it."""
        if not isinstance(reply, list):
            return []
        newest_ms, nodes = shard.tail.newest.milliseconds, []
        for name, text in zip(reply[::2], reply[1::2], strict=True):
            found = _described(text)
            node = None if found is None else replace(found.node, seen_seconds_ago=max(0, newest_ms - found.at) / 1e3)
            if found is None or node is None or node.seen_seconds_ago > KEPT_SECONDS:
                shard.ask("HDEL", self._key(number), name if isinstance(name, bytes) else b"")
            else:
                nodes.append(node)
                self._compare(found)
        return nodes

    def _compare(self, found: _Description) -> None:
        """Warn of a node whose rooms are in other shards: members here and there would not meet."""
        if found.shards != self._shard_count and found.node.id not in self._apart:
            self._apart.add(found.node.id)
            _log.error(
                "backplane: node {name} has ?shards={its}, and this one {ours}: rooms are split; give all the same",
                name=found.node.name,
                its=found.shards,
                ours=self._shard_count,
            )

    def _describe(self) -> None:
        self._rounds += 1
        for number, shard in self._up():
            if self._rounds % PRUNE_ROUNDS == 0:
                self._ask(number, shard)
            text = msgspec.json.encode(_Description(self._myself(), shard.tail.newest.milliseconds, self._shard_count))
            shard.ask("HSET", self._key(number), self._relay.node_id, text).addCallback(self._answered)

    def _answered(self, reply: Reply) -> None:
        if isinstance(reply, RedisError) and str(reply) != self._refusal:
            self._refusal = str(reply)
            _log.warn(
                "backplane: other nodes cannot list this one: {problem}", problem=of_reply(reply, "the broker").text
            )

    def _myself(self) -> NodeStatus:
        lag_seconds = max((shard.lag_seconds for shard in self._shards.values()), default=0.0)
        return replace(self._relay.describe(), lag_seconds=round(lag_seconds, 3))

    def _up(self) -> list[tuple[int, Shard]]:
        return [(number, shard) for number, shard in self._shards.items() if shard.state is State.UP]


def _described(text: object) -> _Description | None:
    """Return a node as it has described itself; ``None``: it cannot be read."""
    try:
        return _DESCRIPTION.decode(text if isinstance(text, bytes) else b"")
    except msgspec.DecodeError:
        return None


def _nothing(failure: Failure) -> list[NodeStatus]:
    failure.trap(TookTooLong)
    return []
