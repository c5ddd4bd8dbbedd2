"""One connection to Redis: commands out, replies to their callbacks in order. Parser and packer are hiredis'.

Must not live here: which commands, timeouts, connecting again (:mod:`wsrelay.backplane.redis_link`,
:mod:`wsrelay.backplane.shard`).
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Final, TypeAlias, TypeGuard, cast

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import ITCPTransport, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from wsrelay.backplane.redis_errors import NotRedis, RedisError, redacted
from wsrelay.backplane.url import Password
from wsrelay.net.accepts import Accepted

__all__ = ["Argument", "RedisProtocol", "Reply", "check_hiredis"]

#: A part of a command, without ``None``; text is sent as UTF-8.
Argument: TypeAlias = str | bytes | int | float

#: A reply in RESP2: strings are bytes, and null is ``None``. Source: redis.io, "Redis serialization protocol".
Reply: TypeAlias = "bytes | int | RedisError | list[Reply] | None"

#: What the parser returns instead of an incomplete reply; its own default is ``False``.
_INCOMPLETE: Final = object()


def check_hiredis() -> None:
    """Check that hiredis is installed.

    Raises:
        ValueError: it is not; the text says how to install it.
    """
    try:
        import_module("hiredis")
    except ImportError:
        raise ValueError("hiredis is not installed: pip install 'wsrelay[redis]'") from None


class RedisProtocol(Protocol):
    """A connection. Its owner aborts it where a reply does not come in time.

    Attributes:
        lost: called once with the reason when the connection has ended, but not by :meth:`abort`; the owner sets it.
        ended: why the connection has ended; ``None`` while it has not.
    """

    lost: Callable[[Failure], None]
    ended: Failure | None = None

    def __init__(self) -> None:
        from hiredis import Reader, pack_command  # noqa: PLC0415 - an extra: see check_hiredis

        self.lost = _ignore
        self._reader = Reader(protocolError=NotRedis, replyError=RedisError, notEnoughData=_INCOMPLETE)
        self._pack = cast("Callable[[tuple[Argument, ...]], bytes]", pack_command)  # its annotation is a 1-tuple
        self._waiting: deque[Callable[[Reply], None]] = deque()

    def connectionMade(self) -> None:
        """Set TCP's options."""
        transport = cast("ITransport", self.transport)
        self._write = transport.write
        if _is_plain(transport):
            self._write = partial(_send, transport)
            transport.protocol = self  # past the wrapper of endpoints
            vars(transport)["doRead"] = partial(Accepted.doRead, cast("Accepted", transport))  # 10 µs less (TRAPS 157)
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)  # else the next entry waits for the delayed ACK of the last (TRAPS 1)
            transport.setTcpKeepAlive(True)

    def command(self, callback: Callable[[Reply], None], *arguments: Argument) -> None:
        """Send a command. Nothing is sent, and no callback called, after the connection has ended.

        Args:
            callback: takes the reply. An error reply is a :class:`RedisError`, also within a list: test each.
            arguments: the command's words.
        """
        if self.ended is None:
            packed = self._pack(arguments)
            self._waiting.append(callback)
            self._write(packed)

    def login(self, callback: Callable[[Reply], None], user: str, password: Password) -> None:
        """Send AUTH; the password is revealed here only. See :meth:`command`.

        Args:
            callback: takes the reply; an error is :func:`~wsrelay.backplane.redis_errors.redacted`.
            user: empty for the default user.
            password: the password.
        """
        if self.ended is None:
            self._waiting.append(lambda reply: callback(redacted(reply) if isinstance(reply, RedisError) else reply))
            self._write(self._pack(("AUTH", *([user] if user else []), password.reveal())))

    def dataReceived(self, data: bytes) -> None:
        """Call the callbacks of complete replies. Anything but RESP ends the connection with :class:`NotRedis`."""
        if self.ended is not None:
            return
        try:
            self._reader.feed(data)
            self._answer()
        except NotRedis:
            self._end(Failure())
            self._abort()

    def _answer(self) -> None:
        reader, waiting = self._reader, self._waiting
        while self.ended is None and (reply := reader.gets()) is not _INCOMPLETE:
            if not waiting:
                raise NotRedis("a reply without a command")
            waiting.popleft()(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report the end."""
        self._end(reason)

    def abort(self) -> None:
        """End the connection now: no callback is called any more, nor :attr:`lost`."""
        if self.ended is None:
            self.lost = _ignore
            self._end(Failure(ConnectionAborted()))
            self._abort()

    def _end(self, reason: Failure) -> None:
        if self.ended is None:
            self.ended = reason
            self._waiting.clear()
            self.lost(reason)

    def _abort(self) -> None:
        cast("ITCPTransport", self.transport).abortConnection()


def _is_plain(transport: object) -> TypeGuard[Connection]:
    """Return whether bytes may be given to its socket: TCP or a unix socket, without TLS."""
    return isinstance(transport, Connection) and not transport.TLS


def _send(transport: Connection, data: bytes) -> None:
    """Send at once, as far as the socket takes it, unless bytes wait.

    ``transport.write`` only queues, at the cost of two ``epoll_ctl`` and another turn of the reactor (TRAPS 2).
    """
    if not transport.dataBuffer and not transport._tempDataLen:
        with suppress(OSError):  # BlockingIOError; any other one ends the transport at its next write
            data = data[transport.socket.send(data) :]
    if data:
        transport.write(data)


def _ignore(reason: Failure) -> None:
    """Do nothing; :attr:`RedisProtocol.ended` has the reason."""
