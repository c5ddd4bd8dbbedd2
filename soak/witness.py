"""What others see of an attack: two bystanders in a room of their own, and newcomers, each from another address.

Usage: ``witness.py PORT``, as a separate process. Prints a line when the bystanders are connected. At the end of
standard input it prints lags and refusals since then as a line of JSON.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import bystanders
import client

#: Interval between two newcomers.
NEWCOMER_SECONDS = 0.25

#: Time for messages and handshakes in flight at the end.
LAST_SECONDS = 5.0


@dataclass
class Newcomers:
    """Handshakes of other clients during the attack.

    Attributes:
        answers: status → count; ``none`` without an answer.
        waits: seconds from connect to the answer.
    """

    answers: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)

    async def come(self, port: int) -> None:
        """Connect one, and leave."""
        began, status = time.monotonic(), "none"
        try:
            newcomer = await client.join(port, "newcomers")
            status = "101"
            await client.hang_up(newcomer.writer)
        except client.RefusedError as refused:
            status = str(refused.status or "none")
        except OSError:
            pass
        finally:
            self.answers[status] += 1
            self.waits.append(time.monotonic() - began)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and maximum in ms; all infinite without values."""
    ordered = sorted(seconds) or [float("inf")]
    at = {"p50_ms": 0.5, "p95_ms": 0.95, "max_ms": 1.0}
    return {name: round(1000 * ordered[int(part * (len(ordered) - 1))], 1) for name, part in at.items()}


async def come_and_go(port: int, newcomers: Newcomers, tasks: set["asyncio.Task[None]"]) -> None:
    """Start a newcomer at fixed times, whether or not the last one has its answer."""
    while True:
        tasks.add(asyncio.create_task(newcomers.come(port)))
        await asyncio.sleep(NEWCOMER_SECONDS)


async def settle(waited: "set[asyncio.Task[None]]", ears: list[bystanders.Ear], sent: list[list[int]]) -> list[float]:
    """Wait for what is in flight; return the lags of what does not come, at least."""
    deadline = time.monotonic() + LAST_SECONDS
    if waited:
        await asyncio.wait(waited, timeout=LAST_SECONDS)
    pairs = list(zip(sent, reversed(ears), strict=True))
    while any(count[0] > ear.next for count, ear in pairs) and time.monotonic() < deadline:  # noqa: ASYNC110 - two counters of other tasks
        await asyncio.sleep(0.05)
    lost = [(count[0], ear.next) for count, ear in pairs]
    return [
        LAST_SECONDS + (number - index) * bystanders.INTERVAL_SECONDS
        for number, next_one in lost
        for index in range(next_one, number)
    ]


async def main(port: int) -> None:
    """Run until end of standard input."""
    pair = [await client.join(port, "bystanders", deflate) for deflate in (False, True)]
    ears, sent = [bystanders.Ear(), bystanders.Ear()], [[0], [0]]
    newcomers, coming = Newcomers(), set[asyncio.Task[None]]()
    print(json.dumps({"open": True}), flush=True)
    listening = [asyncio.create_task(bystanders.listen(*each)) for each in zip(pair, ears, strict=True)]
    speaking = [asyncio.create_task(bystanders.speak(*each)) for each in zip(pair, sent, strict=True)]
    speaking.append(asyncio.create_task(come_and_go(port, newcomers, coming)))
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    done, _ = await asyncio.wait([*listening, *speaking, over], return_when=asyncio.FIRST_COMPLETED)
    faults = [f"a bystander's connection has ended: {task.exception()!r}" for task in done if task.exception()]
    for task in speaking:
        task.cancel()
    late = await settle(coming, ears, sent)
    faults += [fault for ear in ears for fault in ear.faults]
    lags = [lag for ear in ears for lag in ear.lags]
    found = {**percentiles(lags + late), "heard": len(lags), "late": len(late), "faults": faults[:10]}
    for task in (*listening, *coming):
        task.cancel()
    await asyncio.gather(*coming, return_exceptions=True)
    found["newcomers"] = {**percentiles(newcomers.waits), "answers": newcomers.answers}
    print(json.dumps(found), flush=True)
    await over


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
