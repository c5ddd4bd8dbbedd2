"""The local backplane: one process, so a message goes straight to the hub. The reference for all others."""

from collections.abc import Sequence

from wsrelay.message import Message
from wsrelay.rooms.hub import Hub

__all__ = ["LocalBackplane"]


class LocalBackplane:
    """See :class:`wsrelay.interfaces.Backplane`.

    Args:
        hub: this process's rooms.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def publish(self, room: str, messages: Sequence[Message]) -> None:
        """Deliver messages to the room's members in this process, at the end of this reactor turn."""
        self._hub.publish(room, messages)
