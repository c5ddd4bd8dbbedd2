"""What a handshake is granted: the only thing later code may look at.

Pure data. Validators build it (:mod:`wsrelay.validators.chain` runs them); the protocol obeys it.
"""

from dataclasses import dataclass, replace

__all__ = ["Grant"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a connection may do. What it says is what holds: the request is not looked at again.

    Attributes:
        room: the room it joins: canonical (:func:`wsrelay.names.check_room`).
        identity: who it is, for logs and for operators; ``None`` is anonymous.
        subprotocol: one of the offered subprotocols, or ``None``.
        can_publish: whether its messages are relayed; a publish without it closes with 1008.
        can_subscribe: whether it receives messages.
        expires_at: seconds since the epoch after which it is closed with 4401; ``None`` is never.
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
        """Return a grant that allows no more than this one.

        A validator behind another cannot give back what the first took: rights are and-ed, the earlier expiry
        wins. ``room``, ``identity`` and ``subprotocol`` replace where they are given.
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
