"""A program with a relay and timers of its own. It sets its wall clock, and ends when all its timers were called.

python timers.py REACTOR SECONDS        # with the environment of clocks.WallClock
"""

import asyncio
import os
import struct
import sys
from importlib import import_module
from pathlib import Path

name, seconds = sys.argv[1:]
module = import_module(f"twisted.internet.{name}reactor")
module.install(*[asyncio.new_event_loop()] * (name == "asyncio"))

# After the reactor that they use has been installed.
from twisted.internet import reactor  # noqa: E402
from twisted.internet.task import LoopingCall  # noqa: E402

from wsrelay.factory import RelayFactory  # noqa: E402
from wsrelay.settings import Settings  # noqa: E402

missing = {"before", "before, reset", "looping", "after", "at once"}


def called(timer: str) -> None:
    """Stop when it was the last one."""
    missing.discard(timer)
    if not missing and reactor.running:
        reactor.stop()


def step() -> None:
    """Set the clock; then begin the last timers."""
    with Path(os.environ["CLOCK_SHIFT"]).open("r+b") as file:
        file.write(struct.pack("@l", int(seconds)))
    reset.reset(0.1)
    reactor.callLater(0.1, called, "after")
    reactor.callLater(0, called, "at once")


reactor.callLater(0.1, called, "before")
reset = reactor.callLater(1000, called, "before, reset")
never = reactor.callLater(1000, sys.exit, "called too early")
RelayFactory(Settings(), [], reactor)
reactor.callLater(0, step)
LoopingCall(called, "looping").start(0.1, now=False)
reactor.run()
assert never.active()
sys.stdout.write(f"{type(reactor).__name__} has called all timers\n")
