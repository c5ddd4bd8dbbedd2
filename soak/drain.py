"""Drain a relay under load, and check the closes and messages of its clients.

    python soak/drain.py --members 2000 --drain-seconds 10

Starts a relay with members in small rooms that publish all the time, sends SIGTERM, and prints the closes per tenth of
the time. It fails unless

* each member saw 1012, and the relay exited with 0;
* the closes were spread evenly over the time;
* no connected member lost a message: each got the messages of its room in the same order, without a gap, including all
  before its own last one that was relayed.

Needs wsrelay in the running Python's environment, and two file descriptors per member.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
import sysconfig
from collections import Counter
from pathlib import Path

#: Bound on all waits; ends a run that hangs.
SECONDS = 120

#: Concurrent connection attempts.
CONNECTING = 100

#: Messages per second of all members together.
MESSAGES_PER_SECOND = 2000

#: Seconds from the first message to the signal.
TALK_SECONDS = 2

#: Limits of the relay per address.
ADDRESS_LIMITS = ("max-connections", "max-handshakes", "max-connects-per-second")

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
RESTARTING = 1012

REQUEST = (
    "GET /{room} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Member(asyncio.Protocol):
    """A client that sends ``NAME NUMBER`` repeatedly, and keeps received messages.

    Attributes:
        heard: the messages of others, in order.
        said: number of sent messages; the relay may not have read the last ones.
        code: of the relay's close frame; ``None`` before it.
        closed_at: arrival of the close frame, on the loop's clock in seconds.
        opened: done when the handshake is complete.
        ended: done when the TCP connection is closed.
    """

    def __init__(self, name: str, room: str) -> None:
        self.name = name
        self.room = room
        self.heard: list[str] = []
        self.said = 0
        self.code: int | None = None
        self.closed_at = 0.0
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self._transport = transport
        self._write(REQUEST.format(room=self.room).encode())

    def data_received(self, data: bytes) -> None:
        """Read the response, then frames."""
        self._data += data
        if not self.opened.done():
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                raise SystemExit(f"refused: {head!r}")
            self._data = rest
            self.opened.set_result(None)
        self._take_frames()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Mark the TCP connection as closed."""
        self.ended.set_result(None)

    def say(self) -> None:
        """Send the next message, unless closed."""
        if self.code is None and not self.ended.done():
            self._send(TEXT, f"{self.name} {self.said}".encode())
            self.said += 1

    def _take_frames(self) -> None:
        data, at = self._data, 0
        # All frames of this relay are short: messages, pings, closes.
        while len(data) >= at + 2 and len(data) >= at + 2 + data[at + 1]:
            end = at + 2 + data[at + 1]
            self._take(data[at] & 15, data[at + 2 : end])
            at = end
        self._data = data[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            if self.code is not None:
                raise SystemExit("a message came behind a close frame")
            self.heard.append(payload.decode())
        elif opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self.code = int.from_bytes(payload[:2])
            self.closed_at = asyncio.get_running_loop().time()
            self._send(CLOSE, payload[:2])

    def _send(self, opcode: int, payload: bytes) -> None:
        # The mask is zero.
        self._write(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)

    def _write(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]


async def connect(port: int, count: int, room_members: int) -> list[Member]:
    """Connect members to their rooms and return them."""
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(CONNECTING)

    async def one(number: int) -> Member:
        async with turn:
            name, room = str(number), f"room/{number // room_members}"
            _, member = await loop.create_connection(lambda: Member(name, room), "127.0.0.1", port)
            await member.opened
            return member

    return list(await asyncio.gather(*map(one, range(count))))


async def talk(members: list[Member]) -> None:
    """Let members publish in turn at a steady rate, until cancelled."""
    loop = asyncio.get_running_loop()
    begun, said = loop.time(), 0
    while True:
        await asyncio.sleep(0.01)
        due = int((loop.time() - begun) * MESSAGES_PER_SECOND)
        for number in range(said, due):
            # A step prime to most counts, so that rooms alternate.
            members[number * 7919 % len(members)].say()
        said = due


def losses(room: list[Member]) -> list[str]:
    """Return messages of a room that a member lost, or got in another order."""
    return [problem for one in room for other in room if one is not other for problem in compare(one, other)]


def compare(one: Member, other: Member) -> list[str]:
    """Compare the messages of one member with those of another of its room, and return errors.

    Both got the same messages of third members, up to the close of one of them. Messages before a message of the first,
    as the second got it, must have reached the first.
    """
    mine, theirs = without(one.heard, other), without(other.heard, one)
    shared = min(len(mine), len(theirs))
    problems = []
    if mine[:shared] != theirs[:shared]:
        problems.append(f"{one.name} and {other.name} heard different things")
    before = max((at for at, message in enumerate(other.heard) if message.split()[0] == one.name), default=0)
    due = len(without(other.heard[:before], one))
    if len(mine) < due:
        problems.append(f"{one.name} missed {due - len(mine)} messages from before its own last one")
    return problems


def without(heard: list[str], member: Member) -> list[str]:
    """Return the messages of all other members."""
    return [message for message in heard if message.split()[0] != member.name]


def histogram(times: list[float], seconds: float) -> list[int]:
    """Print and return the number of closes per tenth of the time; slightly late ones count in the last."""
    tenth = seconds / 10
    counts = Counter(min(int(when / tenth), 9) if tenth else 0 for when in times)
    most = max(counts.values())
    for number in range(10):
        print(f"{number * tenth:6.1f} s {counts[number]:6} {'#' * (60 * counts[number] // most)}")
    return [counts[number] for number in range(10)]


def judge(members: list[Member], signalled_at: float, seconds: float, tolerance: float) -> list[str]:
    """Print a summary of the members' closes and messages, and return errors."""
    times = [member.closed_at - signalled_at for member in members if member.code is not None]
    counts = histogram(times, seconds)
    portions = len({int(when / 0.05) for when in times})
    codes = Counter(member.code for member in members)
    heard = sum(len(member.heard) for member in members)
    print(f"{len(members)} members heard {heard} messages and saw {dict(codes)}")
    print(f"closes came in {portions} portions, from {min(times):.2f} s to {max(times):.2f} s after the signal")
    rooms: dict[str, list[Member]] = {}
    for member in members:
        rooms.setdefault(member.room, []).append(member)
    problems = [problem for room in rooms.values() for problem in losses(room)]
    if codes != {RESTARTING: len(members)}:
        problems.append("not every member saw 1012")
    mean = len(members) / 10
    if seconds and any(abs(count - mean) > tolerance * mean for count in counts):
        problems.append(f"the closes were not spread evenly: {min(counts)} to {max(counts)} in a tenth of the time")
    return problems


async def run(members_count: int, room_members: int, seconds: float, tolerance: float) -> list[str]:
    """Run a relay and its members, and return errors."""
    twistd = Path(sysconfig.get_path("scripts"), "twistd")
    # All members connect at once from one address.
    limits = [word for limit in ADDRESS_LIMITS for word in (f"--{limit}-per-address", "0")]
    options = ["--listen", "tcp:0:interface=127.0.0.1", "--drain-seconds", str(seconds), *limits]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WSRELAY_")}
    relay = await asyncio.create_subprocess_exec(
        twistd, "--nodaemon", "--pidfile=", "wsrelay", *options, stdout=asyncio.subprocess.PIPE, env=environ
    )
    output = Output(relay.stdout)
    try:
        members = await connect(int(await output.find(rb"ws://127.0.0.1:(\d+)/")), members_count, room_members)
        talking = asyncio.create_task(talk(members))
        await asyncio.sleep(TALK_SECONDS)
        signalled_at = asyncio.get_running_loop().time()
        relay.send_signal(signal.SIGTERM)
        await asyncio.gather(*(member.ended for member in members))
        talking.cancel()
        code = await relay.wait()
    finally:
        if relay.returncode is None:
            relay.kill()
            await relay.wait()
    problems = judge(members, signalled_at, seconds, tolerance)
    return [*problems, *([f"the relay ended with {code}"] if code else [])]


class Output:
    """Output of the relay, read at once so that the relay never blocks on it."""

    def __init__(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        self._stream = stream

    async def find(self, pattern: bytes) -> bytes:
        """Wait for a line that matches a pattern, and return its group."""
        async for line in self._stream:
            if found := re.search(pattern, line):
                self._rest = asyncio.create_task(self._discard())
                return found[1]
        raise SystemExit("the relay did not start")

    async def _discard(self) -> None:
        while await self._stream.read(2**16):
            pass


def main() -> int:
    """Run the command line, print errors, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--room-members", type=int, default=10)
    parser.add_argument("--drain-seconds", type=float, default=10)
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.2,
        help="allowed deviation of closes per tenth of the time, as a share",
    )
    given = parser.parse_args()
    problems = asyncio.run(
        asyncio.wait_for(run(given.members, given.room_members, given.drain_seconds, given.tolerance), SECONDS)
    )
    for problem in problems[:20]:
        print(f"FAILED: {problem}")
    print(f"{len(problems)} problems" if problems else "passed")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
