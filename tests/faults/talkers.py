"""Clients in rooms of several relays that publish numbered messages at a fixed rate, and account for each one.

:class:`Talk` is all of them. The accounts, and what is wrong in them, are :mod:`tests.faults.accounts`.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from tests.faults.accounts import Account, Close, Report, audit, complete, endings
from tests.harness.background import Background
from tests.harness.clients import handshake
from tests.harness.live import SECONDS, until

#: Rooms of each talk.
ROOMS: Final = 5

#: Seconds between two turns in which due messages are sent.
_TURN_SECONDS: Final = 0.01

_TALKS: Final = itertools.count(1)


class Talker(asyncio.Protocol):
    """A client on one connection.

    Args:
        room: its room.
        account: its account.
        filler: the end of each of its messages.
        node: the number of its relay.

    Attributes:
        opened: the status of the answer to its handshake, when it comes.
    """

    def __init__(self, room: str, account: Account, filler: bytes, node: int) -> None:
        self.room = room
        self.node = node
        self.account = account
        self.opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._filler = filler
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(handshake(f"/{self.room}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self.account.close is None:
            self.account.close = (None, "")
        if not self.opened.done():
            self.opened.set_result(0)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.opened.done():
            self._read_head()
        if self.opened.done():
            self._read_frames()

    def say(self) -> None:
        """Send the next message, masked with zeros. Does nothing on a closed connection."""
        if self.account.close is None and self._transport is not None:
            self.account.sent += 1
            payload = b"%s %s %d %s" % (
                *map(str.encode, (self.room, self.account.name)),
                self.account.sent,
                self._filler,
            )
            length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
            self._transport.write(b"\x82" + length + bytes(4) + payload)

    def hang_up(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self) -> None:
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if found:
            self._data = rest
            self.opened.set_result(int(head[9:12]))

    def _read_frames(self) -> None:
        data, at = self._data, 0
        while len(data) >= at + 2:
            start, length = at + 2, data[at + 1]
            if length == 126:
                start, length = at + 4, int.from_bytes(data[at + 2 : at + 4])
            assert length != 127, "no such long frames here"
            if len(data) < start + length:
                break
            self._read_frame(data[at] & 15, data[start : start + length])
            at = start + length
        self._data = data[at:]

    def _read_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 2:
            self._receive(payload)
        elif opcode == 8:
            self._end((int.from_bytes(payload[:2]), payload[2:].decode()))
        elif opcode == 9 and self._transport is not None:
            self._transport.write(bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload)

    def _receive(self, payload: bytes) -> None:
        room, name, number, filler = payload.split(b" ", 3)
        if room.decode() != self.room or filler != self._filler:
            self.account.strange += 1
        self.account.receive(name.decode(), int(number))

    def _end(self, close: Close) -> None:
        self.account.close = close
        assert self._transport is not None
        self._transport.write(bytes([0x88, 0x80 | 2]) + bytes(4) + (close[0] or 1005).to_bytes(2))
        self._transport.close()


class Talk:
    """Clients in five rooms, some on each relay; each room has the same clients on each relay.

    A context manager: entering connects all and begins to publish, leaving resets all connections.

    Args:
        background: their loop.
        ports: of the relays.
        per_second: messages per second that are published on each relay.
        publishers: in each room, on each relay.
        listeners: besides them.
        filler_bytes: the length of the end of each message.
        echo: whether the relays echo.

    Attributes:
        late: statuses of the handshakes of :meth:`join`.
    """

    def __init__(
        self,
        background: Background,
        ports: Sequence[int],
        per_second: int = 500,
        publishers: int = 2,
        listeners: int = 1,
        filler_bytes: int = 16,
        rooms: Sequence[str] | None = None,
        *,
        echo: bool = False,
    ) -> None:
        number = next(_TALKS)
        self._background = background
        self._ports = list(ports)
        self._per_second = per_second
        self._publishers = publishers
        self._listeners = listeners
        self._filler = b"x" * filler_bytes
        self._echo = echo
        self._names = itertools.count(1)
        self._rooms = rooms or [f"talk{number}/{room}" for room in range(ROOMS)]
        self._talkers: list[Talker] = []
        self._speakers: list[list[Talker]] = [[] for _ in ports]
        self._speaking: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Connect all; then publish."""
        try:
            self._background.run(self._connect_all())
        except BaseException:
            self._background.run(self._close())
            raise
        self.speak()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._background.run(self._close())

    def select(self, of: Callable[[Talker], bool]) -> list[Account]:
        """Return the accounts of some clients."""
        return [one.account for one in self._talkers if of(one)]

    def speak(self) -> None:
        """Publish until :meth:`pause`."""
        self._speaking = self._background.call(lambda: asyncio.ensure_future(self._speak()))

    def pause(self) -> None:
        """Publish nothing."""
        self._background.run(self._pause())

    def wait(self, messages: int = 250) -> None:
        """Wait until this many more messages per relay are sent."""
        goal = self._sent() + messages * len(self._speakers)
        until(lambda: self._sent() >= goal or all(one.account.close for one in self._talkers))

    def join(self) -> None:
        """Let one more listener per room join on each relay, while others publish."""
        self._background.run(self._join_late(range(len(self._ports))))

    def join_node(self, port: int) -> None:
        """Let a listener per room join on one more relay, while others publish."""
        self._background.run(self._join_late([len(self._ports)], port))

    def await_close(self, of: Callable[[Talker], bool] = lambda _: True) -> None:
        """Wait until the connections of some clients have ended, by default of all."""
        until(lambda: all(one.close for one in self.select(of)))

    def finish(self, *, one_order: bool = True) -> Report:
        """Stop publishing, wait until all messages have arrived, or long enough, and return what is wrong.

        All publish a last message at the end: what came late or twice would stand before it.

        Args:
            one_order: whether all clients of a room must have received its messages in one order.
        """
        self.pause()
        for _ in range(2):
            self._await_complete()
            self._background.call(self._say_all)
        self._await_complete()
        return self.audit(one_order=one_order)

    def audit(self, of: Callable[[Talker], bool] = lambda _: True, *, one_order: bool = True) -> Report:
        """Return what is wrong by now.

        Args:
            of: whether a client is audited.
            one_order: see :meth:`finish`.
        """

        def audit_room(room: str) -> Report:
            members = [one for one in self._talkers if one.room == room]
            audited = [one.account for one in members if of(one)]
            return audit([one.account for one in members], audited, echo=self._echo, one_order=one_order)

        return self._background.call(lambda: sum(map(audit_room, self._rooms), Report()))

    def endings(self, of: Callable[[Talker], bool] = lambda _: True) -> Counter[Close]:
        """Count how connections of some clients ended, by default of all; open ones are not counted."""
        return endings(self.select(of))

    def _sent(self) -> int:
        return sum(one.account.sent for one in self._talkers)

    def _say_all(self) -> None:
        for speakers in self._speakers:
            for one in speakers:
                one.say()

    def _await_complete(self) -> None:
        end = time.monotonic() + SECONDS

        def done() -> bool:
            rooms = [self.select(lambda one, room=room: one.room == room) for room in self._rooms]
            return time.monotonic() > end - 1 or all(complete(each, echo=self._echo) for each in rooms)

        until(lambda: self._background.call(done))

    async def _connect_all(self) -> None:
        for node in range(len(self._ports)):
            for room in self._rooms:
                for _ in range(self._publishers):
                    self._speakers[node].append(await self._connect(node, room))
                for _ in range(self._listeners):
                    await self._connect(node, room)

    async def _join_late(self, nodes: Sequence[int], *ports: int) -> None:
        self._ports += ports
        for node in nodes:
            for room in self._rooms:
                await self._connect(node, room, late=True)

    async def _connect(self, node: int, room: str, *, late: bool = False) -> Talker:
        account = Account(f"node{node}-{next(self._names)}", late=late)
        make: Callable[[], Talker] = lambda: Talker(room, account, self._filler, node)  # noqa: E731
        _, talker = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", self._ports[node])
        self._talkers.append(talker)
        status = await asyncio.wait_for(talker.opened, SECONDS)
        assert status == 101, f"a client was refused with {status}"
        return talker

    async def _speak(self) -> None:
        """Send what is due: a late turn sends more."""
        turns = [itertools.cycle(speakers) for speakers in self._speakers]
        begun, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begun) * self._per_second)
            for _ in range(due - sent):
                for turn in turns:
                    next(turn).say()
            sent = due
            await asyncio.sleep(_TURN_SECONDS)

    async def _pause(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            with suppress(asyncio.CancelledError):
                await self._speaking
            self._speaking = None

    async def _close(self) -> None:
        await self._pause()
        for one in self._talkers:
            one.hang_up()
