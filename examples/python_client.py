"""A chat in the terminal: sends typed lines to the other clients of a room, and prints their messages.

    pip install websockets
    python python_client.py ws://127.0.0.1:8080/chat

It reconnects with back-off and jitter, and gives up after errors that would repeat. Lines typed meanwhile are sent
after the reconnect. With ``--last 100`` it first prints the last lines of a room with history, and after a reconnect
those that it missed (the relay needs ``--http --history 100``). Ctrl-D ends it when all lines are sent, Ctrl-C at
once. RELAY_KEY in the environment is sent as ``Authorization: Bearer``.
"""

import argparse
import asyncio
import base64
import json
import math
import os
import random
import re
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

#: Close codes after which a reconnect is useless: the same would happen again (docs/closecodes.md).
FINAL_CODES = {1002, 1003, 1007, 1009, 4403, 4410}

#: Not final with a new position: the history is gone.
GONE = 4410

#: 1008, policy violation, is final too, except with these reasons.
PASSING_REASONS = ("too fast", "the message took too long")

#: Temporary refusals besides 5xx: request timeout and rate limit.
PASSING_STATUSES = {408, 429}


class Ended(Exception):
    """A reconnect is useless; the message says why."""


class Backoff:
    """Exponential back-off with jitter, so that clients do not reconnect all at once.

    A wait is between zero and a ceiling that doubles.

    Args:
        first_seconds: the first ceiling.
        most_seconds: the maximum of the ceiling.
    """

    def __init__(self, first_seconds: float, most_seconds: float) -> None:
        self._first_seconds = self._ceiling_seconds = first_seconds
        self._most_seconds = most_seconds

    async def wait(self, why: str, lasted_seconds: float, at_least_seconds: int) -> None:
        """Wait, and print the reason and the duration.

        Args:
            why: the reason.
            lasted_seconds: duration of the last connection; a long one resets the ceiling. A handshake alone does not:
                the relay may close at once, repeatedly.
            at_least_seconds: minimum, from Retry-After.
        """
        if lasted_seconds > self._most_seconds:
            self._ceiling_seconds = self._first_seconds
        seconds = at_least_seconds + random.uniform(0, self._ceiling_seconds)
        self._ceiling_seconds = min(2 * self._ceiling_seconds, self._most_seconds)
        say(f"{why}; again in {seconds:.1f} s")
        await asyncio.sleep(seconds)


class History:
    """The old messages of the room, read by HTTP before each connection.

    Args:
        url: the room.
        most: maximum of old messages at the start; 0: no history.
        headers: of each request.
    """

    def __init__(self, url: str, most: int, headers: dict[str, str]) -> None:
        self.most = most
        self._url = url
        self._headers = headers
        self._at = ""
        self._known: Counter[str | bytes] = Counter()

    def add(self, message: str | bytes) -> None:
        """Note a message that was sent or received: the history has it, too."""
        if self.most:
            self._known[message] += 1

    async def read(self) -> str:
        """Print the messages that were missed, and return the URL to connect to, which has the position behind them."""
        found = None
        if self._at:
            found = await self._get(f"since={self._at}")
            if found is None:
                say("messages may be missing: the history since the last connection is gone")
        elif not self.most:
            return self._url
        found = found or await self._get(f"last={self.most}") or {}
        for message in found.get("messages", []):
            data = message["text"] if "text" in message else base64.b64decode(message["base64"])
            if self._known[data]:
                self._known[data] -= 1
            else:
                show(data)
        self._known.clear()
        self._at = found.get("at", "")
        return self._with(f"since={self._at}") if self._at else self._url

    async def _get(self, query: str) -> dict[str, Any] | None:
        """Return the answer; ``None`` if the history is gone."""
        url = self._with(query).replace("ws", "http", 1)
        headers = {**self._headers, "Accept": "application/json"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the user's own URL
        try:
            with await asyncio.to_thread(urllib.request.urlopen, request, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except HTTPError as error:
            if error.code == 410:
                return None
            if error.code < 500 and error.code not in PASSING_STATUSES:
                raise Ended(f"refused: {error.code} {error.read(200).decode(errors='replace').rstrip()}") from None
            raise

    def _with(self, query: str) -> str:
        return f"{self._url}{'&' if '?' in self._url else '?'}{query}"


class Input:
    """Standard input, a line at a time. Cancels a task at end of input, when all lines are sent.

    The next line is read when the last one is sent: backpressure to the terminal or pipe.
    """

    def __init__(self, task: "asyncio.Task[None]", history: History) -> None:
        self._history = history
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._unsent: str | None = None
        self._sent = threading.Semaphore(0)
        # A thread, because asyncio cannot wait for a file; a daemon, because nothing ends a read from a terminal.
        threading.Thread(target=self._read, args=[task], daemon=True).start()

    async def send_to(self, connection: ClientConnection) -> None:
        """Send the lines until the connection is closed."""
        with suppress(ConnectionClosed):
            while True:
                # Kept until sent: after a lost connection, the next one sends it.
                if self._unsent is None:
                    self._unsent = await self._lines.get()
                await connection.send(self._unsent)
                self._history.add(self._unsent)
                self._unsent = None
                self._sent.release()

    def _read(self, task: "asyncio.Task[None]") -> None:
        loop = task.get_loop()
        # Not sys.stdin: a thread that reads holds its lock, which blocks the exit of the interpreter.
        # RuntimeError: the loop is closed.
        with suppress(RuntimeError), open(0, "rb", buffering=0, closefd=False) as stream:
            for line in stream:
                loop.call_soon_threadsafe(self._lines.put_nowait, line.decode(errors="replace").rstrip("\r\n"))
                self._sent.acquire()
            loop.call_soon_threadsafe(task.cancel)


def say(text: str) -> None:
    """Print a status line to stderr."""
    print(f"* {visible(text)}", file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Return a text with control characters replaced: other clients must not control the terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


def show(message: str | bytes) -> None:
    """Print a message."""
    print(visible(message) if isinstance(message, str) else f"({len(message)} bytes)", flush=True)


async def talk(connection: ClientConnection, lines: Input, history: History) -> str:
    """Send and print until the connection is closed.

    Returns:
        Close code and reason.

    Raises:
        Ended: the close is final.
    """
    say("connected")
    sending = asyncio.create_task(lines.send_to(connection))
    try:
        with suppress(ConnectionClosed):
            async for message in connection:
                history.add(message)
                show(message)
    finally:
        sending.cancel()
        # Still open if cancelled: `async with` would close it with 1011.
        await connection.close()
    closed = f"closed: {connection.close_code} {connection.close_reason}".rstrip()
    has_new_position = history.most and connection.close_code == GONE
    if is_final(connection.close_code, connection.close_reason or "") and not has_new_position:
        raise Ended(closed)
    return closed


def is_final(code: int | None, reason: str) -> bool:
    """Return whether a close is final."""
    return code in FINAL_CODES or (code == 1008 and not reason.startswith(PASSING_REASONS))


def refusal(error: InvalidStatus) -> tuple[str, int]:
    """Return status and reason of a refused handshake, and Retry-After in seconds.

    Raises:
        Ended: the refusal is final.
    """
    status, headers, body = error.response.status_code, error.response.headers, error.response.body
    refused = f"refused: {status} {(body or b'')[:200].decode(errors='replace').rstrip()}"
    if status < 500 and status not in PASSING_STATUSES:
        raise Ended(refused)
    retry_after = headers.get("Retry-After", "")
    return refused, int(retry_after) if retry_after.isdecimal() else 0


async def chat(url: str, backoff: Backoff, ping_seconds: float, last: int) -> None:
    """Chat until end of input, which cancels this task."""
    task = asyncio.current_task()
    assert task is not None
    key = os.environ.get("RELAY_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    history = History(url, last, headers)
    lines = Input(task, history)
    while True:
        opened_at, at_least_seconds = math.inf, 0
        try:
            async with connect(
                await history.read(),
                additional_headers=headers,
                # Without pings, a lost network is not detected.
                ping_interval=ping_seconds,
                ping_timeout=ping_seconds,
                close_timeout=3,
            ) as connection:
                opened_at = time.monotonic()
                why = await talk(connection, lines, history)
        except InvalidStatus as error:
            why, at_least_seconds = refusal(error)
        except (OSError, InvalidHandshake) as error:
            why = f"no connection: {error}"
        await backoff.wait(why, time.monotonic() - opened_at, at_least_seconds)


def main() -> None:
    """Parse the command line and chat."""
    parser = argparse.ArgumentParser(description="A chat in the terminal.")
    parser.add_argument("url", help="ws://HOST/ROOM or wss://HOST/ROOM")
    for name, default, what in [
        ("--first-wait", 1, "first ceiling of the back-off"),
        ("--max-wait", 30, "maximum of the back-off"),
        ("--ping-seconds", 20, "interval of pings, and timeout of pongs"),
    ]:
        parser.add_argument(name, type=float, default=default, metavar="SECONDS", help=what)
    parser.add_argument("--last", type=int, default=0, metavar="COUNT", help="most old messages; 0: no history")
    arguments = parser.parse_args()
    try:
        backoff = Backoff(arguments.first_wait, arguments.max_wait)
        asyncio.run(chat(arguments.url, backoff, arguments.ping_seconds, arguments.last))
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    except (Ended, InvalidURI) as error:
        say(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
