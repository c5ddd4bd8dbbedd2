"""A crowd that is cut off, and returns at once to read on where it was: each client checks every message.

Usage: ``returning.py PORT PID OPTIONS``, as a separate process: PORT and PID of the relay, `Options` as JSON. Prints
the figures of one run as a line of JSON, see `Crowd.run`.

Half of the clients are event streams, the other half plain WebSockets. Must not live here: what each checks, see
`readers`; the relay, bystanders and the report, see ``crowd``.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import exchanges
import gauges
from readers import EventStream, Room, WebSocket

#: So many connect between two looks at the others.
BATCH = 100

#: Bound on each wait, and the interval between two samples of the relay's memory.
WAIT_SECONDS = 30
SAMPLE_SECONDS = 0.02

#: Faults that are told.
MAX_FAULTS = 10


@dataclass(frozen=True)
class Options:
    """One run.

    Attributes:
        clients: in all rooms.
        rooms: with history.
        rate: messages per second in each room.
        size: bytes of a message, at least 126 and less than 64 KiB.
        steady_seconds: before the cut, and after the return.
        away_seconds: from the cut to the return.
    """

    clients: int = 2000
    rooms: int = 20
    rate: float = 10.0
    size: int = 256
    steady_seconds: float = 3.0
    away_seconds: float = 2.0


class Publisher:
    """Posts the messages of a room at fixed times, one after the other.

    Args:
        room: its room.
        publish: posts a payload and calls back with status and body of the answer.
        rate: messages per second.
        phase: from 0 to 1: where in its interval the first one is due, so that not all rooms publish at one time.

    Attributes:
        waits: seconds from each message's time to its answer.
        faults: in words.
    """

    def __init__(
        self,
        room: Room,
        publish: Callable[[Room, bytes, Callable[[int, bytes], None]], object],
        rate: float,
        phase: float = 0.0,
    ) -> None:
        self._room, self._publish, self._interval = room, publish, 1 / rate
        self._due = time.monotonic() + phase / rate
        self._pending: deque[float] = deque()
        self._is_posting = False
        self.waits: list[float] = []
        self.faults: list[str] = []

    def tick(self, now: float) -> None:
        """Publish what is due."""
        while self._due <= now:
            self._pending.append(self._due)
            self._due += self._interval
        if self._pending and not self._is_posting:
            self._is_posting = True
            self._publish(self._room, self._room.add(), self._answered)

    def is_done(self) -> bool:
        """Whether all that was published is answered; what is due and waits is not published any more."""
        return not self._is_posting

    def _answered(self, status: int, body: bytes) -> None:
        room, self._is_posting = self._room, False
        if status != 202:
            self.faults.append(f"a POST was answered with {status}: {body[:100]!r}")
        else:
            room.ids[room.answered] = json.loads(body)["id"]
        room.answered += 1
        self.waits.append(time.monotonic() - self._pending.popleft())


class Crowd:
    """All clients and publishers of a run.

    Args:
        port: of the relay.
        pid: of the relay.
        options: of the run.
    """

    def __init__(self, port: int, pid: int, options: Options) -> None:
        self._port, self._pid, self._options = port, pid, options
        self._loop = exchanges.Loop()
        rooms = [Room(f"crowd/{number}", options.size) for number in range(options.rooms)]
        kinds = (WebSocket, EventStream)
        self.clients = [
            kinds[number // options.rooms % 2](rooms[number % options.rooms]) for number in range(options.clients)
        ]
        self._publishers = [
            Publisher(room, self._post, options.rate, number / len(rooms)) for number, room in enumerate(rooms)
        ]
        self._is_publishing = True
        self._sampled_at, self._peak_mib = 0.0, 0.0

    def run(self) -> dict[str, object]:
        """Let all come, be cut off, and return.

        Returns:
            When all were there, were cut off, and when the return began and ended, in seconds of the system's
            monotonic clock; and the figures that `crowd` shows.
        """
        self._come()
        self._turn_until(self._is_live)
        steady = time.monotonic()
        self._turn_for(self._options.steady_seconds)
        before_mib, self._peak_mib = self._rss_mib(), 0.0
        cut = time.monotonic()
        for publisher in self._publishers:
            publisher.waits.clear()
        for one in self.clients:
            one.cut()
        self._turn_for(self._options.away_seconds)
        known = [one.next for one in self.clients]
        began, used, ours = time.monotonic(), gauges.read(self._pid).cpu_seconds, time.process_time()
        self._come()
        self._turn_until(self._is_live)
        seconds = time.monotonic() - began
        cpu = (gauges.read(self._pid).cpu_seconds - used) / seconds
        generator = (time.process_time() - ours) / seconds
        missed = [one.room.answered - number for one, number in zip(self.clients, known, strict=True)]
        self._turn_for(self._options.steady_seconds)
        self._end()
        return {
            "steady": steady,
            "cut": cut,
            "began": began,
            "ended": began + seconds,
            "cpu_share": cpu,
            "generator_share": generator,
            "missed": sum(missed),
            "before_mib": before_mib,
            "peak_mib": self._peak_mib,
            "after_mib": self._rss_mib(),
            **self._outcome(began),
        }

    def close(self) -> None:
        """End all connections."""
        for one in self.clients:
            one.cut()
        self._loop.close()

    def _outcome(self, began: float) -> dict[str, object]:
        """Return what the clients and publishers have seen."""
        lives = sorted(one.live_at - began for one in self.clients if one.live_at)
        infinite = [float("inf")]
        faults = [fault for one in (*self.clients, *self._publishers) for fault in one.faults]
        waits = [wait for publisher in self._publishers for wait in publisher.waits]
        return {
            "clients": len(self.clients),
            "live": len(lives),
            "half_seconds": statistics.median(lives or infinite),
            "most_seconds": (lives or infinite)[len(lives) * 9 // 10],
            "all_seconds": (lives or infinite)[-1],
            "exact": sum(one.is_exact() for one in self.clients),
            "publish_max_ms": 1000 * max(waits, default=0.0),
            "faults": faults[:MAX_FAULTS],
            "fault_count": len(faults),
        }

    def _come(self) -> None:
        """Connect all, without waiting for answers."""
        for number, one in enumerate(self.clients):
            one.connect(self._loop, self._port)
            if number % BATCH == BATCH - 1:
                self._turn(0)

    def _is_live(self) -> bool:
        return all(one.live_at or one.is_over for one in self.clients)

    def _end(self) -> None:
        """Publish no more, and wait until all have all."""
        self._is_publishing = False
        self._turn_until(lambda: all(publisher.is_done() for publisher in self._publishers))
        self._turn_until(lambda: all(one.next >= len(one.room.payloads) or one.is_over for one in self.clients))

    def _post(self, room: Room, payload: bytes, answered: Callable[[int, bytes], None]) -> None:
        exchanges.Exchange(self._loop, self._port, exchanges.post(room.name, payload), answered)

    def _turn(self, seconds: float) -> None:
        """Publish what is due, read what has come, and look at the relay's memory now and then."""
        now = time.monotonic()
        if self._is_publishing:
            for publisher in self._publishers:
                publisher.tick(now)
        if now - self._sampled_at >= SAMPLE_SECONDS:
            self._sampled_at, self._peak_mib = now, max(self._peak_mib, self._rss_mib())
        self._loop.turn(seconds)

    def _turn_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._turn_until(lambda: time.monotonic() >= deadline)

    def _turn_until(self, is_done: Callable[[], bool]) -> None:
        """Turn until something is so, at most `WAIT_SECONDS`; who is late then is seen in the outcome."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_done() and time.monotonic() < deadline:
            self._turn(SAMPLE_SECONDS / 4)

    def _rss_mib(self) -> float:
        return gauges.rss_mib(self._pid)


def main(port: int, pid: int, options: Options) -> None:
    """Run once, and print the figures."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.nice(10)  # bystanders may run on the same core, and are to measure the relay
    crowd = Crowd(port, pid, options)
    try:
        print(json.dumps(crowd.run()), flush=True)
    finally:
        crowd.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Options(**json.loads(sys.argv[3])))
