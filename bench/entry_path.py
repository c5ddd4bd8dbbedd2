#!/usr/bin/env python3
"""What entries of a broker's log cost, without a relay: XADD and XREAD over a Unix socket, by messages per entry.

Usage: ``bench/entry_path.py [--seconds 1] [--repeats 3]``, with a Python that has hiredis and msgspec, and Debian's
redis-server. Each node is a process: it writes entries, one at a time, and reads those of all nodes; messages of 64
bytes, each of a room of its own. The first table has one node that only writes, then one that does both, then more
that only read; the last line is what two nodes do that write and read. Exit codes: 0 it ran, 1 something failed.
"""

import argparse
import json
import os
import select
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import broker
import processes
import toolchain

KEY = "entries"

#: Of one message; a plain frame has two bytes before it.
PAYLOAD_BYTES = 64
FRAME = bytes((0x81, PAYLOAD_BYTES)) + bytes(PAYLOAD_BYTES)

PER_ENTRY = (1, 16, 64)

#: Entries in one reply of XREAD; the log is trimmed to about so many.
READ_COUNT = 64
KEPT_ENTRIES = 10_000

#: Bound on an answer of a node beyond its seconds.
GRACE_SECONDS = 20

Record = tuple[str, bytes, int]


@dataclass(frozen=True)
class Figures:
    """What one run has shown.

    Attributes:
        per_second: messages written by all nodes.
        broker_us: CPU of the broker per message.
        write_us: CPU of a node that only writes, per message; 0 where there was none.
        read_us: CPU of a node that only reads, per message; 0 where there was none.
    """

    per_second: float
    broker_us: float
    write_us: float
    read_us: float


def records(per_entry: int) -> list[Record]:
    """Return the records of one entry."""
    return [(f"room-{number}", FRAME, 1) for number in range(per_entry)]


class Node:
    """A node: writes entries, reads entries, or both.

    Args:
        path: of the broker's socket.
        name: in its entries.
        per_entry: messages in each.
    """

    def __init__(self, path: Path, name: str, per_entry: int) -> None:
        import msgspec  # noqa: PLC0415 - nothing else needs it

        self._path, self._name = path, name
        self._records = records(per_entry)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Record]).decode
        self._cursor: bytes | str = "0"
        self.wrote = self.read = 0

    def write_entry(self, writer: broker.Client) -> None:
        """Send an XADD."""
        self.wrote += 1
        fields = ("n", self._name, "s", self.wrote, "m", self._encode(self._records))
        writer.send("XADD", KEY, "MAXLEN", "~", KEPT_ENTRIES, "*", *fields)

    def read_entries(self, reader: broker.Client) -> None:
        """Send an XREAD."""
        reader.send("XREAD", "COUNT", READ_COUNT, "BLOCK", "1000", "STREAMS", KEY, self._cursor)

    def take_entries(self, reader: broker.Client) -> None:
        """Take the reply to an XREAD; look at each message, as for a room that is not here."""
        rooms: dict[str, object] = {}
        for _, entries in reader.reply() or ():
            self._cursor = entries[-1][0]
            for _, fields in entries:
                for room, _, count in self._decode(fields[5]):
                    rooms.get(room)
                    self.read += count

    def run(self, seconds: float, writes: bool, reads: bool) -> dict[str, float]:
        """Write and read for some time, and return what was done and the CPU that it took."""
        writer, reader = broker.Client(self._path), broker.Client(self._path)
        turns: dict[int, Callable[[], None]] = {}
        if writes:
            turns[writer.socket.fileno()] = lambda: (writer.reply(), self.write_entry(writer))[1]
            self.write_entry(writer)
        if reads:
            turns[reader.socket.fileno()] = lambda: (self.take_entries(reader), self.read_entries(reader))[1]
            self.read_entries(reader)
        began, cpu = time.monotonic(), time.process_time()
        poller = select.epoll()
        for descriptor in turns:
            poller.register(descriptor, select.EPOLLIN)
        while (left := began + seconds - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left):
                turns[descriptor]()
        found = {"cpu": time.process_time() - cpu, "seconds": time.monotonic() - began}
        writer.close()
        reader.close()
        return {**found, "wrote": self.wrote * len(self._records), "read": self.read}


def measure(per_entry: int, roles: Sequence[str], seconds: float) -> Figures:
    """Run nodes beside each other, each with the letters "w" and "r" for what it does.

    Raises:
        processes.FailedError: a node or the broker failed.
    """
    with broker.running(processes.cores()[0]) as (pid, path):
        watcher = broker.Client(path)
        before = cpu_seconds(pid)
        found = in_processes(
            [lambda name=name, role=role: Node(path, name, per_entry).run(seconds, "w" in role, "r" in role)
             for name, role in zip("abcdefgh", roles, strict=False)],
            seconds + GRACE_SECONDS,
        )  # fmt: skip
        broker_cpu = cpu_seconds(pid) - before
        watcher.close()
    return figures(list(zip(roles, found, strict=True)), broker_cpu)


def caught_up_us(seconds: float = 0.3) -> float:
    """Return the broker's CPU in microseconds for one entry of one message in a reply with many.

    Raises:
        processes.FailedError: the broker failed.
    """
    with broker.running(processes.cores()[0]) as (pid, path):
        client = broker.Client(path)
        node = Node(path, "a", 1)
        for _ in range(READ_COUNT):
            node.write_entry(client)
            client.reply()
        before, entries, began = cpu_seconds(pid), 0, time.monotonic()
        while time.monotonic() < began + seconds:
            client("XREAD", "COUNT", READ_COUNT, "STREAMS", KEY, "0")
            entries += READ_COUNT
        client.close()
        return (cpu_seconds(pid) - before) / entries * 1e6


def figures(found: Sequence[tuple[str, dict[str, float]]], broker_cpu: float) -> Figures:
    """Return what the nodes and the broker have shown together."""
    wrote = sum(node["wrote"] for _, node in found)

    def per_message(role: str, of: str) -> float:
        """Return the CPU of the nodes of a role, per message."""
        chosen = [node for one, node in found if one == role]
        count = sum(node[of] for node in chosen)
        return sum(node["cpu"] for node in chosen) / count * 1e6 if count else 0.0

    seconds = max(node["seconds"] for _, node in found)
    return Figures(wrote / seconds, broker_cpu / wrote * 1e6, per_message("w", "wrote"), per_message("r", "read"))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text("ascii").split()[0]) for task in tasks) / 1e9


def in_processes(functions: Sequence[Callable[[], dict[str, float]]], bound: float) -> list[dict[str, float]]:
    """Call each function in a process of its own, all at one time, and return what they returned.

    Raises:
        processes.FailedError: one of them failed, or took too long.
    """
    children = [_fork(function) for function in functions]
    try:
        return [_answer(pipe, bound) for _, pipe in children]
    finally:
        for pid, pipe in children:
            os.close(pipe)
            if processes.is_alive(pid):
                os.kill(pid, 9)
            os.waitpid(pid, 0)


def _fork(function: Callable[[], dict[str, float]]) -> tuple[int, int]:
    """Call a function in a child, and return its process id and the pipe that its answer comes from."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.write(writing, json.dumps(function()).encode())
    finally:
        os._exit(0)


def _answer(pipe: int, bound: float) -> dict[str, float]:
    """Read the answer of a child.

    Raises:
        processes.FailedError: there is none.
    """
    if not select.select([pipe], [], [], bound)[0]:
        raise processes.FailedError(f"a node did not end within {bound:.0f} s")
    answer = os.read(pipe, 4096)
    if not answer:
        raise processes.FailedError("a node failed")
    return json.loads(answer)


#: What is measured beside each other: title, and the nodes with what they do.
RUNS = [
    ("1 writes", ("w",)),
    ("1 writes, 1 reads", ("w", "r")),
    ("1 writes, 3 read", ("w", "r", "r", "r")),
    ("2 write and read", ("wr", "wr")),
]


def median(found: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    rows = [asdict(one) for one in found]
    return Figures(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


def main(arguments: list[str]) -> int:
    """Measure all, and print a table."""
    parser = argparse.ArgumentParser(description="What entries of a broker's log cost.")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement; default 1")
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    options = parser.parse_args(arguments)
    toolchain.redis()
    print("| nodes | messages per entry | messages/s | broker, µs CPU per message | writer, µs | reader, µs |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for title, roles in RUNS:
        for per_entry in PER_ENTRY:
            one = median([measure(per_entry, roles, options.seconds) for _ in range(options.repeats)])
            print(
                f"| {title} | {per_entry} | {one.per_second:,.0f} | {one.broker_us:.2f} | {one.write_us:.2f} |"
                f" {one.read_us:.2f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (processes.FailedError, toolchain.MissingError, ImportError) as failure:
        sys.exit(str(failure))
