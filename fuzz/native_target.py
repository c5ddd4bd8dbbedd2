"""The compiled parser against the same in Python, and both against Autobahn: the same messages for each cut.

Each read begins where the parser stopped in the one before, as in the relay. What was taken is given to Autobahn's
parser, which must find exactly these messages in it, and no error. Without the compiled module, Python alone is
compared.
"""

import inputs
import seeds
from memory import CASE, nothing_logged
from target import Target

from tests.harness import framing
from tests.wire.test_frames import parse as parse_as_client
from wsrelay.wire import pure

try:
    from wsrelay import _native as compiled
except ImportError:
    compiled = None

#: Limits on a payload and on the result; chosen by the flags.
PAYLOADS = (framing.LIMITS["max_message_bytes"], 125, 126, 0)
RESULTS = (2**20, 0, 100, 1000)


def check(octets: bytes) -> None:
    """Parse an input with all parsers."""
    case = inputs.decode(octets)
    kinds, max_payload, most = case.flags & 3, PAYLOADS[case.flags >> 2 & 3], RESULTS[case.flags >> 4 & 3]
    left, joined, taken = b"", b"", b""
    for chunk in case.chunks():
        left += chunk
        result = pure.parse(left, max_payload, kinds, most)
        if compiled is not None:
            again = compiled.parse(left, max_payload, kinds, most)
            assert again == result, f"compiled: {again}\nPython: {result}"
        joined, taken, left = joined + result[0], taken + left[: result[2]], left[result[2] :]
    if taken:
        with nothing_logged():
            found, answers, ended, _ = framing.outcome(CASE, [taken], {}, fast=False)
        assert found == parse_as_client(joined), f"Autobahn: {found}\ntaken: {joined!r}"
        assert not answers and not ended, f"Autobahn ended the connection: {answers!r}"


TARGET = Target(
    name="native",
    title="the compiled parser, the same in Python and Autobahn's parser agree",
    check=check,
    inputs=inputs.strategy(
        framing.streams, (3, 3, 3, 1, 2, 3 | 1 << 2, 3 | 2 << 2, 3 | 1 << 4, 3 | 2 << 4, 3 | 3 << 4)
    ),
    seeds=seeds.parsers(),
    words=[framing.wire_frame(first, b"", bytes(4)) for first in (0x81, 0x82, 0xC1, 0x01)]
    + [b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe2\x82\xac", b"\xff\0\0\0\0\0\x01\0\0"],
    max_bytes=8192,
)
