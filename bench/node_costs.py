#!/usr/bin/env python3
"""What nodes and their broker spend per message and per entry: measured on real relays, as `COSTS` of scale.py.

Usage: ``bench/node_costs.py [--seconds 2] [--repeats 3]``, with a Python that has wsrelay[redis], Debian's redis-server
and a C compiler. All clients are on the first of one, two or three nodes, in rooms of two or ten; the others only
read. How many messages an entry holds follows from how many are under way. The costs are those that fit best; the
last column of the first table says how well. Exit codes: 0 it ran, 1 something failed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import broker
import entry_path
import processes
import servers
import toolchain
from samples import BROKER_PROGRAM, violations
from work import Row

#: What the clients do: from one message per entry to many.
ROWS = (
    Row("alone", "1 pair, window 1", 2),
    Row("few", "10 pairs, window 1", 2, 10, "all"),
    Row("more", "50 pairs, window 4", 2, 50, "all", window=4),
    Row("many", "100 pairs, window 16", 2, 100, "all", window=16),
)

#: Of a relay without a broker: rooms of two and of ten give what a message and what a delivery costs.
LOCAL_ROWS = (
    Row("pairs", "100 rooms of 2, all publish", 2, 100, "all"),
    Row("tens", "100 rooms of 10, 1 publishes", 10, 100, "1"),
)

#: Both members of a pair, on two nodes: what a message costs that is delivered on another node.
CROSS = Row("cross", "50 pairs over two nodes, window 4", 2, 50, "all", window=4)

NODES = (1, 2, 3)
KEY = "wsrelay:{0}:log"

WARMUP_SECONDS = 0.4
GRACE_SECONDS = 60


@dataclass(frozen=True)
class Spent:
    """What one run has shown; all figures per second.

    Attributes:
        nodes: how many.
        messages: published.
        entries: written.
        broker_us: CPU of the broker.
        nodes_us: CPU of each node, in microseconds; only the first one has clients.
    """

    nodes: int
    messages: float
    entries: float
    broker_us: float
    nodes_us: tuple[float, ...]


def load(row: Row, ports: Sequence[int], pids: Sequence[int], seconds: float) -> list[str]:
    """Return the command of the load generator."""
    words = {
        "port": ",".join(map(str, ports)),
        "pids": ",".join(map(str, pids)),
        "seconds": seconds,
        "warmup": WARMUP_SECONDS,
    }
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    return [str(toolchain.compiled("load")), *row.arguments(), *options]


def measure(row: Row, nodes: int, seconds: float, spread: bool = False) -> Spent:
    """Run some nodes, or a relay without a broker, and give it its work.

    Args:
        row: the work.
        nodes: how many; 0 for a relay without a broker.
        seconds: how long.
        spread: over the nodes; else all clients are on the first one.

    Raises:
        processes.FailedError: a program failed, or a message was lost.
    """
    name = {0: servers.RELAY, 1: "relay-redis"}.get(nodes, f"relay-redis-{nodes}")
    command = servers.BY_NAME[name].command_line(False, servers.places())
    core, other = processes.cores()
    with tempfile.TemporaryDirectory() as folder:
        with processes.listening_nodes(command, core, Path(folder), {}) as (pid, ports):
            pids = processes.tree(pid)
            counted = Counted(Path(folder) / broker.SOCKET) if nodes else None
            words = load(row, ports if spread else ports[:1], pids, seconds)
            output = Path(folder) / "load.out"
            with output.open("wb") as file, processes.running(words, other, Path(folder), {}, file, file) as process:
                per_second = counted.during(seconds) if counted else 0.0
                process.wait(seconds + GRACE_SECONDS)
            programs = [processes.program(one) for one in pids]
        return spent(nodes, per_second, programs, json.loads(output.read_text("utf-8").splitlines()[-1]))


class Counted:
    """The entries of a broker's log.

    Args:
        path: of its socket.
    """

    def __init__(self, path: Path) -> None:
        self._client = broker.Client(path)

    def now(self) -> int:
        """Return how many entries were ever added."""
        found = self._client("XINFO", "STREAM", KEY)
        return dict(zip(found[::2], found[1::2], strict=True))[b"entries-added"]

    def during(self, seconds: float) -> float:
        """Return how many are added per second, after a warm-up and before the end."""
        time.sleep(2 * WARMUP_SECONDS)
        began, before = time.monotonic(), self.now()
        time.sleep(max(0.1, seconds - 3 * WARMUP_SECONDS))
        return (self.now() - before) / (time.monotonic() - began)


def spent(nodes: int, entries: float, programs: Sequence[str], outcome: dict[str, Any]) -> Spent:
    """Return what a run has shown.

    Raises:
        processes.FailedError: a message was lost, or the like.
    """
    if not outcome["ok"]:
        raise processes.FailedError(f"the load generator found: {violations(outcome)}")
    seconds = outcome["seconds"]
    used = [(name, cpu / seconds * 1e6) for name, cpu in zip(programs, outcome["server_cpus_seconds"], strict=True)]
    of_nodes = [cpu for name, cpu in used if name == "twistd"] or [used[0][1]]
    of_broker = sum(cpu for name, cpu in used if name == BROKER_PROGRAM)
    return Spent(nodes, outcome["messages"] / seconds, entries, of_broker, tuple(of_nodes))


def fit(points: Sequence[tuple[Sequence[float], float]]) -> list[float]:
    """Return the factors, none below 0, whose sums of products are nearest to the results, by relative error.

    Args:
        points: the amounts of each, and the result.
    """
    count = len(points[0][0])
    chosen = list(range(count))
    while True:
        found = dict(zip(chosen, _solve([[point[0][one] for one in chosen] for point in points], points), strict=True))
        negative = [one for one in chosen if found[one] < 0]
        if not negative or len(chosen) == 1:
            return [max(0.0, found.get(one, 0.0)) for one in range(count)]
        chosen.remove(min(negative, key=lambda one: found[one]))


def _solve(amounts: Sequence[Sequence[float]], points: Sequence[tuple[Sequence[float], float]]) -> list[float]:
    """Solve the normal equations of least squares, each point divided by its result."""
    rows = [[one / point[1] for one in row] for row, point in zip(amounts, points, strict=True)]
    size = len(rows[0])
    matrix = [[sum(row[i] * row[j] for row in rows) for j in range(size)] for i in range(size)]
    right = [sum(row[i] for row in rows) for i in range(size)]
    for i in range(size):
        for j in range(size):
            if j != i:
                factor = matrix[j][i] / matrix[i][i]
                matrix[j] = [a - factor * b for a, b in zip(matrix[j], matrix[i], strict=True)]
                right[j] -= factor * right[i]
    return [right[i] / matrix[i][i] for i in range(size)]


def error(points: Sequence[tuple[Sequence[float], float]], factors: Sequence[float]) -> float:
    """Return the largest relative error of a fit."""
    sums = [sum(a * b for a, b in zip(amounts, factors, strict=True)) for amounts, _ in points]
    return max(abs(found / point[1] - 1) for found, point in zip(sums, points, strict=True))


@dataclass(frozen=True)
class Measured:
    """All runs.

    Attributes:
        local: relays without a broker, by row.
        pairs: nodes with all clients on the first one.
        cross: pairs over two nodes.
    """

    local: dict[str, Spent]
    pairs: list[Spent]
    cross: Spent


def costs(found: Measured) -> dict[str, tuple[float, float]]:
    """Return each cost in microseconds, with the largest relative error of the fit that it is from."""
    local = [([one.messages, one.messages * (work_row.members - 1)], one.nodes_us[0])
             for work_row in LOCAL_ROWS for one in (found.local[work_row.name],)]  # fmt: skip
    receive, deliver = fit(local)
    base = receive + deliver
    own = [([one.messages, one.entries], one.nodes_us[0] - one.messages * base) for one in found.pairs]
    own = [point for point in own if point[1] > 0]
    other = [([one.messages, one.entries], us) for one in found.pairs for us in one.nodes_us[1:]]
    brokers = [
        ([one.messages, one.entries, one.nodes * one.messages, one.nodes * one.entries], one.broker_us)
        for one in found.pairs
    ]
    own_message, own_entry = fit(own)
    other_message, other_entry = fit(other)
    add_message, add_entry, read_message, answer = fit(brokers)
    read_entry = min(answer, entry_path.caught_up_us())
    cross, half = found.cross, found.cross.messages / 2
    entries = cross.entries / 2
    here = (sum(cross.nodes_us) - cross.messages * (base + own_message) - cross.entries * own_entry
            - 2 * entries * other_entry) / (2 * half)  # fmt: skip
    errors = {"own": error(own, (own_message, own_entry)), "other": error(other, (other_message, other_entry)),
              "broker": error(brokers, (add_message, add_entry, read_message, answer)), "": 0.0}  # fmt: skip
    return {
        "receive": (receive, errors[""]),
        "deliver": (deliver, errors[""]),
        "own_message": (own_message, errors["own"]),
        "own_entry": (own_entry, errors["own"]),
        "other_entry": (other_entry, errors["other"]),
        "other_message": (other_message, errors["other"]),
        "other_here": (max(other_message, here), errors[""]),
        "add_entry": (add_entry, errors["broker"]),
        "add_message": (add_message, errors["broker"]),
        "reply": (answer - read_entry, errors["broker"]),
        "read_entry": (read_entry, errors[""]),
        "read_message": (read_message, errors["broker"]),
    }


def median(run: Callable[[], Spent], repeats: int) -> Spent:
    """Return the run with the median CPU of the first node per message."""
    found = sorted((run() for _ in range(repeats)), key=lambda one: one.nodes_us[0] / one.messages)
    return found[len(found) // 2]


def measure_all(seconds: float, repeats: int) -> Measured:
    """Measure all, and tell of the progress."""
    local = {row.name: median(lambda row=row: measure(row, 0, seconds), repeats) for row in LOCAL_ROWS}
    pairs = []
    for nodes in NODES:
        for row in ROWS:
            pairs.append(median(lambda row=row, nodes=nodes: measure(row, nodes, seconds), repeats))
            print(f"{row.title}, {nodes} nodes: {pairs[-1]}", file=sys.stderr, flush=True)
    cross = median(lambda: measure(CROSS, 2, seconds, spread=True), repeats)
    return Measured(local, pairs, cross)


def table(found: Measured) -> str:
    """Return what was measured as Markdown."""
    lines = ["| nodes | messages/s | messages per entry | broker, µs a message | node with clients, µs | others, µs |"]
    lines.append("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in [*found.local.values(), *found.pairs, found.cross]:
        per_entry = f"{one.messages / one.entries:.1f}" if one.entries else "–"
        per_message = [cpu / one.messages for cpu in (one.broker_us, one.nodes_us[0], *one.nodes_us[1:2])]
        cells = [f"{cpu:.2f}" for cpu in per_message] + ["–"] * (3 - len(per_message))
        lines.append(f"| {one.nodes} | {one.messages:,.0f} | {per_entry} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure all, and print two tables."""
    parser = argparse.ArgumentParser(description="What nodes and their broker spend per message and per entry.")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement; default 2")
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    options = parser.parse_args(arguments)
    toolchain.redis()
    toolchain.hiredis()
    processes.raise_descriptor_limit()
    found = measure_all(options.seconds, options.repeats)
    print(table(found))
    print("\n| cost | µs | fits within |\n| --- | ---: | ---: |")
    for name, (value, wrong) in costs(found).items():
        print(f"| {name} | {value:.3g} | {wrong:.0%} |")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (processes.FailedError, toolchain.MissingError) as failure:
        sys.exit(str(failure))
