"""A WebSocket client that says what it is told to, also what no client may say, and reports what it hears.

Must not live here: how it comes into a room (:mod:`wsrelay.selftest.lab`).
"""

import itertools
from collections import deque
from collections.abc import Callable
from typing import Final

from wsrelay.selftest.connection import Connection
from wsrelay.selftest.frames import FIN, PING, PONG, Close, Message, Ping, Pong, close_frame, masked, message
from wsrelay.selftest.outcome import BrokenRule, Ended, TooMuch
from wsrelay.selftest.reader import Event, Reader

__all__ = ["Member"]

_NUMBERS: Final = itertools.count()


class Member:
    """A client in a room. It answers pings, also while nothing is awaited, but not while it is held.

    Args:
        connection: behind the 101.
        reader: has what came behind the 101.
        on_end: called once with how the server has ended it, unless this client has begun it: the close frame, or
            ``None``.

    Attributes:
        who: its name, for texts.
        close: the server's close frame.
        has_ended: whether the server has closed it, or TCP has ended.
    """

    def __init__(self, connection: Connection, reader: Reader, on_end: Callable[[Close | None], object]) -> None:
        self.who = connection.who
        self.close: Close | None = None
        self.has_ended = False
        self._connection = connection
        self._reader = reader
        self._events: deque[Event | BrokenRule | TooMuch] = deque()
        self._on_end = on_end
        self._has_closed = False
        connection.take = self._take
        self._take(b"")

    def say(self, payload: str | bytes) -> None:
        """Send a message: text of a ``str``, else binary."""
        self.send(message(payload))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._connection.write(data)

    def ping(self) -> bytes:
        """Send a ping; return its payload, which no other has."""
        payload = b"selftest %d" % next(_NUMBERS)
        self.send(masked(FIN | PING, payload))
        return payload

    def begin_close(self, code: int | None = None, reason: bytes = b"") -> None:
        """Send a close frame."""
        self._has_closed = True
        self.send(close_frame(code, reason))

    async def event(self) -> Event:
        """Return what comes next. A ping was answered; a close is, now.

        Raises:
            Ended: TCP has ended.
            Silence: nothing came for too long.
            BrokenRule: the server broke a rule.
        """
        while not self._events:
            data = await self._connection.read()
            if not data:
                self._end(None)
                raise Ended(self.who, self.close)
            self._take(data)
        event = self._events[0]
        if isinstance(event, BrokenRule | TooMuch):  # stays: nothing can be read behind it
            raise event
        del self._events[0]
        if isinstance(event, Close):
            self.close = event
            self._end(event)
        return event

    def _take(self, data: bytes) -> None:
        """Read what has come, and answer pings."""
        self._reader.feed(data)
        try:
            while (event := self._reader.next()) is not None:
                if isinstance(event, Ping):
                    self.send(masked(FIN | PONG, event.payload))
                self._events.append(event)
        except (BrokenRule, TooMuch) as error:
            self._events.append(type(error)(f"the {self.who} got {error}"))

    def _end(self, close: Close | None) -> None:
        """Report the end if the server has begun it, and answer its close frame."""
        self.has_ended = True
        if not self._has_closed:
            self._on_end(close)
            self.begin_close(None if close is None else close.code)

    async def hear(self) -> Message:
        """Return the next message.

        Raises:
            Ended: the server has closed, or TCP has ended.
            Silence: none came for too long.
            BrokenRule: the server broke a rule.
        """
        while not isinstance(event := await self.event(), Message):
            if isinstance(event, Close):
                raise Ended(self.who, event)
        return event

    async def hear_until(self, payload: str | bytes) -> list[Message]:
        """Return the messages before the one with this payload. Errors are those of :meth:`hear`."""
        wanted = payload.encode() if isinstance(payload, str) else payload
        before: list[Message] = []
        while (heard := await self.hear()).payload != wanted:
            before.append(heard)
        return before

    async def pong(self, payload: bytes) -> list[Message]:
        """Return the messages before the pong with this payload. Errors are those of :meth:`hear`."""
        before: list[Message] = []
        while (event := await self.event()) != Pong(payload):
            if isinstance(event, Close):
                raise Ended(self.who, event)
            if isinstance(event, Message):
                before.append(event)
        return before

    async def end(self) -> Close | None:
        """Wait for the end of TCP; return the server's close frame, ``None`` if there was none.

        Raises:
            Silence: it does not end.
            BrokenRule: the server broke a rule.
        """
        try:
            while True:
                await self.event()
        except Ended as ended:
            return ended.close

    async def drain(self) -> None:
        """Hear, and forget, until the end. Raises what :meth:`event` raises."""
        while True:
            await self.event()

    def hold(self) -> None:
        """Read nothing until something is awaited."""
        self._connection.hold()

    def abort(self) -> None:
        """End TCP at once."""
        self._has_closed = True
        self._connection.abort()
