"""A chat in the terminal: what you type goes to everybody else in the room, and what they say is printed.

    pip install websockets
    python python_client.py ws://127.0.0.1:8080/chat

It comes back when the relay was restarted or the network was gone, and gives up where that is of no use. What is
typed meanwhile waits. Ctrl-D ends it when all has been sent, Ctrl-C at once. RELAY_KEY in the environment is sent as
``Authorization: Bearer``.
"""

import argparse
import asyncio
import math
import os
import random
import re
import sys
import threading
import time
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

#: Close codes behind which there is no use in coming back: the same would happen again (docs/closecodes.md).
FINAL_CODES = {1002, 1003, 1007, 1009, 4403}

#: 1008 is "against the rules". It is final too, unless it is for what was sent too fast, or too slowly.
PASSING_REASONS = ("too fast", "the message took too long")

#: Refusals that pass, beside all from 500 on: the request came too late, or there were too many.
PASSING_STATUSES = {408, 429}


class Ended(Exception):
    """There is no use in trying again; the text says why."""


class Backoff:
    """How long to wait before the next attempt.

    Anything between nothing and a ceiling that doubles: when a relay is back, its clients must not all come at once.

    Args:
        first_seconds: the first ceiling.
        most_seconds: the last one.
    """

    def __init__(self, first_seconds: float, most_seconds: float) -> None:
        self._first_seconds = self._ceiling_seconds = first_seconds
        self._most_seconds = most_seconds

    async def wait(self, why: str, lasted_seconds: float, at_least_seconds: int) -> None:
        """Wait, and say why and for how long.

        Args:
            why: what has gone wrong.
            lasted_seconds: how long all was well; a while makes the next wait a first one again. Merely to get in
                is not enough: some are thrown out at once, over and over.
            at_least_seconds: what the relay asked for.
        """
        if lasted_seconds > self._most_seconds:
            self._ceiling_seconds = self._first_seconds
        seconds = at_least_seconds + random.uniform(0, self._ceiling_seconds)
        self._ceiling_seconds = min(2 * self._ceiling_seconds, self._most_seconds)
        say(f"{why}; again in {seconds:.1f} s")
        await asyncio.sleep(seconds)


class Input:
    """Standard input, a line at a time. Cancels a task when it has ended and all was sent.

    The next line is read when the last one was sent: what is typed meanwhile waits where any program's input waits.
    """

    def __init__(self, task: "asyncio.Task[None]") -> None:
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._unsent: str | None = None
        self._sent = threading.Semaphore(0)
        # A thread, because asyncio cannot wait for a file; a daemon, because nothing ends a read from a terminal.
        threading.Thread(target=self._read, args=[task], daemon=True).start()

    async def send_to(self, connection: ClientConnection) -> None:
        """Send the lines until the connection is closed."""
        with suppress(ConnectionClosed):
            while True:
                # Kept until it was sent: if this connection is lost, the next one has it.
                if self._unsent is None:
                    self._unsent = await self._lines.get()
                await connection.send(self._unsent)
                self._unsent = None
                self._sent.release()

    def _read(self, task: "asyncio.Task[None]") -> None:
        loop = task.get_loop()
        # Not sys.stdin: its lock, held by a thread that reads, is in the way of the interpreter's end.
        # RuntimeError: the loop is closed.
        with suppress(RuntimeError), open(0, "rb", buffering=0, closefd=False) as stream:
            for line in stream:
                loop.call_soon_threadsafe(self._lines.put_nowait, line.decode(errors="replace").rstrip("\r\n"))
                self._sent.acquire()
            loop.call_soon_threadsafe(task.cancel)


def say(text: str) -> None:
    """Say what happens, beside what is chatted."""
    print(f"* {visible(text)}", file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Return a text without what a terminal would obey: somebody else has written it."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


async def talk(connection: ClientConnection, lines: Input) -> str:
    """Send and print until the connection is closed.

    Returns:
        How it was closed.

    Raises:
        Ended: it was closed for good.
    """
    say("connected")
    sending = asyncio.create_task(lines.send_to(connection))
    try:
        with suppress(ConnectionClosed):
            async for message in connection:
                print(visible(message) if isinstance(message, str) else f"({len(message)} bytes)", flush=True)
    finally:
        sending.cancel()
        # Where this was cancelled it is still open. Left to `async with`, it would be closed with 1011, as by a bug.
        await connection.close()
    closed = f"closed: {connection.close_code} {connection.close_reason}".rstrip()
    if is_final(connection.close_code, connection.close_reason or ""):
        raise Ended(closed)
    return closed


def is_final(code: int | None, reason: str) -> bool:
    """Return whether a close code means that the client should not come back."""
    return code in FINAL_CODES or (code == 1008 and not reason.startswith(PASSING_REASONS))


def refusal(error: InvalidStatus) -> tuple[str, int]:
    """Return what a relay has answered to a handshake, and after how many seconds it may be asked again.

    Raises:
        Ended: its answer would be the same.
    """
    status, headers, body = error.response.status_code, error.response.headers, error.response.body
    refused = f"refused: {status} {(body or b'')[:200].decode(errors='replace').rstrip()}"
    if status < 500 and status not in PASSING_STATUSES:
        raise Ended(refused)
    retry_after = headers.get("Retry-After", "")
    return refused, int(retry_after) if retry_after.isdecimal() else 0


async def chat(url: str, backoff: Backoff, ping_seconds: float) -> None:
    """Chat until the end of the input, which cancels this task."""
    task = asyncio.current_task()
    assert task is not None
    lines = Input(task)
    key = os.environ.get("RELAY_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    while True:
        opened_at, at_least_seconds = math.inf, 0
        try:
            async with connect(
                url,
                additional_headers=headers,
                # A network that is gone says nothing; without pings, nothing would ever be noticed.
                ping_interval=ping_seconds,
                ping_timeout=ping_seconds,
                close_timeout=3,
            ) as connection:
                opened_at = time.monotonic()
                why = await talk(connection, lines)
        except InvalidStatus as error:
            why, at_least_seconds = refusal(error)
        except (OSError, InvalidHandshake) as error:
            why = f"no connection: {error}"
        await backoff.wait(why, time.monotonic() - opened_at, at_least_seconds)


def main() -> None:
    """Read the command line and chat."""
    parser = argparse.ArgumentParser(description="A chat in the terminal.")
    parser.add_argument("url", help="ws:// or wss://, the relay, and the room as the path")
    for name, default, what in [
        ("--first-wait", 1, "the most to wait at first"),
        ("--max-wait", 30, "the most to wait at last"),
        ("--ping-seconds", 20, "between pings, and for the answer to one"),
    ]:
        parser.add_argument(name, type=float, default=default, metavar="SECONDS", help=what)
    arguments = parser.parse_args()
    try:
        backoff = Backoff(arguments.first_wait, arguments.max_wait)
        asyncio.run(chat(arguments.url, backoff, arguments.ping_seconds))
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    except (Ended, InvalidURI) as error:
        say(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
