"""What a case works with: new connections to the server, each ended when the case is over.

Must not live here: cases, verdicts of cases (:mod:`wsrelay.selftest.runner`).
"""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004 - its own
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from wsrelay.closecodes import NORMAL
from wsrelay.selftest.answer import Answer, accept_of, read_answer, refusal, settled
from wsrelay.selftest.connection import Connection
from wsrelay.selftest.frames import Close
from wsrelay.selftest.member import Member
from wsrelay.selftest.outcome import BrokenRule, Ended, Outcome, Refused, TooMuch
from wsrelay.selftest.reader import Reader
from wsrelay.selftest.target import Target

__all__ = ["Bounds", "Lab"]

#: The extension, offered without context takeover by this client: it keeps no state either way (RFC 7692 section 7.1).
DEFLATE: Final = "permessage-deflate; client_no_context_takeover"

#: Between the pieces of a request.
_PIECE_SECONDS: Final = 0.05

#: Codes that answer this side's close at the end of a case.
_ANSWERS: Final = (None, NORMAL)

#: For all close handshakes at the end of a case.
_LEAVE_SECONDS: Final = 3

_KEY: Final = "Sec-WebSocket-Key"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of all cases.

    Attributes:
        seconds: for each case.
        max_message_bytes: the limit of the server on a message.
        batches: in how many parts messages come where order is tried, of 100 messages.
        stalled_bytes: what is said while one member does not read.
    """

    seconds: float = 30
    max_message_bytes: int = 2**20
    batches: int = 30
    stalled_bytes: int = 12 * 2**20

    @property
    def patience_seconds(self) -> float:
        """How long one answer may take."""
        return self.seconds / 3

    @property
    def most_bytes(self) -> int:
        """The largest message that is read: four times the limit, as no case sends more but the bomb."""
        return max(4 * self.max_message_bytes, 2**18)


@dataclass(slots=True)
class Lab:
    """The connections of one case.

    Attributes:
        endpoint: where the server is.
        target: what is asked for.
        bounds: limits.
        clock: the clock.
        ends: all ends of connections that the server has begun, of all cases: the client's name and the close frame.
        room: the path of the case's room.
    """

    endpoint: IStreamClientEndpoint
    target: Target
    bounds: Bounds
    clock: IReactorTime
    ends: list[tuple[str, Close | None]] = field(default_factory=list)
    room: str = ""
    _connections: list[Connection] = field(default_factory=list)
    _members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.room = self.target.new_room()

    async def connect(self, who: str) -> Connection:
        """Return a new connection; other errors are those of the endpoint."""
        factory = Factory.forProtocol(partial(Connection, who, self.clock, self.bounds.patience_seconds))
        connection = cast("Connection", await self.endpoint.connect(factory))
        self._connections.append(connection)
        return connection

    async def ask(self, changes: Mapping[str, str | None], method: str = "GET") -> Answer | None:
        """Send a changed handshake; return the response, ``None`` if TCP ends without one.

        Args:
            changes: see :meth:`wsrelay.selftest.target.Target.request`.
            method: the method.
        """
        connection = await self.connect("client")
        return await self._asked(connection, changes, method)

    async def _asked(
        self, connection: Connection, changes: Mapping[str, str | None], method: str = "GET"
    ) -> Answer | None:
        connection.write(self.target.request(self.room, changes, method))
        answer = await read_answer(connection)
        return answer and await settled(answer, connection)

    async def opened(self, changes: Mapping[str, str | None]) -> Answer:
        """Send a changed handshake; return the 101, unchecked.

        Raises:
            Refused: it was refused.
        """
        connection = await self.connect("client")
        answer = await self._asked(connection, changes)
        if answer is None or not answer.is_open:
            raise _refused("client", answer, connection)
        return answer

    async def join(
        self, who: str, *, room: str | None = None, is_compressed: bool = False, pieces: int = 1
    ) -> tuple[Member, Answer]:
        """Return a new member, and the 101.

        Args:
            who: its name, for texts.
            room: another room than the case's.
            is_compressed: whether it offers permessage-deflate.
            pieces: in how many parts the request is sent.

        Raises:
            Refused: the handshake was refused.
            BrokenRule: the 101 is wrong.
        """
        changes = {"Sec-WebSocket-Extensions": DEFLATE} if is_compressed else {}
        request = self.target.request(room or self.room, changes)
        connection = await self.connect(who)
        step = -(-len(request) // pieces)
        for at in range(0, len(request), step):
            connection.write(request[at : at + step])
            await self.pause(0 if pieces == 1 else _PIECE_SECONDS)
        answer = await read_answer(connection)
        if answer is None or not answer.is_open:
            raise _refused(who, answer, connection)
        _check(answer, request)
        return self._member(connection, answer), answer

    def _member(self, connection: Connection, answer: Answer) -> Member:
        is_compressed = "permessage-deflate" in answer.fields.get("sec-websocket-extensions", "").lower()
        reader = Reader(self.bounds.most_bytes, is_compressed=is_compressed)
        reader.feed(answer.rest)
        member = Member(connection, reader, lambda close: self.ends.append((connection.who, close)))
        self._members.append(member)
        return member

    async def pause(self, seconds: float) -> None:
        """Wait, so that what was written leaves before what comes next."""
        if seconds:
            await deferLater(self.clock, seconds)

    async def joined(self, *names: str) -> list[Member]:
        """Return a new member of the case's room for each name, settled."""
        members = [(await self.join(name))[0] for name in names]
        await self.settle(members)
        return members

    async def settle(self, members: Sequence[Member]) -> None:
        """Wait until new members have had an answer, and in a room of former cases what it greets them with.

        Raises:
            Refused: a member got a close that stands for a refusal (``--explain-refusals``).
        """
        for member in members:
            try:
                await member.pong(member.ping())
            except Ended as ended:
                if answer := refusal(ended.close):
                    raise Refused(ended.who, answer.status, answer.text) from None
                raise
        if self.target.room is not None and len(members) > 1:
            for speaker in members[:2]:
                speaker.say(mark := f"settled {secrets.token_hex(8)}")
                for member in members:
                    if member is not speaker:
                        await member.hear_until(mark)
            await members[1].pong(members[1].ping())  # its own, from a server that echoes

    def anew(self) -> "Lab":
        """Return a lab for the next case."""
        return Lab(self.endpoint, self.target, self.bounds, self.clock, self.ends)

    async def leave(self) -> list[Ended]:
        """End all connections: members by the close handshake, so that nothing of this case reaches the next one.

        Returns:
            The members that the server had closed, unnoticed until now.
        """
        members = [member for member in self._members if member.close is None]
        for member in members:
            member.begin_close(NORMAL)
        with suppress(TimeoutError, Outcome):  # a server that does not answer is not waited for any longer
            await Deferred.fromCoroutine(_await_ends(members)).addTimeout(_LEAVE_SECONDS, self.clock)
        for connection in self._connections:
            connection.abort()
        closed = [Ended(each.who, each.close) for each in members if each.close and each.close.code not in _ANSWERS]
        self.ends.extend((ended.who, ended.close) for ended in closed)
        return closed


async def _await_ends(members: list[Member]) -> None:
    for member in members:
        with suppress(BrokenRule, TooMuch):
            await member.end()


def _refused(who: str, answer: Answer | None, connection: Connection) -> Refused:
    if answer is None:
        return Refused(who, None, connection.trouble)
    return Refused(who, answer.status, answer.text)


def _check(answer: Answer, request: bytes) -> None:
    """Check a 101, RFC 6455 section 4.1.

    Raises:
        BrokenRule: it is wrong.
    """
    asked = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[1:-2])
    fields = answer.fields
    if fields.get("upgrade", "").lower() != "websocket":
        raise BrokenRule("the 101 has no “Upgrade: websocket” (RFC 6455 section 4.2.2)")
    if "upgrade" not in _words(fields.get("connection", "").lower()):
        raise BrokenRule("the 101 has no “Connection: Upgrade” (RFC 6455 section 4.2.2)")
    if fields.get("sec-websocket-accept") != accept_of(asked[_KEY]):
        raise BrokenRule("Sec-WebSocket-Accept is wrong (RFC 6455 section 4.2.2)")
    chosen = fields.get("sec-websocket-protocol")
    if chosen is not None and chosen not in _words(asked.get("Sec-WebSocket-Protocol", "")):
        raise BrokenRule(f"the subprotocol {chosen!r} was not offered (RFC 6455 section 4.1)")
    if fields.get("sec-websocket-extensions") and "Sec-WebSocket-Extensions" not in asked:
        raise BrokenRule("an extension was agreed that was not offered (RFC 6455 section 4.1)")


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",")]
