"""Grant: the rights of one connection, the result of its handshake.

Pure data. Must not live here: validators (:mod:`wsrelay.validators`), enforcement (:mod:`wsrelay.connection`).
"""

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["MAX_IDENTITY_BYTES", "Grant", "check_identity"]

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
    """

    room: str
    identity: str | None = None
    subprotocol: str | None = None
    can_publish: bool = True
    can_subscribe: bool = True
    expires_at: float | None = None

    def narrowed(
        self,
        *,
        room: str | None = None,
        identity: str | None = None,
        subprotocol: str | None = None,
        can_publish: bool = True,
        can_subscribe: bool = True,
        expires_at: float | None = None,
    ) -> "Grant":
        """Return a grant with the same or fewer rights.

        Rights are and-ed and the earlier expiry holds, so that no validator restores a right that an earlier one
        removed. ``room``, ``identity`` and ``subprotocol`` replace this grant's unless ``None``.
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
