"""Format of a fuzzer's input, the same for all targets and engines.

::

    octet 0        flags of the target
    octets 1 to 4  cuts of the stream, 0 for none
    the rest       the stream: bytes from a client

Fields are at fixed offsets, so that a small mutation is a small change of the test case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

#: Maximum number of cuts.
CUTS = 4

HEADER_BYTES = 1 + CUTS


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        flags: 0 to 255.
        stream: bytes from a client.
        cuts: 0 to 255 each; see :meth:`chunks`.
    """

    flags: int
    stream: bytes
    cuts: tuple[int, ...] = ()

    def chunks(self, stream: bytes | None = None) -> list[bytes]:
        """Return the stream, or another one, cut into reads."""
        whole = self.stream if stream is None else stream
        # A cut is an offset in a short stream, and a fraction of a long one.
        scale = max(255, len(whole))
        places = sorted({0, len(whole), *(min(cut * scale // 255, len(whole)) for cut in self.cuts)})
        return [whole[begin:end] for begin, end in pairwise(places)]


def decode(octets: bytes) -> Input:
    """Return the input of octets; missing octets are zeros."""
    header = octets[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0")
    return Input(header[0], octets[HEADER_BYTES:], tuple(header[1:]))


def encode(flags: int, stream: bytes, cuts: Sequence[int] = ()) -> bytes:
    """Return the octets of an input."""
    return bytes([flags, *cuts[:CUTS]]).ljust(HEADER_BYTES, b"\0") + stream


def strategy(streams: st.SearchStrategy[bytes], flags: Sequence[int]) -> st.SearchStrategy[bytes]:
    """Return a Hypothesis strategy of octets.

    Args:
        streams: strategy of streams.
        flags: flags of the target.
    """
    return st.builds(encode, st.sampled_from(flags), streams, st.lists(st.integers(0, 255), max_size=CUTS))
