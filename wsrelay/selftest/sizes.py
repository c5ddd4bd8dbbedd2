"""Cases: short, long and too long messages.

Must not live here: compressed ones (:mod:`wsrelay.selftest.compression`).
"""

from functools import partial
from typing import Final

from wsrelay.closecodes import TOO_BIG
from wsrelay.selftest.case import Case
from wsrelay.selftest.frames import BINARY, fragments, message
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.member import Member
from wsrelay.selftest.outcome import Differs, Fails, TooMuch
from wsrelay.selftest.reaction import reaction

__all__ = ["CASES", "refused_for_size"]

#: Around the borders of the three forms of a length (RFC 6455 section 5.2).
_LENGTHS: Final = (1, 125, 126, 127, 65535, 65536)

_NO_LIMIT: Final = "the limit is higher or there is none: every member must be able to take what any client sends"
_NO_CODE: Final = "a client cannot tell that its message was too big: 1009 says so"


async def _lengths(lab: Lab) -> str:
    publisher, listener = await lab.joined("publisher", "listener")
    lengths = [length for length in _LENGTHS if length <= lab.bounds.max_message_bytes]
    for length in lengths:
        for payload in (b"\x80" * length, "x" * length):
            publisher.say(payload)
            await _arrives(listener, payload.encode() if isinstance(payload, str) else payload)
    return f"{', '.join(map(str, lengths))} bytes arrived"


async def _largest(lab: Lab) -> str:
    publisher, listener, other = await lab.joined("publisher", "listener", "other publisher")
    size = lab.bounds.max_message_bytes
    publisher.say("x" * size)
    seen = await reaction(publisher, listener, other)
    if not seen.is_open:
        raise Differs(f"{size} bytes: {seen.text}")
    if [message.payload for message in seen.relayed] != [b"x" * size]:
        raise Fails(f"{size} bytes did not arrive as they were sent", "messages are lost or changed")
    return f"{size} bytes arrived"


async def _arrives(listener: Member, payload: bytes) -> None:
    heard = await listener.hear()
    if heard.payload != payload:
        raise Fails(f"{len(payload)} bytes were sent, others arrived: {len(heard.payload)} bytes")


async def _too_big(lab: Lab, parts: int) -> str:
    culprit, bystander, speaker = await lab.joined("culprit", "bystander", "speaker")
    size = lab.bounds.max_message_bytes + 1
    cut = -(-size // parts)
    pieces = [b"x" * min(cut, size - at) for at in range(0, size, cut)]
    for frame in [message(pieces[0])] if parts == 1 else fragments(BINARY, pieces):
        culprit.send(frame)
    return await refused_for_size(culprit, bystander, speaker, f"{size} bytes")


async def refused_for_size(culprit: Member, bystander: Member, speaker: Member, what: str) -> str:
    """Return how the sender of a too large message was ended, and that the others go on.

    Raises:
        Differs: it was not ended with 1009.
        Outcome: the others did not go on.
    """
    try:
        seen = await reaction(culprit, bystander, speaker)
    except TooMuch:
        raise Differs(f"{what}: delivered") from None
    if seen.relayed:
        raise Differs(f"{what}: delivered")
    if seen.code != TOO_BIG.code:
        raise Differs(f"{what}: {seen.text}, not delivered", _NO_CODE)
    return f"{what}: {seen.text}; the others go on"


CASES: Final = (
    Case(
        "lengths",
        "Sizes",
        "messages around the borders of the three forms of a length arrive",
        "RFC 6455 section 5.2",
        "messages of some lengths are lost or changed",
        _lengths,
    ),
    Case(
        "largest",
        "Sizes",
        "a message of --max-message-bytes arrives",
        "docs/options.md, --max-message-bytes",
        "the server's limit is lower: clients have to split larger messages",
        _largest,
    ),
    Case(
        "too-big",
        "Sizes",
        "a message of one byte more is closed with 1009, and only its sender",
        "promise 7, RFC 6455 section 7.4.1",
        _NO_LIMIT,
        partial(_too_big, parts=1),
    ),
    Case(
        "too-big-in-fragments",
        "Sizes",
        "the same for a message in 16 fragments",
        "promise 7, RFC 6455 section 7.4.1",
        _NO_LIMIT,
        partial(_too_big, parts=16),
    ),
)
