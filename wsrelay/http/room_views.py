"""What plain HTTP shows of a room: its description, its old messages, and the first events of a stream. Pure.

Must not live here: access and responses (:mod:`wsrelay.http.site`), what is still known (:mod:`wsrelay.rooms.history`).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from wsrelay import closecodes
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.stats import RoomStatus
from wsrelay.wanted import Start, Wanted
from wsrelay.wire import frames, sse

__all__ = ["Rooms", "counts", "first_events", "history"]


class Reading(Protocol):
    """See :class:`wsrelay.rooms.history.Reading`."""

    @property
    def at(self) -> MessageId:
        """The id up to which everything has been read."""

    @property
    def messages(self) -> Sequence[Run]:
        """A run for each message, the oldest first."""

    @property
    def is_complete(self) -> bool:
        """Whether none is missing."""


class Histories(Protocol):
    """The part of :class:`wsrelay.rooms.histories.Histories` that plain HTTP uses."""

    @property
    def exist(self) -> bool:
        """Whether any room has a history."""

    @property
    def keeps(self) -> Callable[[str], int]:
        """Returns the number of messages that a room keeps; 0: it has no history."""

    def at(self, room: str) -> MessageId:
        """Return the id up to which everything is published."""

    def when_placed(self, run: Run, placed: Callable[[MessageId], object]) -> Callable[[], object]:
        """Call back with the id of a run's first message, once it has one; return what gives this up."""


class Rooms(Protocol):
    """The part of :class:`wsrelay.rooms.hub.Hub` that is used here."""

    @property
    def histories(self) -> Histories:
        """Which rooms have one."""

    def status(self, name: str) -> RoomStatus | None:
        """Return the status of a room; ``None`` if it is not open."""

    def read(self, name: str, wanted: Wanted) -> Reading | None:
        """Return what is wanted of a room's history; ``None`` if it is gone."""


def counts(rooms: Rooms, room: str) -> dict[str, object]:
    """Return the name, and the numbers of members and publishers on this node; 0 if the room is not open."""
    status = rooms.status(room)
    members, publishers = (status.members, status.publishers) if status else (0, 0)
    return {"room": room, "members": members, "publishers": publishers}


def history(rooms: Rooms, grant: Grant, wanted: Wanted, charge: Callable[[int, int], object]) -> dict[str, object]:
    """Return what a client may know of its room's history: ``at``, and the messages that it wants.

    Their size is bounded by ``history_bytes``.

    Args:
        rooms: the rooms.
        grant: its rights.
        wanted: what it wants.
        charge: called with the number and bytes of the messages, before they are shown; may raise ``Denied``.

    Raises:
        Denied: 410, what it wants is gone.

    Complexity:
        That of the messages.
    """
    histories = rooms.histories
    if not histories.exist or not histories.keeps(grant.room) or grant.history == "none" or not grant.can_subscribe:
        return {}
    if wanted.since is None and wanted.last is None:
        return {"at": str(histories.at(grant.room))}
    reading = rooms.read(grant.room, wanted)
    if reading is None:
        raise Denied(410, closecodes.HISTORY_GONE.text, cause="history")
    charge(len(reading.messages), sum([len(run.plain) for run in reading.messages]))
    messages = [_shown(run) for run in reading.messages]
    return {"at": str(reading.at), "complete": reading.is_complete, "messages": messages}


def first_events(start: Start, grant: Grant, wanted: Wanted) -> bytes:
    """Return the chunks that begin a stream: its first id, and the gap if the history that it wants is gone."""
    if start.at is None or grant.history == "none":
        return b""
    gap = sse.gap(start.at, "gone", wanted.since) if start.is_gone else b""
    return sse.identify(start.at) + gap


def _shown(run: Run) -> dict[str, object]:
    """Return a message for JSON; bytes become base64 there."""
    payload = frames.payload_of(run.plain)
    is_text = frames.opcode_of(run.plain) == frames.TEXT
    return {"id": str(run.id), **({"text": payload.decode()} if is_text else {"base64": payload})}
