"""The HTTP response to a request. h11 parses it.

Must not live here: what is expected of it.
"""

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import h11

from wsrelay.closecodes import status_of
from wsrelay.selftest.connection import Connection
from wsrelay.selftest.frames import FIN, PING, Close, Pong, masked
from wsrelay.selftest.outcome import BrokenRule, Silence, TooMuch
from wsrelay.selftest.reader import Reader

__all__ = ["Answer", "accept_of", "read_answer", "refusal", "settled"]

#: The most that is read of a response.
_MOST_BYTES: Final = 2**16

_SWITCHING: Final = 101

#: Payload of the ping behind a 101.
_MARK: Final = b"settled"

#: RFC 6455 section 1.3.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response.

    Attributes:
        status: the status.
        reason: its reason phrase.
        fields: lower-case name → value; several lines are joined by ", ".
        content: its content, as text, as far as it was read.
        rest: bytes behind a 101.
    """

    status: int
    reason: str
    fields: Mapping[str, str]
    content: str = ""
    rest: bytes = b""

    @property
    def is_open(self) -> bool:
        """Whether it is a 101."""
        return self.status == _SWITCHING

    @property
    def text(self) -> str:
        """The first line of what it says."""
        lines = self.content.strip().splitlines()
        return lines[0][:200] if lines and not lines[0].startswith("<") else self.reason


async def read_answer(connection: Connection, seconds: float | None = None) -> Answer | None:
    """Return the response; ``None`` if the connection ends without one.

    Args:
        connection: a request was written to it, whole or not.
        seconds: how long to wait for each part; ``None`` is the usual time.

    Raises:
        BrokenRule: it is not HTTP.
        Silence: none came.
    """
    parser, size_bytes = _parser(), 0
    content: list[str] = []
    head: Answer | None = None
    try:
        while (event := parser.next_event()) is not h11.NEED_DATA or size_bytes <= _MOST_BYTES:
            if event is h11.NEED_DATA:
                data = await connection.read(seconds)
                size_bytes += len(data)
                if not size_bytes:
                    return None
                parser.receive_data(data)
            elif isinstance(event, h11.InformationalResponse | h11.Response):
                head = _head(event, parser.trailing_data[0])
            elif isinstance(event, h11.Data):
                content.append(event.data.decode("utf-8", "replace"))
            else:  # the end of the response, or what follows a 101
                break
    except h11.RemoteProtocolError as error:
        if head is None:
            raise BrokenRule(f"the response is not HTTP/1.1: {error}") from None
    return head and replace(head, content="".join(content))


async def settled(answer: Answer, connection: Connection) -> Answer:
    """Return the refusal that a 101 with a close as its first frame stands for (``--explain-refusals``).

    The close may come later than the 101: a ping is sent, and what comes before its pong is looked at.

    Args:
        answer: any; another one than a 101 is returned at once.
        connection: where it came from; what follows is taken from it.
    """
    reader = Reader(_MOST_BYTES, is_compressed=False)
    reader.feed(answer.rest)
    with suppress(BrokenRule, TooMuch, Silence):  # it is open, whatever comes then
        connection.write(masked(FIN | PING, _MARK) if answer.is_open else b"")
        while answer.is_open and (event := reader.next()) != Pong(_MARK):
            if isinstance(event, Close):
                return refusal(event) or answer
            if event is None:
                data = await connection.read()
                if not data:
                    break
                reader.feed(data)
    return answer


def refusal(close: Close | None) -> Answer | None:
    """Return the refusal that a close frame stands for; ``None`` if it is another close."""
    status = status_of(close.code) if close and close.code else None
    return Answer(status, close.reason, {}, close.reason) if close and status else None


def accept_of(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` of a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()  # noqa: S324 - as the RFC has it


def _parser() -> h11.Connection:
    """Return h11's client as if it had sent a handshake: it cannot send the wrong ones."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_BYTES)
    parser.send(
        h11.Request(method="GET", target="/", headers=[("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "a")])
    )
    parser.send(h11.EndOfMessage())
    return parser


def _head(head: h11.Response | h11.InformationalResponse, rest: bytes) -> Answer:
    fields: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return Answer(head.status_code, head.reason.decode("latin-1"), fields, rest=rest)
