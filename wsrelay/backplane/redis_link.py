"""Opening a pair of connections to the broker of a shard: resolve, connect, log in, check what answers.

Bounds: :data:`OPEN_SECONDS` for each pair that is tried, :data:`SENTINEL_SECONDS` for each Sentinel. Must not live
here: connecting again (:mod:`wsrelay.backplane.shard`), the wire (:mod:`wsrelay.backplane.redis_protocol`).
"""

import re
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from wsrelay.backplane.redis_errors import NoBroker, NotRedis, RedisError, of_failure, of_reply
from wsrelay.backplane.redis_info import Incarnation, incarnation, parse, refusal, warnings
from wsrelay.backplane.redis_protocol import Argument, RedisProtocol, Reply, check_hiredis
from wsrelay.backplane.redis_tls import client_options
from wsrelay.backplane.url import Address, Host, Password
from wsrelay.logs.failures import log_failure

__all__ = ["Incarnation", "Pair", "check", "open_pair"]

#: The maximum time for opening a pair at one address, in seconds.
OPEN_SECONDS: Final = 3.0

#: The maximum time that one Sentinel may take, in seconds.
SENTINEL_SECONDS: Final = 1.0

#: How many nodes of a cluster are tried: one more MOVED means that slots are moving just now.
_NODES: Final = 3

#: Replies to PING from Redis that wants a login first, or cannot serve now: then INFO says more.
_BEFORE_LOGIN: Final = frozenset(["NOAUTH", "NOPERM", "LOADING", "MASTERDOWN", "BUSY", "MISCONF"])


@dataclass(slots=True, eq=False)
class Pair:
    """Two connections to one broker, which are used and ended together.

    Attributes:
        writer: for commands that are answered at once.
        reader: for XREAD with BLOCK.
        incarnation: of the broker.
        where: host and port, or the path of the socket; for texts.
        warnings: settings of the broker that endanger messages; each says what to do.
    """

    writer: RedisProtocol
    reader: RedisProtocol
    incarnation: Incarnation
    where: str
    warnings: tuple[str, ...] = ()

    def abort(self) -> None:
        """End both connections now."""
        self.writer.abort()
        self.reader.abort()


def check(address: Address) -> None:
    """Check what needs no broker: hiredis, and the files of ``ca=``, ``cert=`` and ``key=``.

    Raises:
        ValueError: says what is missing.
    """
    check_hiredis()
    if address.is_tls:
        client_options(address, "localhost")


def open_pair(
    reactor: IReactorTime, address: Address, password: Password | None, name: str, shard: int = 0
) -> Deferred[Pair]:
    """Open the connections of a shard.

    Args:
        reactor: also resolves names and connects.
        address: the broker, or the Sentinels that know it.
        password: for AUTH at broker and Sentinels; ``None``: a user without a password.
        name: of this node, for CLIENT LIST: connections are called ``wsrelay-NAME``.
        shard: its number.

    Returns:
        The pair. Cancelling it ends all connections.

    Raises:
        NoBroker: says what to do; nothing is left open.
    """
    return Deferred.fromCoroutine(_Opening(reactor, address, password, name, shard).open())


class _Moved(Exception):
    """The shard is on another node of the cluster."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.host = host


_Result = TypeVar("_Result")

#: An address, or the path of a unix socket.
_Place = Host | str


class _Opening:
    """One call of :func:`open_pair`; see there."""

    def __init__(
        self, reactor: IReactorTime, address: Address, password: Password | None, name: str, shard: int
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._password = password
        self._name = name
        self._shard = shard

    async def open(self) -> Pair:
        """Open the pair."""
        if self._address.master:
            return await self._by_sentinels()
        return await self._pair(self._address.path or self._address.host(self._shard))

    async def _by_sentinels(self) -> Pair:
        """Ask each Sentinel in turn: one that is cut off from the others may name an old master."""
        problems: list[NoBroker] = []
        brokers: dict[Host, NoBroker] = {}
        for sentinel in self._address.hosts:
            try:
                broker = await self._in_time(self._ask_sentinel(sentinel), SENTINEL_SECONDS, f"Sentinel {sentinel}")
            except NoBroker as problem:
                problems.append(problem)
                continue
            try:
                if broker not in brokers:
                    return await self._pair(broker)
            except NoBroker as problem:
                brokers[broker] = problem
        if brokers:
            raise list(brokers.values())[-1]
        text = "; ".join(problem.text for problem in problems)
        raise NoBroker("sentinel", f"no Sentinel knows where {self._address.master} is: {text}")

    async def _ask_sentinel(self, sentinel: Host) -> Host:
        where = f"Sentinel {sentinel}"
        connection = await self._connect(sentinel)
        try:
            await self._introduce(connection, where, always=False)
            (reply,) = await _ask(connection, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.master))
        finally:
            connection.abort()
        if isinstance(reply, RedisError):
            raise of_reply(reply, where)
        if reply is None:
            raise NoBroker("sentinel", f"{where}: it knows no master of this name: see SENTINEL MASTERS there")
        return _host(reply)

    async def _pair(self, place: _Place) -> Pair:
        for _ in range(_NODES):
            try:
                return await self._in_time(self._open_both(place), OPEN_SECONDS, str(place))
            except _Moved as moved:
                place = moved.host
        raise NoBroker("moved", f"{place}: the shard is moving between nodes of the cluster: wait")

    async def _in_time(
        self, steps: Coroutine[Deferred[object], object, _Result], seconds: float, where: str
    ) -> _Result:
        """Await steps, and let them fail with nothing but NoBroker, _Moved and CancelledError."""
        opened = Deferred.fromCoroutine(steps)
        timer = self._reactor.callLater(seconds, opened.cancel)
        try:
            return await opened
        except (NoBroker, _Moved):
            raise
        except Exception as error:  # noqa: BLE001 - endpoints may fail in any way
            if not timer.active():
                raise of_failure(Failure(defer.TimeoutError(f"{seconds:g} s")), where) from None
            if isinstance(error, (CancelledError, ConnectingCancelledError)):
                raise CancelledError from None
            raise _problem(Failure(), where) from None
        finally:
            if timer.active():
                timer.cancel()

    async def _open_both(self, place: _Place) -> Pair:
        opened: list[RedisProtocol] = []
        try:
            return await self._both(place, opened)
        except BaseException:
            for connection in opened:
                connection.abort()
            raise

    async def _both(self, place: _Place, opened: list[RedisProtocol]) -> Pair:
        where = str(place)
        facts = [await self._one(place, opened) for _ in range(2)]
        writer, reader = opened
        if writer.ended is not None:
            raise of_failure(writer.ended, where)
        incarnations = [incarnation(each) for each in facts]
        if incarnations[0] != incarnations[1]:
            text = "its two connections reached different servers: name one server, no load balancer"
            raise NoBroker("servers", f"{where}: {text}")
        return Pair(writer, reader, incarnations[0], where, warnings(facts[0]))

    async def _one(self, place: _Place, opened: list[RedisProtocol]) -> dict[str, str]:
        connection = await self._connect(place)
        opened.append(connection)
        await self._introduce(connection, str(place), always=True)
        return await self._examine(connection, place)

    async def _connect(self, place: _Place) -> RedisProtocol:
        return cast("RedisProtocol", await self._endpoint(place).connect(_Connections.forProtocol(RedisProtocol)))

    def _endpoint(self, place: _Place) -> IStreamClientEndpoint:
        if isinstance(place, str):
            return UNIXClientEndpoint(self._reactor, place)
        plain = HostnameEndpoint(self._reactor, place.name, place.port)
        if not self._address.is_tls:
            return plain
        try:
            return wrapClientTLS(client_options(self._address, place.name), plain)
        except ValueError as error:
            raise NoBroker("tls", str(error)) from None

    async def _introduce(self, connection: RedisProtocol, where: str, *, always: bool) -> None:
        """Log in, once the peer has shown that it is Redis: the password must not be sent to anything else.

        Args:
            connection: a new one.
            where: for texts.
            always: log in, whether or not the peer wants a password.
        """
        (reply,) = await _ask(connection, ("PING",))
        if isinstance(reply, RedisError) and reply.code not in _BEFORE_LOGIN:
            raise of_reply(reply, where)
        if not isinstance(reply, RedisError) and reply != b"PONG":
            raise NotRedis("no answer to PING")
        if (self._password or self._address.user) and (always or isinstance(reply, RedisError)):
            answer = await _login(connection, self._address.user, self._password or Password(b""))
            if isinstance(answer, RedisError):
                raise of_reply(answer, where)

    async def _examine(self, connection: RedisProtocol, place: _Place) -> dict[str, str]:
        """Give the connection its name and database, and check whether the broker can serve; return INFO's fields."""
        where = str(place)
        commands: list[tuple[Argument, ...]] = [
            # Conveniences: an ACL, or an old version, may refuse these two.
            ("CLIENT", "SETNAME", f"wsrelay-{re.sub('[^!-~]', '_', self._name)}"),
            ("CLIENT", "NO-EVICT", "on"),
            ("INFO",),
            # An empty range: shows the right to read, and which node of a cluster has the key.
            ("XRANGE", self._address.stream(self._shard), "1-0", "0-1", "COUNT", 1),
        ]
        if self._address.database:
            commands.insert(3, ("SELECT", self._address.database))
        _, _, info, *others = await _ask(connection, *commands)
        if isinstance(info, RedisError):
            raise of_reply(info, where)
        if not isinstance(info, bytes):
            raise NotRedis("no answer to INFO")
        facts = parse(info)
        errors = [reply for reply in others if isinstance(reply, RedisError)]
        for error in errors:
            if error.code == "MOVED":
                raise _Moved(_moved_to(error, place))
        if problem := refusal(facts, where):
            raise problem
        if errors:
            raise of_reply(errors[0], where)
        return facts


class _Connections(Factory):
    """Makes connections; Twisted's own logs two lines for each."""

    noisy = False


def _ask(connection: RedisProtocol, *commands: tuple[Argument, ...]) -> Deferred[list[Reply]]:
    """Send commands, and return their replies, in order; an errback with the reason if the connection ends."""
    asked: Deferred[list[Reply]] = Deferred()
    replies: list[Reply] = []

    def take(reply: Reply) -> None:
        replies.append(reply)
        if len(replies) == len(commands):
            connection.lost = _ignore
            asked.callback(replies)

    connection.lost = asked.errback
    for command in commands:
        connection.command(take, *command)
    return asked


def _login(connection: RedisProtocol, user: str, password: Password) -> Deferred[Reply]:
    """Send AUTH and return the reply. See :func:`_ask`."""
    asked: Deferred[Reply] = Deferred()

    def take(reply: Reply) -> None:
        connection.lost = _ignore
        asked.callback(reply)

    connection.lost = asked.errback
    connection.login(take, user, password)
    return asked


def _ignore(reason: Failure) -> None:
    """Do nothing: the protocol's ``ended`` has the reason."""


def _host(reply: Reply) -> Host:
    """Read a Sentinel's reply: name and port."""
    try:
        name, port = cast("list[bytes]", reply)
        return Host(name.decode("ascii"), int(port))
    except (TypeError, ValueError, AttributeError):
        raise NotRedis("no address in the answer of a Sentinel") from None


def _moved_to(error: RedisError, place: _Place) -> Host:
    """Read ``MOVED slot host:port``; without a host it is the same one. Source: Redis Cluster specification."""
    name, _, port = str(error).rpartition(" ")[2].rpartition(":")
    if name in ("", "?") and isinstance(place, Host):
        name = place.name
    if not name or not port.isdecimal():
        raise NotRedis("no address in MOVED")
    return Host(name, int(port))


def _problem(failure: Failure, where: str) -> NoBroker:
    problem = of_failure(failure, where)
    if problem.reason == "error":
        log_failure(f"connecting to {where}", failure)
    return problem
