"""Drain a relay under load, and look at what its clients saw.

    python soak/drain.py --members 2000 --drain-seconds 10

Starts a relay, lets members in small rooms talk to each other without a pause, sends SIGTERM, and prints the closes
per tenth of the time. It fails unless

* every member saw 1012, and the relay ended with 0;
* the closes were spread evenly over the time;
* no message was lost to a member still connected: each heard its room's messages in the order of all others, without
  a gap, and all those that come before its own last one, which the relay has taken before it closed it.

Needs the relay installed beside the Python that runs this, and nothing else; two file descriptors per member.
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

#: A bound on all that is waited for: no promise, only the end of a run that hangs.
SECONDS = 120

#: Connects that go on at once.
CONNECTING = 100

#: Messages per second, of all members together; each is heard by the rest of a room.
MESSAGES_PER_SECOND = 2000

#: How long they talk before the signal.
TALK_SECONDS = 2

#: What the relay bounds per address.
ADDRESS_LIMITS = ("max-connections", "max-handshakes", "max-connects-per-second")

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
RESTARTING = 1012

REQUEST = (
    "GET /{room} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Member(asyncio.Protocol):
    """A client that says ``NAME NUMBER`` again and again, and remembers what it hears.

    Attributes:
        heard: the messages of others, in order.
        said: how many messages of its own it has sent; the relay need not have taken the last of them.
        code: that of the relay's close frame; ``None`` before it.
        closed_at: when that came, in the loop's seconds.
        opened: a future that is done when it is in its room.
        ended: a future that is done when TCP has ended.
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
        """Ask to come in."""
        self._transport = transport
        self._write(REQUEST.format(room=self.room).encode())

    def data_received(self, data: bytes) -> None:
        """Take the response, then frames."""
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
        """TCP has ended."""
        self.ended.set_result(None)

    def say(self) -> None:
        """Say the next message, if the relay has not closed."""
        if self.code is None and not self.ended.done():
            self._send(TEXT, f"{self.name} {self.said}".encode())
            self.said += 1

    def _take_frames(self) -> None:
        data, at = self._data, 0
        # All of the relay's frames here are short: what members say, pings, closes.
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
        # Masked with zeros, which changes nothing.
        self._write(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)

    def _write(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]


async def connect(port: int, count: int, room_members: int) -> list[Member]:
    """Return as many members, all in their rooms."""
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
    """Let one member after the other say something, for ever, at a steady rate."""
    loop = asyncio.get_running_loop()
    begun, said = loop.time(), 0
    while True:
        await asyncio.sleep(0.01)
        due = int((loop.time() - begun) * MESSAGES_PER_SECOND)
        for number in range(said, due):
            # A step that is prime to most counts, so that the rooms take turns.
            members[number * 7919 % len(members)].say()
        said = due


def losses(room: list[Member]) -> list[str]:
    """Return what members of a room have missed, or heard in another order than the others."""
    return [problem for one in room for other in room if one is not other for problem in compare(one, other)]


def compare(one: Member, other: Member) -> list[str]:
    """Return what is wrong with what one member heard, going by another of its room.

    Both have heard the same of everybody else, up to where one of them was closed. And what the other has heard before
    a message of the first, the first has heard as well.
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
    """Return messages without those of a member."""
    return [message for message in heard if message.split()[0] != member.name]


def histogram(times: list[float], seconds: float) -> list[int]:
    """Print and return how many closes came in each tenth of the time; those just behind the end are in the last."""
    tenth = seconds / 10
    counts = Counter(min(int(when / tenth), 9) if tenth else 0 for when in times)
    most = max(counts.values())
    for number in range(10):
        print(f"{number * tenth:6.1f} s {counts[number]:6} {'#' * (60 * counts[number] // most)}")
    return [counts[number] for number in range(10)]


def judge(members: list[Member], signalled_at: float, seconds: float, tolerance: float) -> list[str]:
    """Print what members saw, and return what is wrong with it."""
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
    """Run a relay and its members; return what is wrong."""
    twistd = Path(sysconfig.get_path("scripts"), "twistd")
    # All come from one address, at once.
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
    """What the relay prints, read all the time, so that it never waits for us."""

    def __init__(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        self._stream = stream

    async def find(self, pattern: bytes) -> bytes:
        """Wait for a line in which there is a pattern, and return its group."""
        async for line in self._stream:
            if found := re.search(pattern, line):
                self._rest = asyncio.create_task(self._discard())
                return found[1]
        raise SystemExit("the relay did not start")

    async def _discard(self) -> None:
        while await self._stream.read(2**16):
            pass


def main() -> int:
    """Parse the command line, run, say what is wrong; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--room-members", type=int, default=10)
    parser.add_argument("--drain-seconds", type=float, default=10)
    parser.add_argument(
        "--tolerance", type=float, default=0.2, help="how far a tenth of the time may be off, as a share"
    )
    given = parser.parse_args()
    problems = asyncio.run(
        asyncio.wait_for(run(given.members, given.room_members, given.drain_seconds, given.tolerance), SECONDS)
    )
    for problem in problems[:20]:
        print(f"FAILED: {problem}")
    print(f"{len(problems)} problems" if problems else "all is well")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
