"""What is known of a room and of a connection at one moment, as plain data for whoever shows it. Pure.

Who shows it, and as what, is :mod:`wsrelay.admin`'s; what counts as what, the room's and the connection's.
"""

from dataclasses import dataclass

__all__ = ["ConnectionStatus", "RoomStatus"]


@dataclass(frozen=True, slots=True)
class RoomStatus:
    """A room.

    Attributes:
        name: its name.
        members: connections in it.
        publishers: those of them that may publish.
        subscribers: those of them that receive.
        slow: subscribers that are behind the others.
        lag_messages: how many messages the slowest is behind with.
        log_bytes: what its log costs now.
        messages: published since it was opened.
        bytes: what these were as plain frames.
        held: whether its publishers are not read, for the sake of the slow.
    """

    name: str
    members: int
    publishers: int
    subscribers: int
    slow: int
    lag_messages: int
    log_bytes: int
    messages: int
    bytes: int
    held: bool


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """A connection.

    Attributes:
        number: its number in this process, counted from 1.
        peer: its client's address.
        room: the room that it is or was in; empty until it opens.
        identity: who it is, as its grant says; ``None`` is anonymous.
        state: ``handshake``, ``open``, ``closing`` or ``closed``.
        seconds: since it has opened; 0 until then.
        messages_in: messages that it published.
        bytes_in: what they were as plain frames: unmasked, in one piece, inflated.
        messages_out: messages that its transport was given for it.
        bytes_out: what they are as plain frames, before deflating.
        paused: whether something waits in its transport, because it does not read.
        held: whether it is not read for now, because it sent too much or for the sake of the slow.
    """

    number: int
    peer: str
    room: str
    identity: str | None
    state: str
    seconds: float
    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    paused: bool
    held: bool
