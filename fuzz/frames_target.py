"""The fast path for common frames against Autobahn's parser: the same events for each cut of the stream.

Compared by :func:`tests.harness.framing.outcome`, as in ``tests/connection/test_fast_path.py``.
"""

import inputs
import seeds
from memory import CASE, nothing_logged
from target import Target

from tests.harness import framing


def check(octets: bytes) -> None:
    """Send an input to both parsers."""
    case = inputs.decode(octets)
    fields = framing.DEFLATE if case.flags & seeds.DEFLATE else {}
    with nothing_logged():
        fast, slow = (framing.outcome(CASE, case.chunks(), fields, fast=is_fast) for is_fast in (True, False))
    assert fast == slow, f"the fast path: {fast}\nAutobahn: {slow}"


TARGET = Target(
    name="frames",
    title="the fast path and Autobahn's parser agree",
    check=check,
    inputs=inputs.strategy(framing.streams, (seeds.PLAIN, seeds.DEFLATE)),
    seeds=seeds.open_connection(),
    words=[framing.wire_frame(first, b"", bytes(4)) for first in (0x81, 0x82, 0xC1, 0x01, 0x80, 0x88, 0x89)],
    max_bytes=2048,
)
