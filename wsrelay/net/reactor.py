"""LeanReactor: Twisted's epoll reactor with a cheaper dispatch, and an end of the turn.

A turn is: timed calls that are due, one ``epoll_wait``, its events, the end. Twisted calls each event in a logging
context of its own, 2 µs, and a call at the end of a turn is a timed call of 0 s, 1.5 µs: together a tenth of what a
message costs in a small room. Source: issue 14.

Linux only: elsewhere the import fails, as that of Twisted's epoll reactor does. Must not live here: the choice of a
reactor (:mod:`wsrelay.tap`).
"""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.epollreactor import EPOLLIN, EPOLLOUT, EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python import log

__all__ = ["LeanReactor", "install"]

_log = Logger(namespace="wsrelay")


class _Selectable(Protocol):
    """What the reactor asks of a socket. See :class:`twisted.internet.interfaces.IReadWriteDescriptor`."""

    def fileno(self) -> int: ...

    def doRead(self) -> object: ...

    def doWrite(self) -> object: ...


class LeanReactor(EPollReactor):
    """The epoll reactor of Twisted, which replaces :meth:`doPoll` (TRAPS 143).

    The only difference to see: within ``doRead`` and ``doWrite`` the ``system`` of old-style ``twisted.python.log``
    messages is ``-``, unless they report the failure of the socket. Loggers of ``twisted.logger`` have no ``system``.
    """

    def __init__(self) -> None:
        self._at_end: list[Callable[[], object]] = []
        super().__init__()

    def callAtEndOfTurn(self, function: Callable[[], object]) -> None:
        """Call a function once, after all events of this turn, in the order of these calls.

        Before the reactor runs, and from such a function itself, it is the end of the next turn; that turn does not
        wait for events, but handles those that have come. An exception is logged like that of a timed call, and the
        remaining functions are called. Not for other threads: use ``callFromThread``.
        """
        self._at_end.append(function)

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, handle them, and end the turn.

        Complexity:
            Two Python calls less per event than Twisted's. Only events of one kind are handled here, which nearly all
            are: to read, or to write. All others are left to Twisted, also errors and sockets without a descriptor.

        Args:
            timeout: in seconds; ``None``: without bound.
        """
        if self._at_end:
            timeout = 0
        elif timeout is None:
            timeout = -1
        selectables: dict[int, _Selectable] = self._selectables
        for descriptor, event in self._poller.poll(timeout, len(selectables)):
            selectable = selectables.get(descriptor)
            if selectable is None:  # removed by an earlier event of this turn
                continue
            try:
                if event == EPOLLIN and selectable.fileno() != -1:
                    why, in_read = selectable.doRead(), True
                elif event == EPOLLOUT and selectable.fileno() != -1:
                    why, in_read = selectable.doWrite(), False
                else:
                    log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, event)
                    continue
            except BaseException as error:  # noqa: BLE001 - as Twisted: no exception of one socket ends the reactor
                log.callWithLogger(selectable, self._fail, selectable, error)
                continue
            if why:
                log.callWithLogger(selectable, self._disconnectSelectable, selectable, why, in_read)
        if self._at_end:
            self._end_turn()

    doIteration = doPoll

    def _fail(self, selectable: _Selectable, error: BaseException) -> None:
        """Log the exception that is being handled, and end its socket with it."""
        log.err()
        self._disconnectSelectable(selectable, error, False)

    def _end_turn(self) -> None:
        functions, self._at_end = self._at_end, []
        for function in functions:
            try:
                function()
            except BaseException:  # noqa: BLE001 - as Twisted for timed calls
                _log.failure("while handling a call at the end of a turn")


def install() -> None:
    """Install a :class:`LeanReactor` as the reactor of this process.

    Raises:
        twisted.internet.error.ReactorAlreadyInstalledError: there is one.
    """
    installReactor(LeanReactor())
