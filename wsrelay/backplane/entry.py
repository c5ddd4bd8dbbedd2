"""The entries of a broker's log: their fields, the messages in them, and the ids that the broker gives them.

Pure. Must not live here: sequence numbers and what is sent again (:mod:`wsrelay.backplane.outbox`), duplicates and gaps
(:mod:`wsrelay.backplane.inbox`), commands (:mod:`wsrelay.backplane.sender`, :mod:`wsrelay.backplane.tail`).
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, NamedTuple, Self

import msgspec

__all__ = ["EMPTY", "ENTRY_BYTES", "Entry", "Id", "Record", "pack", "parse", "unpack"]

#: The most plain frames in one entry; a longer message is one entry alone.
ENTRY_BYTES: Final = 65536


class Record(msgspec.Struct, array_like=True, gc=False):
    """A run on its way to other nodes. Readers ignore elements that later versions add.

    Attributes:
        room: the room's name.
        plain: the joined plain frames.
        count: their number.
        left_out: the handle of a member, on whichever node, that does not get them; empty: none.
    """

    room: str
    plain: bytes
    count: Annotated[int, msgspec.Meta(ge=1)]
    left_out: str = ""


_RECORDS: Final = msgspec.msgpack.Decoder(list[Record])
_ENCODER: Final = msgspec.msgpack.Encoder()


class Entry(msgspec.Struct, gc=False):
    """One entry of the log: some messages of one node.

    Attributes:
        node: identifies one outbox; never used again, not by a restart of the same process either.
        seq: the entry's number at its node, from 1, without gaps.
        blob: the messages, see :func:`pack`; :data:`EMPTY`: a heartbeat.
        age_seconds: of an entry that the broker acknowledged, lost and is sent again: the time since it was sent first,
            rounded down to ms. ``None``: all others.
        bye: the last entry of its node.
    """

    node: str
    seq: int
    blob: bytes
    age_seconds: float | None = None
    bye: bool = False

    def fields(self) -> list[str | bytes | int]:
        """Return the arguments of ``XADD`` behind the id."""
        found: list[str | bytes | int] = ["n", self.node, "s", self.seq, "m", self.blob]
        if self.age_seconds is not None:
            found += ("r", max(0, int(self.age_seconds * 1e3)))
        if self.bye:
            found += ("b", 1)
        return found


def parse(fields: Sequence[bytes]) -> Entry:
    """Return the entry with these fields, as ``XREAD`` and ``XRANGE`` list them; unknown fields are ignored.

    Raises:
        ValueError: a field is missing or malformed, or there is a name without a value.
    """
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        node, seq, blob = values[b"n"].decode(), _number(values[b"s"]), values[b"m"]
    except KeyError as error:
        raise ValueError(f"no field {error}") from None
    if not seq:
        raise ValueError("field s is 0")
    age = values.get(b"r")
    return Entry(node, seq, blob, None if age is None else _number(age) / 1e3, b"b" in values)


def _number(text: bytes) -> int:
    """Return the value of at most 18 decimal digits; ``int`` would take spaces, signs and underscores too."""
    if not text.isdigit() or len(text) > 18:
        raise ValueError(f"not a number: {text[:20]!r}")
    return int(text)


def pack(records: Iterable[Record]) -> bytes:
    """Return the blob of an entry.

    Complexity:
        One copy of the frames.
    """
    return _ENCODER.encode(records)


#: The blob without messages.
EMPTY: Final = pack([])


def unpack(blob: bytes) -> list[Record]:
    """Return the messages of an entry. Frames are not looked at.

    Raises:
        ValueError: it is not an array of room, frames and a count of at least 1.
    """
    return _RECORDS.decode(blob)


class Id(NamedTuple):
    """The broker's id of an entry; ids of one stream ascend.

    Attributes:
        milliseconds: since the epoch, by the broker's clock, which a failover may set back.
        sequence: number of the entry in this millisecond.
    """

    milliseconds: int
    sequence: int

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the id that is written ``1700000000000-0``.

        Raises:
            ValueError: it is written otherwise.
        """
        milliseconds, _, sequence = text.partition(b"-")
        return cls(_number(milliseconds), _number(sequence))

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"

    def earlier(self, seconds: float) -> Self:
        """Return the first id of the millisecond that lies so far back; at least 0-0."""
        return type(self)(max(0, self.milliseconds - int(seconds * 1e3)), 0)
