"""``wsrelay say ROOM [TEXT…]``: sends messages to a room, and ends when the relay has taken them.

Must not live here: the connection (:mod:`wsrelay.commands.client`).
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

from wsrelay.commands.client import Client, Ending, connect, note, run_reactor
from wsrelay.commands.target import Target, add_arguments, target, utf8

__all__ = ["SUMMARY", "configure", "run", "say", "send_lines"]

SUMMARY: Final = (
    "Send one text message to a room, or without TEXT each line of standard input as one. Exit code 0: the relay has"
    " taken all of them. 1: it was refused, or the connection was lost."
)

#: A fifth of what a relay takes from one connection by default (--max-messages-per-second).
_RATE: Final = 10**3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the room, and what to send."""
    add_arguments(parser)
    parser.add_argument(
        "text", nargs="*", type=utf8, metavar="TEXT", help="the message; several words are joined by spaces"
    )
    parser.add_argument(
        "--rate", type=_rate, default=_RATE, metavar="COUNT", help=f"most messages per second [default: {_RATE}]"
    )


def run(arguments: argparse.Namespace) -> int:
    """Send, and wait until the relay has taken everything."""
    where = target(arguments)

    def send_all(reactor: Any, client: Client) -> "Deferred[None]":
        if arguments.text:
            return client.send(" ".join(arguments.text))
        # Not sys.stdin: a thread that reads holds its lock, and the interpreter waits for that at its exit.
        return _in_thread(reactor, lambda: send_lines(reactor, client, open(0, "rb", closefd=False), arguments.rate))

    return run_reactor(lambda reactor: say(reactor, where, send_all))


async def say(
    reactor: Any,  # Any: several interfaces at once
    where: Target,
    send_all: Callable[[Any, Client], "Deferred[None]"],
    endpoint: IStreamClientEndpoint | None = None,
) -> int:
    """Send messages, and close.

    Args:
        reactor: the reactor.
        where: the room.
        send_all: called with the reactor and the connection; fires when all messages are sent.
        endpoint: where to connect, instead of the target's own.

    Returns:
        The exit code: 0 when the relay has taken all of them.
    """
    connected = await connect(reactor, where, endpoint=endpoint)
    if not isinstance(connected, Client):
        note(connected.why)
        return 1
    await _first(send_all(reactor, connected), connected.ended)
    ending = await connected.finish()
    if not ending.is_clean:
        note(f"{ending.why}; the last messages may not have arrived")
    return 0 if ending.is_clean else 1


def _first(sent: "Deferred[None]", ended: "Deferred[Ending]") -> "Deferred[object]":
    """Return what fires when all is sent, or the connection has ended; a failure to read the input fails it."""
    first: Deferred[object] = Deferred()

    def end(ending: Ending) -> Ending:
        if not first.called:
            first.callback(None)
        return ending

    ended.addCallback(end)
    sent.addBoth(lambda outcome: None if first.called else first.callback(outcome))
    return first


def _in_thread(reactor: Any, work: Callable[[], None]) -> "Deferred[None]":
    """Run some work in a thread that does not delay the exit: nothing ends a read from a terminal."""
    done: Deferred[None] = Deferred()

    def run_work() -> None:
        outcome: Failure | None = None
        try:
            work()
        except Exception:  # noqa: BLE001 - raised where it is waited for
            outcome = Failure()
        reactor.callFromThread(done.callback, outcome)

    threading.Thread(target=run_work, daemon=True).start()
    return done


def send_lines(reactor: Any, client: Client, lines: Iterable[bytes], rate: float) -> None:
    """Send lines, from a thread: each when the connection takes it, and at most so many per second.

    Args:
        reactor: the reactor of the connection.
        client: the connection.
        lines: the input.
        rate: the most messages per second.

    Raises:
        OSError: the input cannot be read.
    """
    began = time.monotonic()
    for number, line in enumerate(_named(lines)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        text = line.decode(errors="replace").rstrip("\r\n")
        blockingCallFromThread(reactor, client.send, text)  # type: ignore[arg-type]  # annotated too narrowly


def _named(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Pass on lines; an error names their file, for who reads it."""
    try:
        yield from lines
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard input") from None


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if rate > 0:
        return rate
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
