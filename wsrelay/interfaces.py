"""The seams of wsrelay: what a stranger may implement without asking us.

Nothing is implemented here. Where a seam is used by plugins it is a zope ``Interface`` (``twisted.plugin``
finds providers by it); where it is only called, a typing ``Protocol``.
"""

from collections.abc import Awaitable, Callable
from enum import IntFlag
from typing import Protocol, runtime_checkable

from zope.interface import Attribute, Interface

from wsrelay.closecodes import CloseReason
from wsrelay.grant import Grant
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.request import HandshakeRequest
from wsrelay.stats import BackplaneStatus, NodeStatus
from wsrelay.wire.frames import Encoding

__all__ = [
    "Backplane",
    "Hold",
    "IHandshakeValidator",
    "IHandshakeValidatorFactory",
    "Send",
    "Subscriber",
    "UsesDescriptors",
]

#: Writes bytes and returns how many it took; a socket's own ``send`` is one.
Send = Callable[[bytes], int]


class Hold(IntFlag):
    """A reason for which a connection is not read. Each is taken back by the part that gave it."""

    #: Rate limits were exceeded.
    RATE = 1
    #: The room holds its publishers for a slow subscriber.
    ROOM = 2
    #: No reason is left; reading begins in a later turn.
    RESUMING = 4
    #: The backplane's broker does not take more for now.
    BACKPLANE = 8


class Subscriber(Protocol):
    """A connection as rooms see it. Hashed by identity; a member of at most one room.

    Paused from :meth:`wsrelay.rooms.hub.Hub.pause`, or from the first ``send`` that did not take all, to
    :meth:`~wsrelay.rooms.hub.Hub.resume`: its room keeps its cursor, and writes nothing.

    ``encoding`` and ``send`` are fixed once it has joined.
    """

    @property
    def encoding(self) -> Encoding:
        """Makes its frames of plain ones."""

    @property
    def send(self) -> Send:
        """Writes whole frames to the peer, never blocks, and returns the number of bytes that it took.

        An ``OSError``, such as ``BlockingIOError``, means 0.
        """

    def write_later(self, data: bytes, sent: int) -> None:
        """Write ``data[sent:]`` before anything else; when that is done, call ``Hub.resume``.

        Not given as a slice, which would be a copy: all that do not take a large message share its bytes.
        """

    def skipped(self, at: MessageId, why: str) -> None:
        """Messages before an id are left out for it; called only in rooms with history. Must not raise.

        Args:
            at: what follows is behind this.
            why: the slow policy's name, or ``lost``: a backplane has lost them.
        """

    def evict(self, reason: CloseReason) -> None:
        """Close, and tell the peer the reason; call ``Hub.leave`` before returning. Must not raise."""

    def hold(self, why: Hold = Hold.ROOM) -> None:
        """Stop reading what it publishes; what was read already is still published. Must not raise.

        No effect where it is held for that reason already.
        """

    def release(self, why: Hold = Hold.ROOM) -> None:
        """Read on, in a later turn of the reactor: it must not publish before it returns. Must not raise.

        No effect where it is not held for that reason, and none yet where another reason is left.
        """

    def fail(self, error: Exception) -> None:
        """``send`` raised another error: log it, close with 1011, and call ``Hub.leave``. Must not raise."""


class Backplane(Protocol):
    """Carries messages between the processes that serve one room. :mod:`wsrelay.backplane.local` is the reference."""

    def publish(self, room: str, run: Run) -> None:
        """Deliver messages, in their order, to the room's members in this and other processes; return at once.

        Nothing is refused here: :meth:`hold` and :meth:`check` come before.

        Args:
            room: a canonical room name.
            run: from this process; not changed by it any more. Messages to a room without members are dropped.
        """

    def enter(self, room: str, since: MessageId | None = None) -> Awaitable[None] | None:
        """Make the room's messages come to this process, before a member joins it.

        Args:
            room: a canonical room name.
            since: the id behind which the member wants everything. If it is ahead of this process, wait for it, 2 s at
                most: another process may have delivered it before. ``None``: it wants nothing.

        Returns:
            ``None`` if they come already. Else what is done, or fails with ``Denied``, as soon as that is known; it may
            be cancelled.

        Raises:
            wsrelay.errors.Denied: 503, there is no broker.
        """

    def check(self, room: str) -> None:
        """Raise ``Denied``, 503, where a message could not be published soon: for publishers that cannot be held."""

    def hold(self, room: str, publisher: Subscriber) -> bool:
        """Hold a publisher (:attr:`Hold.BACKPLANE`) if the broker does not take its messages fast enough.

        Called only while the relay is ``congested``, before what was read is published.

        Returns:
            Whether it is held. It is released once there is room again.
        """

    def start(self) -> None:
        """Begin; the reactor runs. Until it has a broker, members wait in :meth:`enter`."""

    async def stop(self) -> None:
        """End, once what was published is with the broker, in bounded time."""

    def status(self) -> BackplaneStatus:
        """Return its state now, for readiness and metrics."""

    async def nodes(self) -> list[NodeStatus]:
        """Return the processes that serve rooms together with this one, itself included."""


@runtime_checkable
class UsesDescriptors(Protocol):
    """A validator that holds file descriptors open, such as connections to a back end."""

    @property
    def descriptors(self) -> int:
        """The most at once; taken off the limit on open files before that is divided among clients."""


class IHandshakeValidator(Interface):
    """Decides about handshakes. One instance serves all connections, so it holds no connection's state."""

    def validate(request: HandshakeRequest, grant: Grant) -> Grant | Awaitable[Grant]:
        """Return what is granted, at once or later: a Deferred, a coroutine, or what else can be awaited.

        A coroutine may await Deferreds, and where Twisted's asyncio reactor runs also what asyncio can await.

        Args:
            request: what the client asks for; frozen.
            grant: what the validators before this one granted. Return it, or ``grant.narrowed(…)``.

        Raises:
            wsrelay.errors.Denied: the handshake is refused with that status and reason.

        Any other exception, anything but a :class:`~wsrelay.grant.Grant`, and an answer that does not come
        in time refuse the handshake too (500, 500, 504), with a fixed text. It must not block.
        """


class IHandshakeValidatorFactory(Interface):
    """Makes a validator from its ``--validate NAME[:ARGUMENTS]``. Found by ``twisted.plugin``.

    To add one, ship a file in ``twisted/plugins/`` with an instance that provides this interface and
    ``twisted.plugin.IPlugin``; it may import only what is cheap (every twistd run imports it).
    """

    name = Attribute("The NAME in --validate: str, lower-case letters, digits and dashes.")
    usage = Attribute("The arguments on one line, as --help-validators shows them: str, may be empty.")
    description = Attribute("What it checks, in one sentence: str.")

    def validator(arguments: str) -> IHandshakeValidator:
        """Return an :class:`IHandshakeValidator`.

        Args:
            arguments: what stands behind "NAME:", as it is; empty when there is nothing.
                :func:`wsrelay.validators.arguments.parse` reads the built-in ones' form.

        Raises:
            ValueError: the arguments are wrong; the text says what to write instead. A file that cannot be
                read may raise ``OSError``.
        """
