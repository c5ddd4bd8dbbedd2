"""Cases: fragments, pings, pongs and the close handshake.

Must not live here: wrong ones (:mod:`wsrelay.selftest.violations`).
"""

from functools import partial
from typing import Final

from wsrelay.closecodes import NORMAL
from wsrelay.selftest.case import Case
from wsrelay.selftest.frames import FIN, PING, PONG, TEXT, Close, Pong, fragments, masked
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.member import Member
from wsrelay.selftest.outcome import Differs, Ended, Fails, Silence
from wsrelay.selftest.reaction import go_on

__all__ = ["CASES"]

#: Text in fragments; the first one is cut within a character.
_CUT: Final = [b"gr\xc3", b"\xbc", "ße 👋".encode()]
_PARTS: Final = [b"one ", b"two ", b"three"]

#: A code of applications (RFC 6455 section 7.4.2).
_PRIVATE: Final = 4321


async def _fragments(lab: Lab, parts: list[bytes]) -> str:
    publisher, listener = await lab.joined("publisher", "listener")
    for frame in fragments(TEXT, parts):
        publisher.send(frame)
    return await _whole(listener, parts)


async def _between(lab: Lab) -> str:
    publisher, listener = await lab.joined("publisher", "listener")
    for frame in fragments(TEXT, _PARTS):
        publisher.send(frame)
        await publisher.pong(publisher.ping())
    return "pongs at once; " + await _whole(listener, _PARTS)


async def _whole(listener: Member, parts: list[bytes]) -> str:
    heard = await listener.hear()
    if (heard.payload, heard.is_text) != (b"".join(parts), True):
        raise Fails(f"arrived changed: {heard.payload[:40]!r}", "members get other messages than were sent")
    return f"{len(parts)} fragments arrived as one message in {heard.frames} frame" + ("s" if heard.frames > 1 else "")


async def _ping(lab: Lab) -> str:
    (client,) = await lab.joined("client")
    for payload in (b"", b"\0\xff", b"x" * 125):
        client.send(masked(FIN | PING, payload))
        while not isinstance(event := await client.event(), Pong):
            if isinstance(event, Close):
                raise Ended(client.who, event)
        if event.payload != payload:
            raise Fails(f"a ping of {len(payload)} bytes got a pong of {len(event.payload)} other ones")
    return "a pong with the same 0, 2 and 125 bytes"


async def _pong(lab: Lab) -> str:
    client, speaker = await lab.joined("client", "speaker")
    client.send(masked(FIN | PONG, b"nobody has asked"))
    await go_on(speaker, client)
    return "ignored"


async def _close(lab: Lab, code: int | None, reason: bytes) -> str:
    (client,) = await lab.joined("client")
    client.begin_close(code, reason)
    try:
        close = await client.end()
    except Silence:
        if client.close is None:
            raise Fails("no close frame came back, and TCP did not end") from None
        raise Differs(
            "answered, but TCP was not ended", "the client has to end TCP by itself, after a timeout"
        ) from None
    if close is None:
        raise Fails("TCP was ended without a close frame", "the client sees 1006, as after a network failure")
    if close.code != code:
        raise Differs(f"answered with {close.code or 'no code'}", "the client sees another code than it gave")
    return "the same code came back, then the end of TCP" if code else "an empty close came back, then the end of TCP"


def _closing(name: str, what: str, code: int | None, reason: bytes = b"") -> Case:
    return Case(
        name,
        "Fragments and control frames",
        f"a close {what} is answered by the same, then TCP is ended",
        "RFC 6455 sections 5.5.1 and 7.1.1",
        "the client has to wait for a timeout",
        partial(_close, code=code, reason=reason),
    )


CASES: Final = (
    Case(
        "fragments",
        "Fragments and control frames",
        "a message in fragments arrives as one message",
        "promise 2, RFC 6455 section 5.4",
        "members get pieces, or nothing",
        partial(_fragments, parts=_PARTS),
    ),
    Case(
        "fragments-within-character",
        "Fragments and control frames",
        "the same for text that is cut within a character",
        "RFC 6455 section 5.6",
        "clients that cut text anywhere, as they may, are closed, or members get wrong text",
        partial(_fragments, parts=_CUT),
    ),
    Case(
        "pings-between-fragments",
        "Fragments and control frames",
        "pings between fragments are answered at once, and the message arrives",
        "RFC 6455 section 5.4",
        "a large message of a client that sends pings is lost",
        _between,
    ),
    Case(
        "ping",
        "Fragments and control frames",
        "a ping is answered by a pong with the same payload",
        "RFC 6455 section 5.5.3",
        "clients that send pings believe that the server is dead",
        _ping,
    ),
    Case(
        "unasked-pong",
        "Fragments and control frames",
        "a pong that nobody has asked for is ignored",
        "RFC 6455 section 5.5.3",
        "clients with such a heartbeat cannot stay",
        _pong,
    ),
    _closing("close", "with 1000 and a reason", NORMAL, b"bye"),
    _closing("close-private-code", f"with {_PRIVATE}", _PRIVATE),
    _closing("close-without-code", "without a code", None),
)
