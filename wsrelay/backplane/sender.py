"""Sender: sends what is published on one shard to its stream, one entry at a time.

While an entry is on its way, what is published forms the next one (group commit). So a refused entry is followed by
none, and the sequence numbers of a node are contiguous in the stream; and under load one entry has many messages.
Source: issue 15.

Must not live here: sequence numbers and what is sent again (:mod:`wsrelay.backplane.outbox`), what follows from a
failure (:mod:`wsrelay.backplane.shard`).
"""

from collections.abc import Callable
from typing import Final, cast

from wsrelay.backplane.entry import Id
from wsrelay.backplane.epochs import Epochs
from wsrelay.backplane.outbox import Outbox
from wsrelay.backplane.redis_errors import RedisError
from wsrelay.backplane.redis_protocol import RedisProtocol, Reply
from wsrelay.message import Run
from wsrelay.stats import BackplaneStats

__all__ = ["HEARTBEAT_SECONDS", "Sender"]

#: The longest time without an entry. A heartbeat ends the tail of the stream for the other nodes' search for gaps,
#: and proves the path to the broker and back.
HEARTBEAT_SECONDS: Final = 1.0


class Sender:
    """The way from this process to a stream.

    Args:
        key: of the stream.
        outbox: what is to be sent.
        epochs: for the epoch of each entry.
        stats: where to count.
        seconds: the time.
        call_soon: calls a function at the end of this reactor turn.
        settle: called when more or less waits for the broker.
        failed: called with an error reply.

    Attributes:
        sent_at: when the entry that is on its way was sent; that of the last one, where none is.
        is_waiting: whether one is on its way.
        last_seq: the sequence number of the last entry that was sent for the first time.
    """

    def __init__(
        self,
        key: str,
        outbox: Outbox,
        epochs: Epochs,
        stats: BackplaneStats,
        *,
        seconds: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        settle: Callable[[], None],
        failed: Callable[[RedisError], None],
    ) -> None:
        self._key = key
        self._outbox, self._epochs = outbox, epochs
        self._stats = stats
        self._seconds = seconds
        self._call_soon = call_soon
        self._settle = settle
        self._failed = failed
        self._connection: RedisProtocol | None = None
        self._is_due = False
        #: Whether a new entry is to prove this connection.
        self._owes_proof = False
        self.is_waiting = False
        self.sent_at = 0.0
        self.last_seq = 0

    def publish(self, room: str, run: Run) -> None:
        """Send a run at the end of this turn, or as soon as the entry on its way is acknowledged."""
        self._outbox.add(room, run)
        if not self._is_due:
            self._is_due = True
            self._call_soon(self._send_due)

    def _send_due(self) -> None:
        self._is_due = False
        if self._connection is None or self.is_waiting:
            self._settle()
        else:  # its acknowledgement settles
            self.send()

    def begin(self, connection: RedisProtocol) -> None:
        """Send on a connection from now on: what the outbox has to send again, then what is new, or a heartbeat."""
        self._connection, self._owes_proof = connection, True
        self.send()

    def end(self) -> None:
        """The connection has ended."""
        self._connection, self.is_waiting = None, False
        self._outbox.lost()

    def send(self, *, heartbeat: bool = False) -> None:
        """Send the next entry, unless one is on its way or there is no connection.

        Args:
            heartbeat: whether to send an empty entry where there is no other.
        """
        if self._connection is None or self.is_waiting:
            return
        now = self._seconds()
        entry = self._outbox.next(now, heartbeat=heartbeat or self._owes_proof)
        if entry is None:
            return
        entry.epoch = self._epochs.stamp
        self.is_waiting, self.sent_at = True, now
        if entry.seq > self.last_seq:
            self.last_seq, self._owes_proof = entry.seq, False
        else:
            self._stats.resent += 1
        self._connection.command(self._acknowledged, "XADD", self._key, "*", *entry.fields())

    def _acknowledged(self, reply: Reply) -> None:
        if isinstance(reply, RedisError):
            self._failed(reply)
            return
        identity = Id.parse(cast("bytes", reply))
        self.is_waiting = False
        self._stats.published_entries += 1
        self._outbox.acknowledged(identity, self._seconds())
        self._settle()
        self.send()
