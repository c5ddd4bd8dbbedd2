"""The local backplane: one process, so messages go straight to the hub. The reference for other backplanes.

Must not live here: rooms and delivery (:mod:`wsrelay.rooms`).
"""

from collections.abc import Callable
from typing import Protocol

from wsrelay.interfaces import Subscriber
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.rooms.hub import Hub
from wsrelay.stats import BackplaneStatus, NodeStatus

__all__ = ["LocalBackplane"]


class Publish(Protocol):
    """The type of :meth:`wsrelay.interfaces.Backplane.publish`."""

    def __call__(self, room: str, run: Run) -> None:
        """See :meth:`wsrelay.interfaces.Backplane.publish`."""


class LocalBackplane:
    """A :class:`wsrelay.interfaces.Backplane` for one process: nothing to wait for, nothing that can fail.

    Args:
        hub: the rooms of this process.
        describe: returns the description of this process.

    Attributes:
        publish: the hub's own method, so that this object costs no call.
    """

    __slots__ = ("_describe", "publish")

    publish: Publish

    def __init__(self, hub: Hub, describe: Callable[[], NodeStatus]) -> None:
        self.publish = hub.publish
        self._describe = describe

    def enter(self, room: str, since: MessageId | None = None) -> None:
        """See :class:`wsrelay.interfaces.Backplane`, as for the other methods."""

    def check(self, room: str) -> None:
        """Nothing is refused."""

    def hold(self, room: str, publisher: Subscriber) -> bool:
        """Hold no publisher."""
        return False

    def start(self) -> None:
        """Nothing is to be done."""

    async def stop(self) -> None:
        """Nothing is to be done."""

    def status(self) -> BackplaneStatus:
        """Return the state, always the same."""
        return BackplaneStatus("local")

    async def nodes(self) -> list[NodeStatus]:
        """Return this process."""
        return [self._describe()]
