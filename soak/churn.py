"""The crowd: a table of client behaviours, each the whole life of a client, repeated.

The outcome of each life is counted: status of a refused handshake, or close code. Documented outcomes are allowed; 500,
1011 and a missing response are bugs of the relay.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import client
from client import BINARY, TEXT, Client, EndedError, RefusedError, frame

#: Rooms of the crowd; the bystanders have another one.
ROOMS = 20

#: The flooded room, with the stalled readers.
FLOODED = "flooded"

#: Frames with protocol errors.
GARBAGE = (
    frame(0x83, b"x"),
    frame(0xF1, b"x"),
    frame(0x81, b"\xff\xfe"),
    frame(0x80, b"x"),
    frame(0x88, b"\x03\xed"),
    b"\x81\x05hello",
    b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4) + b"x" * 1000,
    frame(0x02, b"") + frame(0x00, b"") * 1100,
    frame(0xC1, b"\xff" * 20),
    bytes(random.Random(1).randbytes(2000)),
)

#: Invalid handshakes.
JUNK = (
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /a\x85b HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    b"G" * 20_000,
    client.request("x", deflate=False) + client.request("admin", deflate=False),
)

#: Outcomes that are bugs of the relay.
BUGS = ("status 500", "code 1011", "code 0")


@dataclass
class Crowd:
    """The crowd.

    Attributes:
        port: of the relay.
        outcomes: behaviour and outcome → count.
        lives: number of clients so far.
    """

    port: int
    outcomes: Counter[str] = field(default_factory=Counter)
    lives: int = 0

    def room(self) -> str:
        """Return a random room."""
        return f"churn/{random.randrange(ROOMS)}"

    async def live(self, behaviour: "Behaviour") -> None:
        """Repeat one behaviour until cancelled."""
        while True:
            outcome = await self._live_once(behaviour)
            self.lives += 1
            self.outcomes[f"{behaviour.name}: {outcome}"] += 1
            await asyncio.sleep(random.uniform(0, 2 * behaviour.pause_seconds))

    async def _live_once(self, behaviour: "Behaviour") -> str:
        try:
            with client.hanging_up():
                return await behaviour.live(self)
        except RefusedError as refused:
            return f"status {refused.status}"
        except EndedError as end:
            return f"code {end.code}"
        except TimeoutError:
            return "code 0"
        except OSError as error:
            return type(error).__name__


async def listen(member: Client, seconds: float) -> None:
    """Read for some time.

    Raises:
        EndedError: the relay closed the connection.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                await member.hear()


async def talk(crowd: Crowd) -> str:
    """Join, send now and then, receive, close with a close frame."""
    member = await client.join(crowd.port, crowd.room(), deflate=random.random() < 0.5)
    for _ in range(random.randrange(1, 12)):
        await member.say(random.choice(("hello " * random.randrange(1, 300), "é🙂")).encode(), TEXT)
        await listen(member, random.uniform(0, 0.3))
    return f"code {await member.close()}"


async def publish(crowd: Crowd) -> str:
    """Send in bursts as fast as the relay reads, and receive little."""
    member = await client.join(crowd.port, FLOODED, deflate=random.random() < 0.3)
    payload = random.randbytes(8000)
    for _ in range(random.randrange(20, 60)):
        await asyncio.gather(*(member.say(payload, BINARY) for _ in range(4)))
        await listen(member, 0.05)
    return f"code {await member.close(3000)}"


async def stall(crowd: Crowd) -> str:
    """Join the flooded room and stall; then read on, or drop the connection."""
    member = await client.join(crowd.port, FLOODED, random.random() < 0.3, receive_bytes=4096)
    member.writer.transport.pause_reading()  # type: ignore[attr-defined]  # the transport of a StreamWriter reads as well
    await asyncio.sleep(random.uniform(1, 20))
    if random.random() < 0.3:
        await client.hang_up(member.writer, abort=True)
        return "aborted"
    member.writer.transport.resume_reading()  # type: ignore[attr-defined]
    return f"code {await member.close()}"


async def send_garbage(crowd: Crowd) -> str:
    """Join, send a valid message, then a protocol error."""
    member = await client.join(crowd.port, crowd.room(), deflate=random.random() < 0.5)
    try:
        await member.say(b"right")
        member.writer.write(random.choice(GARBAGE))
        with suppress(ConnectionError):
            await member.writer.drain()
        return f"code {await member.ended()}"
    finally:
        await client.hang_up(member.writer)


async def half_request(crowd: Crowd) -> str:
    """Send part of a request; then wait for the response, or drop the connection."""
    reader, writer = await client.dial(crowd.port)
    try:
        request = client.request(crowd.room(), deflate=True)
        for octet in request[: random.randrange(20)]:
            writer.write(bytes([octet]))
            await asyncio.sleep(0.02)
        if random.random() < 0.5:
            return "gone"
        return f"status {client.status_of(await client.answer(reader))}"
    finally:
        await client.hang_up(writer, abort=random.random() < 0.5)


async def knock(crowd: Crowd) -> str:
    """Send an invalid handshake."""
    reader, writer = await client.dial(crowd.port)
    try:
        writer.write(random.choice(JUNK))
        return f"status {client.status_of(await client.answer(reader))}"
    finally:
        await client.hang_up(writer)


async def vanish(crowd: Crowd) -> str:
    """Join and drop the connection within a message, by FIN or RST."""
    member = await client.join(crowd.port, crowd.room())
    member.writer.write(frame(0x82, b"x" * 5000)[: random.randrange(5000)])
    await listen(member, random.uniform(0, 0.5))
    await client.hang_up(member.writer, abort=random.random() < 0.5)
    return "gone"


async def stay(crowd: Crowd) -> str:
    """Stay for long, and answer pings with pongs."""
    member = await client.join(crowd.port, crowd.room(), deflate=random.random() < 0.5)
    await listen(member, random.uniform(20, 60))
    return f"code {await member.close()}"


async def storm(crowd: Crowd) -> str:
    """Connect two hundred clients at once, as after a restart; half of them close with a close frame."""
    arrivals = await asyncio.gather(
        *(client.join(crowd.port, crowd.room(), bool(n % 2)) for n in range(200)), return_exceptions=True
    )
    members = [member for member in arrivals if isinstance(member, Client)]
    await asyncio.gather(*(member.say(b"here") for member in members[::10]), return_exceptions=True)
    await asyncio.gather(
        *(
            member.close() if n % 2 else client.hang_up(member.writer, abort=n % 4 == 0)
            for n, member in enumerate(members)
        ),
        return_exceptions=True,
    )
    errors = Counter(
        f"status {each.status}" if isinstance(each, RefusedError) else type(each).__name__
        for each in arrivals
        if isinstance(each, BaseException)
    )
    for what, count in errors.items():
        crowd.outcomes[f"storm member: {what}"] += count
    crowd.lives += len(arrivals)
    return "over"


@dataclass(frozen=True)
class Behaviour:
    """A behaviour of clients.

    Attributes:
        name: for the report.
        live: one life; returns the outcome.
        count: concurrent clients.
        pause_seconds: mean pause between two lives.
    """

    name: str
    live: Callable[[Crowd], Awaitable[str]]
    count: int
    pause_seconds: float = 0.2


BEHAVIOURS = [
    Behaviour("talk", talk, 40),
    Behaviour("publish", publish, 3, 0.5),
    Behaviour("stall", stall, 20),
    Behaviour("garbage", send_garbage, 5),
    Behaviour("half a request", half_request, 10),
    Behaviour("no handshake", knock, 5),
    Behaviour("vanish", vanish, 5),
    Behaviour("stay", stay, 30),
    Behaviour("storm", storm, 1, 10),
]


async def churn(port: int, seconds: float) -> Crowd:
    """Run the crowd for some time, then drop all connections at once."""
    crowd = Crowd(port)
    lives = [asyncio.create_task(crowd.live(row)) for row in BEHAVIOURS for _ in range(row.count)]
    try:
        done, _ = await asyncio.wait(lives, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for life in done:
            life.result()  # a bug in this module
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
    return crowd


def bugs(outcomes: Counter[str]) -> list[str]:
    """Return the outcomes that are bugs."""
    return [f"{outcome}, {count} times" for outcome, count in outcomes.items() if outcome.split(": ")[1] in BUGS]
