"""The backplane on Redis or Valkey: rooms spread over one stream or several, which all nodes read.

Each stream is a :class:`wsrelay.backplane.shard.Shard`, with connections of its own. A node reads the streams in which
it has members, so that with room affinity at the proxy its load does not grow with the number of nodes.

Must not live here: what a stream does (:mod:`wsrelay.backplane.shard`), URLs (:mod:`wsrelay.backplane.url`).
"""

import zlib
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import count
from typing import Final

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.task import LoopingCall

from wsrelay.backplane.context import Relay
from wsrelay.backplane.epochs import START_PLACE
from wsrelay.backplane.nodes import Nodes
from wsrelay.backplane.redis_errors import NoBroker
from wsrelay.backplane.redis_link import Pair, check, open_pair
from wsrelay.backplane.shard import Shard
from wsrelay.backplane.state import State
from wsrelay.backplane.url import Address, Password, parse, password
from wsrelay.errors import SettingsError
from wsrelay.interfaces import Subscriber
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.names import PROBE_ROOM
from wsrelay.rooms.timeline import Timeline
from wsrelay.settings import Settings
from wsrelay.stats import BackplaneStatus, NodeStatus

__all__ = ["RedisBackplane", "configured"]

#: Seconds between two looks at which shards have members, and how long a shard without any is kept.
IDLE_SECONDS: Final = 60.0

#: Nodes that were heard within this time are counted.
SEEN_SECONDS: Final = 10.0

#: The states, best first.
_STATES: Final = (State.UP, State.CONNECTING, State.INTERRUPTED, State.DOWN, State.CLOSED)


def configured(settings: Settings) -> tuple[Address, Password | None]:
    """Return the broker's address and password.

    Raises:
        SettingsError: names all that is wrong: the URL, its files, the password file, hiredis.
    """
    problems: list[str] = []
    address, secret = Address("redis"), None
    try:
        address = parse(settings.backplane)
        check(address)
    except ValueError as error:
        problems.append(f"backplane: {error}")
    if settings.backplane_password_file:
        try:
            secret = password(settings.backplane_password_file)
        except ValueError as error:
            problems.append(f"backplane_password_file: {error}")
    if problems:
        raise SettingsError(problems)
    return address, secret


class RedisBackplane:
    """A :class:`wsrelay.interfaces.Backplane` whose nodes share the streams of a broker.

    Args:
        relay: this process.
        call_soon: calls a function at the end of this reactor turn.

    Raises:
        SettingsError: see :func:`configured`.
    """

    def __init__(self, relay: Relay, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._relay = relay
        self._call_soon = call_soon
        self._address, _ = configured(relay.settings)
        self._number = lru_cache(4096)(self._number_of)
        #: The shard of the readiness probe, which is always open. One for all nodes would be read by all of them.
        self._home = shard_of(relay.node_id, self._address.shards)
        self._shards: dict[int, Shard] = {}
        self._used_at: dict[int, float] = {}
        #: The ids of each shard's rooms, also before it is opened.
        self._timelines: dict[int, Timeline] = {}
        relay.hub.histories.timeline_of = lambda room: self._timeline(self._number(room))
        self._nodes = Nodes(relay, self._address.nodes, self._shards, self._address.shards)
        self._looking = LoopingCall(self._look)
        self._looking.clock = relay.reactor
        self._is_stopped = False
        self._serials = count(1)

    def start(self) -> None:
        """Open the shard of the readiness probe: with one shard, that is all."""
        if not self._looking.running:
            self._is_stopped = False
            for number in tuple(self._shards):
                self._forget(number)  # closed by an earlier stop
            self._changed()
            self._looking.start(IDLE_SECONDS, now=False)
            self._shard(PROBE_ROOM)
            self._nodes.start()

    def publish(self, room: str, run: Run) -> None:
        """See :class:`wsrelay.interfaces.Backplane`, as for the other methods."""
        self._shard(room).publish(room, run)

    def enter(self, room: str, since: MessageId | None = None) -> Deferred[None] | None:
        """Open the room's shard if it is not."""
        return self._shard(room).enter(since)

    def check(self, room: str) -> None:
        """Refuse while the shard is down, or too much waits for it."""
        self._shard(room).check()

    def hold(self, room: str, publisher: Subscriber) -> bool:
        """Hold a publisher in a congested shard."""
        return self._shard(room).held.hold(publisher)

    async def stop(self) -> None:
        """Stop all shards at the same time."""
        if self._looking.running:
            self._looking.stop()
        self._nodes.stop()
        self._is_stopped = True
        await DeferredList([Deferred.fromCoroutine(shard.stop()) for shard in self._shards.values()])

    def status(self) -> BackplaneStatus:
        """Return the state of the worst shard; bytes are added up.

        There is a problem if no shard is up: else one broker of several could make every node unready. A shard that
        has just been opened is not waited for.
        """
        now = self._relay.reactor.seconds()
        shards = list(self._shards.values())
        home = self._shards.get(self._home)
        known = [shard for shard in shards if shard is home or shard.state is not State.CONNECTING]
        worst = max(known, key=lambda shard: _STATES.index(shard.state), default=None)
        works = any(shard.state is State.UP for shard in known)
        return BackplaneStatus(
            state=State.CONNECTING.value if worst is None else worst.state.value,
            problem="" if works else "not started" if worst is None else worst.problem,
            pending_bytes=sum(shard.outbox.pending_bytes for shard in shards),
            lag_seconds=max((shard.lag_seconds for shard in shards), default=0.0),
            nodes=max((shard.tail.inbox.seen(now, SEEN_SECONDS) for shard in shards), default=0),
        )

    async def nodes(self) -> list[NodeStatus]:
        """Return the nodes that read the same shards as this one."""
        return await self._nodes.read()

    def _number_of(self, room: str) -> int:
        return self._home if room == PROBE_ROOM else shard_of(room, self._address.shards)

    def _shard(self, room: str) -> Shard:
        """Return the shard of a room; it is opened if need be. The readiness probe takes any that is up."""
        number = self._number(room)
        if room == PROBE_ROOM:
            number = next((number for number, shard in self._shards.items() if shard.state is State.UP), number)
        return self._shards.get(number) or self._opened(number)

    def _opened(self, number: int) -> Shard:
        relay, address = self._relay, self._address
        shard = self._shards[number] = Shard(
            relay,
            f"{relay.node_id}.{next(self._serials)}",  # a shard that is opened again numbers its entries from 1
            address.stream(number),
            self._timeline(number),
            partial(self._open, number),
            is_mine=partial(self._is_of, number),
            call_soon=self._call_soon,
            changed=self._changed,
        )
        self._used_at[number] = relay.reactor.seconds()
        if not self._is_stopped:
            shard.start()
        return shard

    def _open(self, number: int) -> Deferred[Pair]:
        """Open a pair; the password file is read again, so that a new password needs no restart."""
        relay, path = self._relay, self._relay.settings.backplane_password_file
        try:
            secret = password(path) if path else None
        except ValueError as error:
            return fail(NoBroker("auth", str(error)))
        return open_pair(relay.reactor, self._address, secret, relay.describe().name, number)

    def _changed(self) -> None:
        self._relay.congested = any(shard.held.is_congested for shard in self._shards.values())

    def _timeline(self, number: int) -> Timeline:
        found = self._timelines.get(number)
        if found is None:
            found = self._timelines[number] = Timeline("", START_PLACE)
        return found

    def _is_of(self, number: int, room: str) -> bool:
        return self._number(room) == number

    def _forget(self, number: int) -> Shard:
        """Forget a shard, and the histories of its rooms: if it is opened again, they are read anew."""
        self._relay.hub.drop_idle(partial(self._is_of, number))
        del self._timelines[number]
        return self._shards.pop(number)

    def _look(self) -> None:
        """Close the shards without members."""
        now, hub = self._relay.reactor.seconds(), self._relay.hub
        used = {self._number(room) for room in hub.names if hub.member_count(room)} | {self._home}
        self._used_at.update(dict.fromkeys(used, now))
        for number, shard in tuple(self._shards.items()):
            if now - self._used_at[number] >= IDLE_SECONDS and not (shard.outbox.pending_bytes or shard.tail.is_behind):
                Deferred.fromCoroutine(self._forget(number).stop())


def shard_of(room: str, shards: int) -> int:
    """Return the number of a room's shard; the same on all nodes and in all versions."""
    return zlib.crc32(room.encode()) % shards
