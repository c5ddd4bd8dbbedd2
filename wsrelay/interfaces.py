"""The seams of wsrelay: what a stranger may implement without asking us.

Nothing is implemented here. Where a seam is used by plugins it is a zope ``Interface`` (``twisted.plugin``
finds providers by it); where it is only called, a typing ``Protocol``.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from zope.interface import Attribute, Interface

from wsrelay.closecodes import CloseReason
from wsrelay.grant import Grant
from wsrelay.message import Run
from wsrelay.request import HandshakeRequest
from wsrelay.wire.frames import Encoding

__all__ = [
    "Backplane",
    "IHandshakeValidator",
    "IHandshakeValidatorFactory",
    "Send",
    "Subscriber",
    "UsesDescriptors",
]

#: Writes bytes and returns how many it took; a socket's own ``send`` is one.
Send = Callable[[bytes], int]


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

    def evict(self, reason: CloseReason) -> None:
        """Close, and tell the peer the reason; call ``Hub.leave`` before returning. Must not raise."""

    def hold(self) -> None:
        """Stop reading what it publishes; what was read already is still published. Must not raise.

        No effect where it is held already.
        """

    def release(self) -> None:
        """Read on, in a later turn of the reactor: it must not publish before it returns. Must not raise.

        No effect where it is not held.
        """

    def fail(self, error: Exception) -> None:
        """``send`` raised another error: log it, close with 1011, and call ``Hub.leave``. Must not raise."""


class Backplane(Protocol):
    """Carries messages between the processes that serve one room. :mod:`wsrelay.backplane.local` is the reference."""

    def publish(self, room: str, run: Run) -> None:
        """Deliver messages, in their order, to the room's members in this and other processes; return at once.

        Args:
            room: a canonical room name.
            run: from this process; not changed by it any more. Messages to a room without members are dropped.
        """


@runtime_checkable
class UsesDescriptors(Protocol):
    """A validator that holds file descriptors open, such as connections to a back end."""

    @property
    def descriptors(self) -> int:
        """The most at once; taken off the limit on open files before that is divided among clients."""


class IHandshakeValidator(Interface):
    """Decides about handshakes. One instance serves all connections, so it holds no connection's state."""

    def validate(request: HandshakeRequest, grant: Grant) -> Grant | Awaitable[Grant]:
        """Return what is granted, at once or later (a coroutine or a Deferred).

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
