"""The entries of a broker's log: their fields, the messages in them, and the ids that the broker gives them.

Pure. Must not live here: sequence numbers and what is sent again (:mod:`wsrelay.backplane.outbox`), duplicates and gaps
(:mod:`wsrelay.backplane.inbox`), commands (:mod:`wsrelay.backplane.sender`, :mod:`wsrelay.backplane.tail`).
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Final, NamedTuple, Self

import msgspec

from wsrelay.message_id import EPOCH_CHARS, epoch_number

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


#: The number of fields of an entry without marks.
_LEAST_FIELDS: Final = 3

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
        epoch: that its node knew when it sent the entry; empty: none. See :mod:`wsrelay.backplane.epochs`.
    """

    node: str
    seq: int
    blob: bytes
    age_seconds: float | None = None
    bye: bool = False
    epoch: str = ""

    def fields(self) -> list[str | bytes | int]:
        """Return the arguments of ``XADD`` behind the id."""
        found: list[str | bytes | int] = ["n", self.node, "s", self.seq, "m", self.blob]
        if self.age_seconds is not None:
            found += ("r", max(0, int(self.age_seconds * 1e3)))
        if self.bye:
            found += ("b", 1)
        if self.epoch:
            found += ("e", self.epoch)
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
    if len(values) == _LEAST_FIELDS:
        return Entry(node, seq, blob)
    age = None if (text := values.get(b"r")) is None else _number(text) / 1e3
    return Entry(node, seq, blob, age, b"b" in values, _epoch(values.get(b"e", b"")))


@lru_cache(64)
def _epoch(text: bytes) -> str:
    """Return an epoch; empty: it is none, or one of a later version."""
    epoch = text.decode("ascii", "replace")
    with suppress(ValueError):
        epoch_number(epoch)
        return epoch if len(epoch) == EPOCH_CHARS else ""
    return ""


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

    @property
    def behind(self) -> Self:
        """The first id behind this one."""
        return self._replace(sequence=self.sequence + 1)

    def seconds_behind(self, other: Self) -> float:
        """Return how much later this id was given than another one."""
        return (self.milliseconds - other.milliseconds) / 1e3

    def earlier(self, seconds: float) -> Self:
        """Return the first id of the millisecond that lies so far back; at least 0-0."""
        return type(self)(max(0, self.milliseconds - int(seconds * 1e3)), 0)
