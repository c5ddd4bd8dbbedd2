"""What a fuzzer's bytes mean, the same for every target and every engine.

::

    octet 0        flags, each target's own
    octets 1 to 4  where the rest is cut, 0 for nowhere
    the rest       what a client sends

A fixed place for everything, so that a small change of the bytes is a small change of what is tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

#: Most cuts of one stream.
CUTS = 4

HEADER_BYTES = 1 + CUTS


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        flags: 0 to 255.
        stream: what a client sends.
        cuts: where it is cut, 0 to 255 each; see :meth:`chunks`.
    """

    flags: int
    stream: bytes
    cuts: tuple[int, ...] = ()

    def chunks(self, stream: bytes | None = None) -> list[bytes]:
        """Return a stream, this one unless another is given, as the reads in which it comes."""
        whole = self.stream if stream is None else stream
        # Octets are places where the stream is short, and fractions of it where it is long.
        scale = max(255, len(whole))
        places = sorted({0, len(whole), *(min(cut * scale // 255, len(whole)) for cut in self.cuts)})
        return [whole[begin:end] for begin, end in pairwise(places)]


def decode(octets: bytes) -> Input:
    """Return what octets mean; missing ones are zeros."""
    header = octets[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0")
    return Input(header[0], octets[HEADER_BYTES:], tuple(header[1:]))


def encode(flags: int, stream: bytes, cuts: Sequence[int] = ()) -> bytes:
    """Return the octets that mean this."""
    return bytes([flags, *cuts[:CUTS]]).ljust(HEADER_BYTES, b"\0") + stream


def strategy(streams: st.SearchStrategy[bytes], flags: Sequence[int]) -> st.SearchStrategy[bytes]:
    """Return a Hypothesis strategy of octets.

    Args:
        streams: of what clients send.
        flags: those that the target knows.
    """
    return st.builds(encode, st.sampled_from(flags), streams, st.lists(st.integers(0, 255), max_size=CUTS))
