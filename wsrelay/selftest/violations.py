"""Cases: a client breaks RFC 6455; the table of how, and one function that tries each.

Must not live here: messages that are too long (:mod:`wsrelay.selftest.sizes`), wrong handshakes
(:mod:`wsrelay.selftest.refusals`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from wsrelay.closecodes import INVALID_PAYLOAD, NO_CODE, NORMAL, PROTOCOL_ERROR, TOO_BIG
from wsrelay.selftest.case import Case
from wsrelay.selftest.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, header, masked
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.outcome import Differs, Fails
from wsrelay.selftest.reaction import reaction

__all__ = ["CASES"]

_RSV2: Final = 0x20
_PROTOCOL: Final = (PROTOCOL_ERROR.code,)
_PAYLOAD: Final = (INVALID_PAYLOAD.code,)
_EITHER: Final = (*_PROTOCOL, *_PAYLOAD)


@dataclass(frozen=True, slots=True)
class Violation:
    """One way to break a rule.

    Attributes:
        name: of the case.
        what: what the client sends.
        section: of RFC 6455.
        data: the frames.
        codes: the close codes that are expected.
        must_fail: whether the RFC says that the server must fail the connection; else it says only what a client may
            not send.
        means: what it means if the server does otherwise.
    """

    name: str
    what: str
    section: str
    data: bytes
    codes: tuple[int, ...] = _PROTOCOL
    must_fail: bool = True
    means: str = "a wrong client is not told that it is wrong"


#: What it means if the server does otherwise, where that is not the usual.
_MASKS: Final = "masks protect proxies from scripts (RFC 6455 section 10.3); here clients may leave them out"
_BITS: Final = "frames with the meaning of an extension are taken for frames without"
_TEXTS: Final = "if it is relayed, members that check text, as browsers do, end their connections"
_OTHER_CODE: Final = "the client sees another reason than the true one"
_NO_CODE: Final = "the client is not told what was wrong"
_MIXED: Final = "which bytes belong to which message is the server's guess"
_LENGTHS: Final = "no harm by itself; software in between may read other lengths"


def _code(code: int) -> bytes:
    return masked(FIN | CLOSE, code.to_bytes(2, "big"))


VIOLATIONS: Final = (
    Violation(
        "unmasked", "a frame without a mask", "5.1", header(FIN | TEXT, 4, is_masked=False) + b"bare", means=_MASKS
    ),
    Violation("reserved-bit", "a frame with RSV2", "5.2", masked(FIN | _RSV2 | TEXT, b"bits"), means=_BITS),
    Violation("reserved-opcode", "a frame with opcode 3", "5.2", masked(FIN | 3, b"three")),
    Violation("reserved-control-opcode", "a frame with opcode 11", "5.2", masked(FIN | 11)),
    Violation(
        "invalid-utf8", "text that is not UTF-8", "8.1", masked(FIN | TEXT, b"bad\xff\xfe"), _PAYLOAD, means=_TEXTS
    ),
    Violation("surrogate", "text with a surrogate", "8.1", masked(FIN | TEXT, b"\xed\xa0\x80"), _PAYLOAD, means=_TEXTS),
    Violation(
        "invalid-utf8-in-fragments",
        "text in fragments that is not UTF-8",
        "8.1",
        masked(TEXT, b"good\xc3") + masked(FIN | CONTINUATION, b"\x28"),
        _PAYLOAD,
        means=_TEXTS,
    ),
    Violation("long-ping", "a ping of 126 bytes", "5.5", masked(FIN | PING, b"x" * 126), must_fail=False),
    Violation("ping-in-fragments", "a ping in fragments", "5.5", masked(PING, b"x"), must_fail=False),
    Violation(
        "stray-continuation",
        "a continuation of nothing",
        "5.4",
        masked(FIN | CONTINUATION, b"x"),
        must_fail=False,
        means=_MIXED,
    ),
    Violation(
        "message-within-message",
        "a message between the fragments of another",
        "5.4",
        masked(TEXT, b"a") + masked(FIN | TEXT, b"b"),
        must_fail=False,
        means=_MIXED,
    ),
    Violation(
        "longer-length-field",
        "a length of 5 in 16 bits",
        "5.2",
        masked(FIN | BINARY, b"short", length_bits=16),
        must_fail=False,
        means=_LENGTHS,
    ),
    Violation(
        "highest-bit-of-length",
        "a length with its highest bit set",
        "5.2",
        bytes((FIN | BINARY, 0xFF)) + (2**63).to_bytes(8, "big") + bytes(4),
        (*_PROTOCOL, TOO_BIG.code),
        must_fail=False,
    ),
    Violation("close-of-one-byte", "a close frame of one byte", "5.5.1", masked(FIN | CLOSE, b"\3"), must_fail=False),
    Violation("close-with-1005", "a close frame with 1005", "7.4.1", _code(NO_CODE), must_fail=False),
    Violation("close-with-999", "a close frame with 999", "7.4.2", _code(NORMAL - 1), must_fail=False),
    Violation(
        "close-reason-not-utf8",
        "a close reason that is not UTF-8",
        "5.5.1",
        masked(FIN | CLOSE, NORMAL.to_bytes(2, "big") + b"\xff"),
        _EITHER,
        must_fail=False,
    ),
)


async def _attempt(lab: Lab, violation: Violation) -> str:
    culprit, bystander, speaker = await lab.joined("culprit", "bystander", "speaker")
    culprit.say("before")
    await bystander.hear_until("before")
    culprit.send(violation.data)
    seen = await reaction(culprit, bystander, speaker)
    kind = Fails if violation.must_fail else Differs
    if seen.relayed:
        raise kind(f"{seen.text}; it was relayed: {seen.relayed[0].payload[:20]!r}")
    if seen.is_open:
        raise kind(seen.text)
    if seen.code not in violation.codes:
        raise Differs(seen.text, _OTHER_CODE if seen.code else _NO_CODE)
    return seen.text


def _case(violation: Violation) -> Case:
    codes = " or ".join(map(str, violation.codes))
    return Case(
        violation.name,
        "Violations",
        f"{violation.what}: closed with {codes}, and nobody else",
        f"RFC 6455 section {violation.section}, promise 6",
        violation.means,
        partial(_attempt, violation=violation),
    )


CASES: Final = tuple(map(_case, VIOLATIONS))
