"""Grant: the rights of one connection, the result of its handshake.

Pure data. Must not live here: validators (:mod:`wsrelay.validators`), enforcement (:mod:`wsrelay.connection`).
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

__all__ = ["HISTORY_RIGHTS", "MAX_IDENTITY_BYTES", "Grant", "HistoryRight", "check_identity"]

#: See :attr:`Grant.history`.
HistoryRight = Literal["none", "resume", "all"]

#: The least first.
HISTORY_RIGHTS: Final[tuple[HistoryRight, ...]] = get_args(HistoryRight)

#: The maximum length of an identity in bytes of UTF-8: each connection keeps one. OpenID Connect Core 1.0, section 2,
#: has the same limit for ``sub``.
MAX_IDENTITY_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of a connection. After the handshake only the grant counts; the request is not read again.

    Attributes:
        room: the canonical name of its room (:func:`wsrelay.names.check_room`).
        identity: the client's name in logs and for operators, see :func:`check_identity`; ``None`` is anonymous.
        subprotocol: one of the offered subprotocols, or ``None``.
        can_publish: whether its messages are relayed; ``False``: its first message closes it with 1008.
        can_subscribe: whether it receives messages.
        expires_at: seconds since the epoch; then it is closed with 4401. ``None`` is never.
        history: which old messages it may get, in a room with history and with ``can_subscribe``. ``none``: none, and
            no ids; ``since`` and ``last`` are refused with 403. ``resume``: those after an id (``since``); no ``last``
            and no greeting. ``all``: any. An id is no secret and can be guessed: ``resume`` keeps newcomers from being
            shown the past, but a client can name an older id.
    """

    room: str
    identity: str | None = None
    subprotocol: str | None = None
    can_publish: bool = True
    can_subscribe: bool = True
    expires_at: float | None = None
    history: HistoryRight = "all"

    def narrowed(
        self,
        *,
        room: str | None = None,
        identity: str | None = None,
        subprotocol: str | None = None,
        can_publish: bool = True,
        can_subscribe: bool = True,
        expires_at: float | None = None,
        history: HistoryRight = "all",
    ) -> "Grant":
        """Return a grant with the same or fewer rights.

        Rights are and-ed, and the lesser history and the earlier expiry hold, so that no validator restores a right
        that an earlier one removed. ``room``, ``identity`` and ``subprotocol`` replace this grant's unless ``None``.
        """
        expiries = [when for when in (self.expires_at, expires_at) if when is not None]
        return replace(
            self,
            room=self.room if room is None else room,
            identity=self.identity if identity is None else identity,
            subprotocol=self.subprotocol if subprotocol is None else subprotocol,
            can_publish=self.can_publish and can_publish,
            can_subscribe=self.can_subscribe and can_subscribe,
            expires_at=min(expiries, default=None),
            history=self.history if history == "all" else min(self.history, history, key=HISTORY_RIGHTS.index),
        )


def check_identity(identity: str | None) -> None:
    """Raise ``ValueError`` for a text that cannot be an identity.

    Its length in UTF-8 is at most :data:`MAX_IDENTITY_BYTES`; a lone surrogate has no UTF-8, and no JSON. Not cut: two
    identities could become one.
    """
    if identity is None:
        return
    try:
        length = len(identity.encode())
    except UnicodeEncodeError:
        raise ValueError("the identity has a lone surrogate") from None
    if length > MAX_IDENTITY_BYTES:
        raise ValueError(f"the identity is longer than {MAX_IDENTITY_BYTES} bytes")
