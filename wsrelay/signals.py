"""Signals of a standalone relay, from before its configuration is read until its end.

Must not live here: what a signal does (:mod:`wsrelay.process`).
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

__all__ = ["Signals"]

#: The signals that stop a relay.
_STOPS: Final = frozenset([signal.SIGTERM, signal.SIGINT])


class Signals:
    """Keeps signals that come before the relay runs, and passes them on from then on.

    Python's defaults would end the process: by SIGHUP, too, which asks for a reload (TRAPS 40). A kept signal counts
    once. A second stop signal before the relay runs ends the process at once by that signal: the start may hang.
    """

    __slots__ = ("_handle", "_kept")

    def __init__(self) -> None:
        self._handle: Callable[[signal.Signals], object] | None = None
        self._kept: dict[signal.Signals, None] = {}

    def take(self, *numbers: signal.Signals) -> None:
        """Replace the handlers of signals by this object's."""
        for number in numbers:
            signal.signal(number, self._receive)

    def deliver(self, handle: Callable[[signal.Signals], object]) -> None:
        """Pass signals to a function: the kept ones now, in their order, and each later one when it comes."""
        self._handle = handle
        kept, self._kept = self._kept, {}
        for received in kept:
            handle(received)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if self._handle is not None:
            self._handle(received)
        elif received in _STOPS and _STOPS & self._kept.keys():
            signal.signal(received, signal.SIG_DFL)
            signal.raise_signal(received)
        else:
            self._kept[received] = None
