"""Every exception that wsrelay raises on purpose.

::

    RelayError
    ├── SettingsError       our operator's fault: wrong options, all of them in one
    ├── BadRoomName         the client's fault: a path or claim that names no room
    └── Denied              a handshake is refused: HTTP status, reason, headers
        └── RoomFull, TooManyRooms (raised by the hub; 503)

Close codes are not exceptions: see :mod:`wsrelay.closecodes`.
"""

from collections.abc import Sequence

__all__ = ["BadRoomName", "Denied", "RelayError", "RoomFull", "SettingsError", "TooManyRooms"]


class RelayError(Exception):
    """The root of the tree; never raised itself."""


class SettingsError(RelayError):
    """One or more settings are wrong.

    Attributes:
        problems: one sentence per wrong value, in the order of the fields; never empty.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class BadRoomName(RelayError):
    """A path, claim or grant that names no room; its text says what is wrong with it."""


class Denied(RelayError):
    """A validator (or the relay itself) refuses a handshake.

    Args:
        status: an HTTP status from 400 to 599; anything else becomes 500.
        reason: one line of printable ASCII; the client reads it, so no secrets in it.
        headers: extra response headers as (name, value), for example ``Retry-After``.
        cause: what it is counted under, one of few words: the option that sets the limit, with underscores, or what
            else was wrong. Validators need not say one: theirs is their name.

    Peer sees:
        The status, and the reason as the body of the response.
    """

    def __init__(self, status: int, reason: str, headers: Sequence[tuple[str, str]] = (), *, cause: str = "") -> None:
        super().__init__(status, reason)
        self.cause = cause
        self.status = status if isinstance(status, int) and 400 <= status <= 599 else 500
        self.reason = reason
        self.headers = tuple(headers)


class RoomFull(Denied):
    """The room has as many members as it may have."""

    def __init__(self) -> None:
        super().__init__(503, "this room is full", [("Retry-After", "10")], cause="max_room_members")


class TooManyRooms(Denied):
    """The relay has as many rooms as it may have."""

    def __init__(self) -> None:
        super().__init__(503, "no more rooms can be opened", [("Retry-After", "10")], cause="max_rooms")
