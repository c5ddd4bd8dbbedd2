"""Two bystanders, as in `bystanders`, whose lags are all told at the end, each with the time of its message.

Usage: ``onlookers.py PORT``, as a separate process. Prints a line when they are connected; at the end of standard input
a line of JSON, see `report`.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

import bystanders
import client

#: Interval between messages of one of them: some hundred in a second.
INTERVAL_SECONDS = 0.01

#: Time for messages in flight at the end.
LAST_SECONDS = 2.0


@dataclass
class Ear(bystanders.Ear):
    """Messages received by one of them.

    Attributes:
        at: when each was due to be sent, in seconds of the system's monotonic clock.
    """

    at: list[float] = field(default_factory=list)

    def hear(self, message: bytes, now: float) -> None:
        """Check one message."""
        super().hear(message, now)
        self.at.append(now - self.lags[-1])


def percentiles(told: dict[str, list[float]], began: float, ended: float) -> dict[str, float]:
    """Return number, median, 95th percentile and maximum in ms of the lags of messages sent in a time.

    Infinite without any.
    """
    lags = sorted(1000 * lag for at, lag in zip(told["at"], told["lags"], strict=True) if began <= at < ended)
    ordered = lags or [float("inf")]
    at = {"p50_ms": 0.5, "p95_ms": 0.95, "max_ms": 1.0}
    return {"heard": len(lags), **{name: ordered[int(part * (len(ordered) - 1))] for name, part in at.items()}}


def report(ears: list[Ear], sent: list[list[int]], faults: list[str]) -> dict[str, list[float] | list[str]]:
    """Return the lags, when their messages were due, and faults in words; a message that is lost is one."""
    lost = [count[0] - ear.next for count, ear in zip(sent, reversed(ears), strict=True)]
    return {
        "at": [at for ear in ears for at in ear.at],
        "lags": [lag for ear in ears for lag in ear.lags],
        "faults": [
            *(fault for ear in ears for fault in ear.faults),
            *(f"{number} messages of a bystander are lost" for number in lost if number),
            *faults,
        ][:10],
    }


async def settle(ears: list[Ear], sent: list[list[int]]) -> None:
    """Wait for what is in flight."""
    deadline = time.monotonic() + LAST_SECONDS
    pairs = list(zip(sent, reversed(ears), strict=True))
    while any(count[0] > ear.next for count, ear in pairs) and time.monotonic() < deadline:  # noqa: ASYNC110 - two counters of other tasks
        await asyncio.sleep(0.02)


async def main(port: int) -> None:
    """Run until end of standard input."""
    bystanders.INTERVAL_SECONDS = INTERVAL_SECONDS
    pair = [await client.join(port, "onlookers", deflate) for deflate in (False, True)]
    ears, sent = [Ear(), Ear()], [[0], [0]]
    print(json.dumps({"open": True}), flush=True)
    listening = [asyncio.create_task(bystanders.listen(*each)) for each in zip(pair, ears, strict=True)]
    speaking = [asyncio.create_task(bystanders.speak(*each)) for each in zip(pair, sent, strict=True)]
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    done, _ = await asyncio.wait([*listening, *speaking, over], return_when=asyncio.FIRST_COMPLETED)
    ended = [f"a bystander's connection has ended: {task.exception()!r}" for task in done if task.exception()]
    for task in speaking:
        task.cancel()
    await settle(ears, sent)
    print(json.dumps(report(ears, sent, ended)), flush=True)
    for task in listening:
        task.cancel()
    await over


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
