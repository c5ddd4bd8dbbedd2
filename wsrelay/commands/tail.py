"""``wsrelay tail ROOM``: prints the messages of a room, and reconnects as docs/clients.md says.

Must not live here: the connection (:mod:`wsrelay.commands.client`).
"""

import argparse
import base64
import json
import random
import re
import select
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall, deferLater

from wsrelay.commands.client import Client, Ending, connect, note, run_reactor
from wsrelay.commands.streams import silence
from wsrelay.commands.target import Target, add_arguments, target
from wsrelay.policies import MAX_COUNT

__all__ = ["SUMMARY", "configure", "follow", "run"]

SUMMARY: Final = (
    "Print the messages of a room, each on a line, until Ctrl-C (exit code 130). A lost connection is made again, with"
    " back-off; a refusal, or a close after which a new connection would end the same, ends the command with 1."
)

#: Bounds of the wait before a reconnect, and how long a connection must last so that the first one counts again.
_FIRST_SECONDS: Final = 0.5
_MOST_SECONDS: Final = 30.0
_LASTED_SECONDS: Final = 10.0

#: How often it is checked whether anybody reads.
_CHECK_SECONDS: Final = 1.0

#: What could control the terminal.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the room, and what to print."""
    add_arguments(parser)
    parser.add_argument(
        "--last", type=_count, metavar="COUNT", help="first the last messages of a room with history (--history)"
    )
    parser.add_argument("--json", action="store_true", help='print {"text": …} or {"base64": …} for each message')


def run(arguments: argparse.Namespace) -> int:
    """Print until the end."""
    first = target(arguments, "" if arguments.last is None else f"last={arguments.last}")
    printer = Printer(sys.stdout, as_json=arguments.json)
    return run_reactor(lambda reactor: follow(reactor, first, target(arguments), printer))


class Printer:
    """Prints messages, one on a line.

    Attributes:
        broken: fires when nothing more can be printed; with ``None``, nobody reads any more: ``| head`` has enough.
    """

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._form: Callable[[bytes, bool], str] = _as_json if as_json else _as_text
        self._guard = _CONTROL if stream.isatty() and not as_json else None
        self.broken: Deferred[OSError | None] = Deferred()

    def __call__(self, payload: bytes, is_binary: bool) -> None:
        """Print one message."""
        text = self._form(payload, is_binary)
        line = self._guard.sub("\N{REPLACEMENT CHARACTER}", text) if self._guard else text
        try:
            self._stream.buffer.write(f"{line}\n".encode())
            self._stream.buffer.flush()
        except BrokenPipeError:
            self._end()
        except OSError as error:  # the disk is full
            self._end(error)

    def check(self) -> None:
        """Look whether anybody still reads, although there is nothing to print."""
        poll = select.poll()
        poll.register(self._stream.fileno(), 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            self._end()

    def _end(self, error: OSError | None = None) -> None:
        if not self.broken.called:
            silence(self._stream)
            self.broken.callback(error)


def _as_text(payload: bytes, is_binary: bool) -> str:
    return f"({len(payload)} bytes)" if is_binary else payload.decode(errors="replace")


def _as_json(payload: bytes, is_binary: bool) -> str:
    if is_binary:
        return json.dumps({"base64": base64.b64encode(payload).decode()})
    return json.dumps({"text": payload.decode(errors="replace")})


async def follow(
    reactor: Any,  # Any: several interfaces at once
    first: Target,
    later: Target,
    printer: Printer,
    *,
    endpoint: IStreamClientEndpoint | None = None,
    uniform: Callable[[float, float], float] = random.uniform,
) -> int:
    """Print until the reader has enough or a reconnect is useless.

    Args:
        reactor: the reactor.
        first: the room for the first connection, which may ask for history.
        later: for the others.
        printer: gets the messages.
        endpoint: where to connect, instead of the targets' own.
        uniform: the source of jitter.

    Returns:
        The exit code: 0 when nobody reads any more, 1 when a reconnect is useless.

    Raises:
        OSError: the output cannot be written.
    """
    at, attempt, was_open = first, 0, False
    while True:
        began = reactor.seconds()
        connected = await connect(reactor, at, printer, endpoint)
        if isinstance(connected, Client):
            note(f"connected to {later.shown}")
            at, was_open = later, True
            ending = await _until_end(reactor, connected, printer)
            attempt = 0 if reactor.seconds() - began > _LASTED_SECONDS else attempt
        else:
            ending = connected
        if printer.broken.called:
            return _end_of_output(await printer.broken)
        if ending.is_final or not (was_open or ending.retry_seconds):
            note(ending.why)
            return 1
        seconds = ending.retry_seconds + uniform(0, min(_MOST_SECONDS, _FIRST_SECONDS * 2**attempt))
        attempt += 1
        note(f"{ending.why}; again in {seconds:.1f} s; messages meanwhile are missed")
        await deferLater(reactor, seconds)


async def _until_end(reactor: Any, client: Client, printer: Printer) -> Ending:
    """Wait for the end; close when nobody reads."""

    def close(error: OSError | None) -> OSError | None:
        client.sendClose()
        return error

    printer.broken.addCallback(close)
    checks = LoopingCall(printer.check)
    checks.clock = reactor
    checks.start(_CHECK_SECONDS)
    try:
        return await client.ended
    finally:
        checks.stop()


def _end_of_output(error: OSError | None) -> int:
    if error is not None:
        raise error
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number up to {MAX_COUNT}")
    return int(text)
