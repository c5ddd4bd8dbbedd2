"""The local backplane: one process, so messages go straight to the hub. The reference for other backplanes.

Must not live here: rooms and delivery (:mod:`wsrelay.rooms`).
"""

from typing import Protocol

from wsrelay.message import Run
from wsrelay.rooms.hub import Hub

__all__ = ["LocalBackplane"]


class Publish(Protocol):
    """The type of :meth:`wsrelay.interfaces.Backplane.publish`."""

    def __call__(self, room: str, run: Run) -> None:
        """See :meth:`wsrelay.interfaces.Backplane.publish`."""


class LocalBackplane:
    """A :class:`wsrelay.interfaces.Backplane` for one process.

    Args:
        hub: the rooms of this process.

    Attributes:
        publish: the hub's own method, so that this object costs no call.
    """

    __slots__ = ("publish",)

    publish: Publish

    def __init__(self, hub: Hub) -> None:
        self.publish = hub.publish
