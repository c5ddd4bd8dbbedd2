"""Cases: handshakes that are refused, and what is no handshake.

Must not live here: what a client in a room does wrong (:mod:`wsrelay.selftest.violations`).
"""

from typing import Final

from wsrelay.selftest.answer import Answer, read_answer
from wsrelay.selftest.case import Case
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.outcome import BrokenRule, Differs, Fails, Silence, Skipped

__all__ = ["CASES"]

#: A name that nobody has (RFC 6761 section 6.4).
_FOREIGN: Final = "https://selftest.invalid"

_GARBAGE: Final = b"\x16\x03\x01 this is not HTTP\r\n\r\n"

_ACCEPTED: Final = "the server accepts a handshake that RFC 6455 forbids"


def _is_refused(answer: Answer | None) -> Answer:
    """Return the answer if it is a client error.

    Raises:
        Fails: the handshake was accepted.
        Differs: there is none, or another one.
    """
    if answer is None:
        raise Differs("TCP was ended without a response")
    if answer.is_open:
        raise Fails("accepted: 101", _ACCEPTED)
    if not 400 <= answer.status < 500:
        raise Differs(f"answered with {answer.status} {answer.text}")
    return answer


async def _version(lab: Lab) -> str:
    answer = _is_refused(await lab.ask({"Sec-WebSocket-Version": "99"}))
    versions = answer.fields.get("sec-websocket-version")
    if versions is None:
        raise Fails(f"{answer.status} without Sec-WebSocket-Version", "a client cannot tell which version would do")
    return f"{answer.status}, Sec-WebSocket-Version: {versions}"


async def _no_key(lab: Lab) -> str:
    answer = _is_refused(await lab.ask({"Sec-WebSocket-Key": None}))
    return f"{answer.status} {answer.text}"


async def _method(lab: Lab) -> str:
    answer = _is_refused(await lab.ask({"Content-Length": "0"}, "PUT"))
    return f"{answer.status} {answer.text}"


async def _origin(lab: Lab) -> str:
    answer = await lab.ask({"Origin": _FOREIGN})
    if answer is not None and answer.is_open:
        raise Differs(f"a page of {_FOREIGN} may connect")
    refused = _is_refused(answer)
    return f"{refused.status} {refused.text}"


async def _no_token(lab: Lab) -> str:
    if lab.target.token is None:
        raise Skipped("no --token was given")
    answer = await lab.ask({"Authorization": None})
    if answer is not None and answer.is_open:
        raise Differs("accepted without the token: 101")
    refused = _is_refused(answer)
    return f"{refused.status} {refused.text}"


async def _garbage(lab: Lab) -> str:
    connection = await lab.connect("client")
    connection.write(_GARBAGE)
    try:
        answer = await read_answer(connection)
    except BrokenRule as broken:  # HTTP/0.9, or the protocol of another server
        return f"answered in another way: {broken}"
    except Silence as silence:
        raise Differs(f"neither answered nor ended: {silence}") from None
    return "TCP was ended" if answer is None else f"{answer.status} {answer.text}"


async def _slow_request(lab: Lab) -> str:
    connection = await lab.connect("slow client")
    request = lab.target.request(lab.room, {})
    connection.write(request[: len(request) // 2])
    seconds = lab.bounds.seconds - lab.bounds.patience_seconds
    (other,) = await lab.joined("other client")
    began = lab.clock.seconds()
    try:
        answer = await read_answer(connection, seconds)
    except Silence:
        raise Differs(f"still open after {seconds:g} s") from None
    taken = f"after {lab.clock.seconds() - began:.0f} s"
    await other.pong(other.ping())
    return f"TCP was ended {taken}" if answer is None else f"{answer.status} {answer.text} {taken}"


CASES: Final = (
    Case(
        "version",
        "Refusals",
        "another version gets 426 (or another 4xx) with Sec-WebSocket-Version",
        "RFC 6455 section 4.2.2",
        "clients of other versions do not learn what to do",
        _version,
    ),
    Case(
        "no-key",
        "Refusals",
        "a handshake without a key gets 400 (or another 4xx)",
        "RFC 6455 section 4.2.1",
        "software that is no WebSocket client is taken for one",
        _no_key,
    ),
    Case(
        "method",
        "Refusals",
        "a handshake with PUT gets 405 (or another 4xx)",
        "RFC 6455 section 4.2.1",
        "software that is no WebSocket client is taken for one",
        _method,
    ),
    Case(
        "foreign-origin",
        "Refusals",
        "a page of another site is refused with 403",
        "promise 8, RFC 6455 section 10.2",
        "any page that a user visits may join rooms with the user's cookies and from the user's network",
        _origin,
    ),
    Case(
        "no-token",
        "Refusals",
        "a handshake without the token gets 401 or 403",
        "promise 8",
        "clients need no token",
        _no_token,
    ),
    Case(
        "garbage",
        "Refusals",
        "what is not HTTP gets 400, or the end of TCP",
        "promise 7",
        "such connections stay, and each takes memory and a descriptor",
        _garbage,
    ),
    Case(
        "slow-request",
        "Refusals",
        "half a request, then silence, is ended in bounded time",
        "promise 7",
        "such connections stay for longer, and each takes memory and a descriptor (behind a proxy: its own)",
        _slow_request,
    ),
)
