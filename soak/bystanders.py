"""Two bystanders: clients in a room of their own that measure the lag and check each message.

Usage: ``bystanders.py PORT``, as a separate process, so that the crowd's load does not delay it. Each sends numbered
messages at fixed times; the other checks that none is lost, doubled, changed or out of order. Prints a line of JSON a
second, until end of standard input.
"""

import asyncio
import json
import struct
import sys
import time
from dataclasses import dataclass, field

import client

#: Interval between messages of one bystander.
INTERVAL_SECONDS = 0.02

#: Payload after number and time; shows changes.
FILLING = bytes(range(100))

_STAMP = struct.Struct(">Qd")


@dataclass
class Ear:
    """Messages received by one bystander.

    Attributes:
        next: the next number.
        lags: in seconds, since the last `take`.
        faults: errors, in words.
    """

    next: int = 0
    lags: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def hear(self, message: bytes, now: float) -> None:
        """Check one message."""
        number, sent = _STAMP.unpack(message[: _STAMP.size])
        if message[_STAMP.size :] != FILLING:
            self.faults.append(f"message {number} was changed")
        if number != self.next:
            self.faults.append(f"message {number} came where {self.next} should have")
        self.next = number + 1
        self.lags.append(now - sent)


async def listen(bystander: client.Client, ear: Ear) -> None:
    """Receive and check all messages."""
    while True:
        ear.hear(await bystander.hear(), time.monotonic())


async def speak(bystander: client.Client, sent: list[int]) -> None:
    """Send at fixed times, independent of arrivals."""
    began = time.monotonic()
    for number in range(2**62):
        due = began + number * INTERVAL_SECONDS
        await asyncio.sleep(due - time.monotonic())
        await bystander.say(_STAMP.pack(number, due) + FILLING)
        sent[0] += 1


async def report(ears: list[Ear]) -> None:
    """Print the result of `take` every second."""
    while True:
        await asyncio.sleep(1)
        print(json.dumps(take(ears)), flush=True)


def take(ears: list[Ear]) -> dict[str, object]:
    """Return number, lags in ms and faults of the messages since the last call."""
    lags = sorted(1000 * lag for ear in ears for lag in ear.lags)
    faults = [fault for ear in ears for fault in ear.faults]
    for ear in ears:
        ear.lags, ear.faults = [], []
    at = [lags[int(part * (len(lags) - 1))] if lags else 1000.0 for part in (0.5, 0.99, 1)]
    return {"heard": len(lags), "p50_ms": at[0], "p99_ms": at[1], "max_ms": at[2], "faults": faults}


async def main(port: int) -> None:
    """Run until end of standard input; then all sent messages must have arrived."""
    pair = [await client.join(port, "bystanders", deflate) for deflate in (False, True)]
    ears, sent = [Ear(), Ear()], [[0], [0]]
    listening = [asyncio.create_task(listen(one, ear)) for one, ear in zip(pair, ears, strict=True)]
    speaking = [asyncio.create_task(speak(one, count)) for one, count in zip(pair, sent, strict=True)]
    others = [asyncio.create_task(report(ears)), asyncio.create_task(asyncio.to_thread(sys.stdin.read))]
    print(json.dumps({"open": True}), flush=True)
    done, _ = await asyncio.wait([*listening, *speaking, *others], return_when=asyncio.FIRST_COMPLETED)
    faults = [f"a bystander's connection has ended: {task.exception()!r}" for task in done if task.exception()]
    for task in speaking:
        task.cancel()
    await asyncio.sleep(0 if faults else 1)  # messages in flight
    last = take(ears)
    lost = [count[0] - ear.next for count, ear in zip(sent, reversed(ears), strict=True)]
    faults += [f"{number} messages are lost" for number in lost if number]
    print(json.dumps({**last, "faults": [*last["faults"], *faults], "over": True}), flush=True)  # type: ignore[misc]
    for task in (*listening, *others):
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
