"""Every exception that wsrelay raises on purpose.

::

    RelayError
    ├── SettingsError       wrong options, all of them in one
    ├── OperatorError       a failure that the operator can correct
    ├── BadRoomName         an invalid room name in a path, claim or grant
    └── Denied              refuses a handshake: HTTP status, reason, headers
        └── RoomFull, TooManyRooms (raised by the hub; 503), BackplaneDown (by a backplane; 503)

Must not live here: close codes (:mod:`wsrelay.closecodes`).
"""

from collections.abc import Sequence

__all__ = [
    "BackplaneDown",
    "BadRoomName",
    "Denied",
    "OperatorError",
    "RelayError",
    "RoomFull",
    "SettingsError",
    "TooManyRooms",
]


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


class OperatorError(RelayError):
    """A failure that the operator can correct; its text says what happened and what to do.

    It is logged as one line, without a traceback (:func:`wsrelay.logs.failures.log_failure`).
    """


class BadRoomName(RelayError):
    """An invalid room name in a path, claim or grant; the text says what is wrong."""


class Denied(RelayError):
    """A validator (or the relay itself) refuses a handshake.

    Args:
        status: an HTTP status from 400 to 599; anything else becomes 500.
        reason: one line of printable ASCII, without secrets: the client reads it.
        headers: extra response headers as (name, value), for example ``Retry-After``.
        cause: the label for counters and the log: the limiting option, with underscores, or one word for the fault;
            few different ones. Empty: the name of the validator.

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
    """The room has ``max_room_members`` members."""

    def __init__(self) -> None:
        super().__init__(503, "this room is full: try again later", [("Retry-After", "10")], cause="max_room_members")


class TooManyRooms(Denied):
    """The relay has ``max_rooms`` rooms."""

    def __init__(self) -> None:
        super().__init__(503, "too many rooms: try again later", [("Retry-After", "10")], cause="max_rooms")


class BackplaneDown(Denied):
    """There is no broker, or it does not take more messages now.

    Args:
        reason: the reason for the client.
        retry_seconds: when to try again.
    """

    def __init__(self, reason: str = "no broker: try again later", retry_seconds: int = 10) -> None:
        super().__init__(503, reason, [("Retry-After", str(retry_seconds))], cause="backplane")
