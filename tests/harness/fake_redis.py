"""Redis in memory: the commands that the relay uses, on the real wire, with the faults that a test sets.

A :class:`FakeRedis` is one of the ``pumps`` of :class:`tests.harness.support.Relay`, so that ``settle`` moves its
bytes, too. It takes the connections that the relays' reactor in memory opens to its port.
``tests/harness/test_fake_redis.py`` compares it with a real ``redis-server``.

Must not live here: real brokers (:mod:`tests.harness.broker`), scripted replies (:mod:`tests.backplane.brokers`).
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hiredis
from twisted.internet import error
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test.iosim import IOPump, connect

from tests.harness.support import Transport

__all__ = ["EPOCH_MS", "Error", "FakeRedis", "Id", "Stream"]

#: The broker's clock at the reactor's second 0.
EPOCH_MS = 1_700_000_000_000


class Id(NamedTuple):
    """The id of an entry; not the relay's own class, so that a mistake there shows here."""

    ms: int
    number: int

    @classmethod
    def parse(cls, text: bytes, number: int = 0) -> "Id":
        """Read ``5-1`` or ``5``, and the two ends of a stream."""
        if text in (b"-", b"+"):
            return cls(0, 0) if text == b"-" else cls(2**63, 0)
        first, _, second = text.partition(b"-")
        return cls(int(first), int(second or number))

    def __bytes__(self) -> bytes:
        return b"%d-%d" % self


class Status(bytes):
    """A reply without length, such as ``+OK``."""


class Error(Exception):
    """An error reply."""


class Blocked(Exception):
    """The connection waits."""


def encode(reply: Any) -> bytes:
    """Return a reply as RESP2."""
    if reply is None:
        return b"*-1\r\n"
    if isinstance(reply, Error):
        return b"-%s\r\n" % str(reply).encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, (list, tuple)) and not isinstance(reply, Id):
        return b"*%d\r\n%s" % (len(reply), b"".join(map(encode, reply)))
    if isinstance(reply, Status):
        return b"+%s\r\n" % reply
    return b"$%d\r\n%s\r\n" % (len(bytes(reply)), bytes(reply))


class Stream:
    """A stream.

    Attributes:
        entries: id and fields.
        last: the last id given; trimming does not change it, a loss does.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[Id, list[bytes]]] = []
        self.last = Id(0, 0)

    def add(self, fields: Sequence[bytes], ms: int) -> Id:
        """Append an entry; ids ascend, also where the clock does not."""
        self.last = Id(ms, 0) if ms > self.last.ms else Id(self.last.ms, self.last.number + 1)
        self.entries.append((self.last, list(fields)))
        return self.last

    def lose(self, count: int | None) -> None:
        """Forget the newest entries; ``None``: all."""
        del self.entries[len(self.entries) - count if count is not None else 0 :]
        self.last = self.entries[-1][0] if self.entries else Id(0, 0)


class Connection(Protocol):
    """The broker's end of a connection.

    Attributes:
        name: given by CLIENT SETNAME.
        waiting: commands that are not executed yet.
        ended: whether the other end is gone.
        dead: whether the process is gone that had this connection; what is still on its way is lost.
    """

    def __init__(self, broker: "FakeRedis") -> None:
        self.broker = broker
        self.name = b""
        self.is_in = not broker.password
        self.ended = self.dead = False
        self.waiting: deque[list[bytes]] = deque()
        #: Retries an XREAD, and ends its wait.
        self.blocked: tuple[Callable[[], Any], IDelayedCall] | None = None
        self._reader = hiredis.Reader()

    def dataReceived(self, data: bytes) -> None:
        """Take commands."""
        if self.dead:
            return
        self._reader.feed(data)
        while (words := self._reader.gets()) is not False:
            self.waiting.append(words)
        self.serve()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """What was sent before is executed all the same, once the broker goes on."""
        self.ended = True
        self._unblock()

    def serve(self) -> None:
        """Execute the commands that can be executed now."""
        while self.waiting and self.blocked is None and not self.broker.is_silent:
            try:
                reply = self.broker.execute(self, self.waiting.popleft())
            except Error as refusal:
                reply = refusal
            except Blocked:
                continue
            self.reply(reply)

    def reply(self, reply: Any) -> None:
        """Answer, if there is a peer left."""
        if not self.ended:
            self.transport.write(encode(reply))

    def block(self, read: Callable[[], Any], ms: int) -> None:
        """Answer as soon as there is something to read, or with nothing after a time."""
        self.blocked = read, self.broker.clock.callLater(ms / 1000, self._nothing)
        raise Blocked

    def _nothing(self) -> None:
        if not self.broker.is_silent:  # else when it goes on
            self.wake()

    def wake(self) -> None:
        """Answer a blocked XREAD, if there is something to read, or its time is over."""
        if self.blocked is None or self.broker.is_silent:
            return
        read, timer = self.blocked
        found = read()
        if found is None and timer.active():
            return
        self._unblock()
        self.reply(found)
        self.serve()

    def _unblock(self) -> None:
        if self.blocked is not None and self.blocked[1].active():
            self.blocked[1].cancel()
        self.blocked = None


class FakeRedis:
    """A broker.

    Args:
        clock: of the relays.
        port: on any host.
        password: for AUTH; empty: none is wanted.

    Attributes:
        streams, hashes: the data, by key.
        info: fields of INFO.
        received: all commands executed, as lists of words.
        connections: those that are open, or were cut with commands left.
        is_silent: nothing is answered; set by :meth:`pause`.
        is_down: connections are refused.
        is_deaf: connecting takes for ever.
        refusals: command → the error reply to it.
        answers: command → what is called instead, with the connection and the arguments.
        ahead_ms: of its clock, against the relays'.
    """

    def __init__(self, clock: MemoryReactorClock, port: int = 6379, password: bytes = b"") -> None:
        self.clock = clock
        self.port = port
        self.password = password
        self.streams: defaultdict[bytes, Stream] = defaultdict(Stream)
        self.hashes: defaultdict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        self.info = {"redis_version": "7.0.15", "role": "master", "loading": "0", "run_id": "r1", "master_replid": "m1"}
        self.received: list[list[bytes]] = []
        self.connections: list[Connection] = []
        self.is_silent = self.is_down = self.is_deaf = False
        self.refusals: dict[str, str] = {}
        self.answers: dict[str, Callable[..., Any]] = {}
        self.ahead_ms = 0
        self._incarnations = 1
        self._pumps: list[IOPump] = []

    # --- for tests ----------------------------------------------------------------------------------

    def cut(self) -> None:
        """End all connections."""
        for connection in self.connections:
            if not connection.ended:
                connection.transport.loseConnection()

    def pause(self) -> None:
        """Stop to execute; connections stay, and new ones are taken."""
        self.is_silent = True

    def resume(self) -> None:
        """Execute what has come meanwhile, commands of connections that have ended included."""
        self.is_silent = False
        for connection in tuple(self.connections):
            connection.serve()
            connection.wake()

    def swallow(self, command: str) -> None:
        """Execute commands of a kind, but do not reply to them, nor to what comes behind them."""
        method = getattr(self, f"_{command.lower()}")

        def executed(connection: Connection, *arguments: bytes) -> Any:
            method(connection, *arguments)
            return connection.block(lambda: None, 10**9)

        self.answers[command] = executed

    def blind(self) -> None:
        """Answer each XREAD that there is nothing new, as a server that lacks the entries does."""
        self.answers["XREAD"] = lambda connection, *_: connection.block(lambda: None, 1000)

    def add(self, entry: Sequence[Any], shard: int = 0) -> bytes:
        """Append an entry, as another node does, and return its id."""
        fields = [field if isinstance(field, bytes) else str(field).encode() for field in entry]
        added: bytes = self._xadd(None, f"wsrelay:{{{shard}}}:log".encode(), b"*", *fields)
        return added

    def lose(self, count: int | None = None) -> None:
        """Forget the newest entries of each stream; ``None``: all data."""
        for stream in self.streams.values():
            stream.lose(count)
        if count is None:
            self.hashes.clear()

    def restart(self, lose: int | None = 0) -> None:
        """Become another incarnation, which lacks the newest entries (``None``: all) and what was not executed."""
        self.cut()
        for connection in self.connections:
            connection.waiting.clear()
            connection.dead = True
        self.lose(lose)
        self._incarnations += 1
        self.info |= {"run_id": f"r{self._incarnations}", "master_replid": f"m{self._incarnations}"}
        self.is_silent = False

    def log(self, shard: int = 0, prefix: str = "wsrelay") -> Stream:
        """Return the stream of a shard."""
        return self.streams[f"{prefix}:{{{shard}}}:log".encode()]

    def words(self, command: str) -> list[list[bytes]]:
        """Return the arguments of all commands of one kind."""
        return [words[1:] for words in self.received if words[0] == command.encode()]

    @property
    def open(self) -> int:
        """The number of open connections."""
        return sum(not connection.ended for connection in self.connections)

    # --- the network --------------------------------------------------------------------------------

    def pump(self, advanceClock: bool = True) -> bool:
        """Accept connections and move bytes once; return whether something happened."""
        moved = self._accept()
        for pump in tuple(self._pumps):
            moved = pump.pump(advanceClock=False) or moved
            if pump.serverIO.disconnected and pump.clientIO.disconnected:
                self._pumps.remove(pump)
        self.connections = [one for one in self.connections if one.waiting or not one.ended]
        return moved

    def _accept(self) -> bool:
        mine = [client for client in self.clock.tcpClients if client[1] == self.port]
        for client in mine:
            self.clock.tcpClients.remove(client)
            factory = client[2]
            if self.is_down:
                factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
            elif not self.is_deaf:
                protocol, connection = factory.buildProtocol(None), Connection(self)
                self.connections.append(connection)
                ends = Transport(connection, isServer=True), Transport(protocol, isServer=False)
                self._pumps.append(connect(connection, ends[0], protocol, ends[1], greet=False, clock=self.clock))
        return bool(mine)

    # --- the commands -------------------------------------------------------------------------------

    def execute(self, connection: Connection, words: list[bytes]) -> Any:
        """Execute a command, and return its reply.

        Raises:
            Error: it is refused.
            Blocked: the reply comes later.
        """
        self.received.append(words)
        name, *arguments = words
        command = name.decode().upper()
        if command in self.refusals:
            raise Error(self.refusals[command])
        if not connection.is_in and command != "AUTH":
            raise Error("NOAUTH Authentication required.")
        method = self.answers.get(command) or getattr(self, f"_{command.lower()}", None)
        if method is None:
            raise Error(f"ERR unknown command '{command}', with args beginning with: ")
        return method(connection, *arguments)

    def _ping(self, _: Connection) -> Any:
        return Status(b"PONG")

    def _auth(self, connection: Connection, *words: bytes) -> Any:
        connection.is_in = words[-1] == self.password
        if not connection.is_in:
            raise Error("WRONGPASS invalid username-password pair or user is disabled.")
        return Status(b"OK")

    def _select(self, _: Connection, number: bytes) -> Any:
        return Status(b"OK")

    def _client(self, connection: Connection, what: bytes, *arguments: bytes) -> Any:
        if what.upper() == b"SETNAME":
            (connection.name,) = arguments
        return Status(b"OK")

    def _info(self, _: Connection) -> Any:
        return "".join(["# Server\r\n", *(f"{name}:{value}\r\n" for name, value in self.info.items())]).encode()

    def _xadd(self, _: Connection | None, key: bytes, star: bytes, *fields: bytes) -> Any:
        if star != b"*" or not fields or len(fields) % 2:
            raise Error("ERR wrong number of arguments for 'xadd' command")
        ms = EPOCH_MS + round(self.clock.seconds() * 1000) + self.ahead_ms
        added = self.streams[key].add(fields, ms)
        for other in tuple(self.connections):
            other.wake()
        return bytes(added)

    def _xread(self, connection: Connection, *words: bytes) -> Any:
        options = {words[at].upper(): words[at + 1] for at in range(0, len(words) - 3, 2)}
        streams, key, after = words[-3:]
        if streams.upper() != b"STREAMS" or set(options) != {b"COUNT", b"BLOCK"}:
            raise Error("ERR syntax error")

        def read() -> Any:
            found = [one for one in self.streams[key].entries if one[0] > Id.parse(after)][: int(options[b"COUNT"])]
            return [[key, found]] if found else None

        found = read()
        return connection.block(read, int(options[b"BLOCK"])) if found is None else found

    def _xrange(self, _: Connection, key: bytes, first: bytes, last: bytes, *count: bytes) -> Any:
        found = [one for one in self.streams[key].entries if Id.parse(first) <= one[0] <= Id.parse(last, 2**63)]
        return found[: int(count[1])] if count else found

    def _xrevrange(self, connection: Connection, key: bytes, last: bytes, first: bytes, *count: bytes) -> Any:
        found = self._xrange(connection, key, first, last)[::-1]
        return found[: int(count[1])] if count else found

    def _xtrim(self, _: Connection, key: bytes, by: bytes, about: bytes, least: bytes) -> Any:
        """``~`` trims whole blocks in Redis; here it is exact."""
        if (by.upper(), about) != (b"MINID", b"~"):
            raise Error("ERR syntax error")
        entries = self.streams[key].entries
        kept = [one for one in entries if one[0] >= Id.parse(least)]
        self.streams[key].entries = kept
        return len(entries) - len(kept)

    def _hset(self, _: Connection, key: bytes, name: bytes, value: bytes) -> Any:
        is_new = name not in self.hashes[key]
        self.hashes[key][name] = value
        return int(is_new)

    def _hgetall(self, _: Connection, key: bytes) -> Any:
        return [word for pair in self.hashes[key].items() for word in pair]

    def _hdel(self, _: Connection, key: bytes, name: bytes) -> Any:
        return int(self.hashes[key].pop(name, None) is not None)
