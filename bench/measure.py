"""Measure: start a server, give it its work, stop it; for all servers, all rows, again and again.

The order is repeat, row, server: what is compared is measured next to each other, so that noise of the machine is
shared, and the repeats are far apart.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import processes
import servers
import toolchain
import work
from samples import Sample, violations
from servers import Server
from work import Row

#: How long the load generator may take beyond the seconds in which it publishes: to connect, and for a slow server to
#: deliver what is under way.
GRACE_SECONDS = 60

#: How long the load generator waits for what is under way in the end: at 9000 members and window 64, the slowest server
#: needs some ten seconds. Less than the grace.
DRAIN_SECONDS = 45

#: A server that delivers less than this many windows in the seconds that are measured is measured again, longer: at
#: 9000 members and window 64, some need seconds for a single one.
LEAST_WINDOWS = 2
LONGEST_SECONDS = 15

#: The exit code of the load generator when every message arrived as it should.
OK = 0


@dataclass(frozen=True)
class Timing:
    """How long and how often.

    Attributes:
        seconds: that are measured.
        warmup: seconds before them.
        repeats: of everything.
    """

    seconds: float
    warmup: float
    repeats: int


def load_arguments(server: Server, row: Row, timing: Timing) -> list[str]:
    """Give what the load generator is told, but for port and process ids."""
    times = {"seconds": timing.seconds, "warmup": timing.warmup, "drain": DRAIN_SECONDS}
    return [
        *row.arguments(),
        *server.load,
        *(word for name, value in times.items() for word in (f"--{name}", str(value))),
    ]


def applies(server: Server, row: Row) -> bool:
    """Whether the server can do this work, and is measured at it."""
    able = (server.deflate is not None or not row.deflate) and (server.tls is not None or not row.tls)
    return able and work.matches(row.name, server.rows) and work.matches(server.name, row.servers)


def under_way(row: Row) -> int:
    """Give how many deliveries one window of every publisher makes."""
    publishers = row.members if row.publishers == "all" else int(row.publishers)
    return row.rooms * publishers * row.window * (row.members - 1)


def enough_seconds(row: Row, outcome: Mapping[str, Any], seconds: float) -> float:
    """Give for how long to measure a server, given what it delivered in a number of seconds."""
    least = LEAST_WINDOWS * under_way(row)
    if row.kind != "window" or not outcome or outcome["deliveries"] >= least:
        return seconds
    per_second = outcome["deliveries_per_second"] or 1
    return max(seconds, min(LONGEST_SECONDS, 1.2 * least / per_second))


def plan(chosen: Sequence[Server], rows: Sequence[Row], repeats: int) -> Iterator[tuple[int, Row, Server]]:
    """Give all measurements in their order."""
    for repeat in range(repeats):
        for row in rows:
            for server in chosen:
                if applies(server, row):
                    yield repeat, row, server


def measure(server: Server, row: Row, repeat: int, timing: Timing) -> Sample:
    """Measure one server at one work."""
    began = time.monotonic()
    outcome: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            outcome, fault = _measure(server, row, timing, Path(folder))
    except processes.FailedError as failure:
        fault = str(failure)
    # A fault may quote a traceback, and results are for others to read.
    fault = fault.replace(str(toolchain.HERE), "bench")
    return Sample(server.name, row.name, repeat, round(time.monotonic() - began, 2), outcome, fault)


def _measure(server: Server, row: Row, timing: Timing, folder: Path) -> tuple[dict[str, Any], str]:
    """Start the server, run the load generator, stop the server.

    Returns:
        The outcome, and what was wrong.

    Raises:
        processes.FailedError: there is no outcome, or the server died.
    """
    server_core, load_core = processes.cores()
    command = server.command_line(row.deflate, servers.places(), row.tls)
    with processes.listening_nodes(command, server_core, folder, server.environ) as (pid, ports):
        pids = processes.tree(pid)
        load = toolchain.compiled(toolchain.LOAD_TLS if row.tls else "load")
        target = [str(load), "--port", ",".join(map(str, ports)), "--pids", ",".join(map(str, pids))]
        bound = timing.seconds + timing.warmup + GRACE_SECONDS
        arguments = load_arguments(server, row, timing)
        programs = [processes.program(pid) for pid in pids]
        outcome, fault = judge(row, *processes.output_of([*target, *arguments], load_core, folder, bound))
        return {**outcome, "programs": programs}, fault


def judge(row: Row, code: int, printed: str, errors: str) -> tuple[dict[str, Any], str]:
    """Read what the load generator has printed.

    Returns:
        The outcome, and what was wrong with it.

    Raises:
        processes.FailedError: there is no outcome.
    """
    try:
        outcome = json.loads(printed)
    except ValueError as failure:
        raise processes.FailedError(f"the load generator ended with {code}: {errors}") from failure
    if code != OK or not outcome["ok"]:
        return outcome, still_under_way(row, outcome) or violations(
            outcome
        ) or f"the load generator ended with {code}: {errors}"
    if row.kind != "idle" and not outcome["deliveries"]:
        return outcome, f"nothing was delivered in the {outcome['seconds']:.1f} s that were measured"
    if row.deflate and not outcome["deflate"]:
        return outcome, "the messages came without compression"
    return outcome, ""


def still_under_way(row: Row, outcome: Mapping[str, Any]) -> str:
    """Say so where all that is wrong may be that the server is too slow for the load generator to wait for the rest."""
    lost, window = outcome["lost"], under_way(row)
    if violations(outcome) != f"lost {lost}" or row.kind != "window" or lost > window:
        return ""
    return f"lost, or not delivered when the load generator stopped waiting: {lost:,} of the {window:,} of a window"


class Run:
    """All measurements of a run, one after the other.

    What has failed is not repeated: a failure shows in the report as it is, and some take long.

    Args:
        chosen: the servers, all of which have what they need.
        rows: the work.
        timing: how long and how often.
        keep: told every sample at once, so that an interrupted run is not lost.
        show: told of the progress.
    """

    def __init__(
        self,
        chosen: Sequence[Server],
        rows: Sequence[Row],
        timing: Timing,
        keep: Callable[[Sample], None],
        show: Callable[[str], None],
    ) -> None:
        self._steps = list(plan(chosen, rows, timing.repeats))
        self._timing = timing
        self._keep = keep
        self._show = show
        self._failed: set[tuple[str, str]] = set()
        #: Of those that need longer.
        self._seconds: dict[tuple[str, str], float] = {}

    def __call__(self) -> list[Sample]:
        """Measure, and give the samples."""
        began = time.monotonic()
        weights = [work.weight(row, self._timing.seconds) for _, row, _ in self._steps]
        found = []
        for index, (repeat, row, server) in enumerate(self._steps):
            if (server.name, row.name) in self._failed:
                continue
            sample = self._sample(server, row, repeat)
            found.append(sample)
            self._keep(sample)
            elapsed = time.monotonic() - began
            self._show(progress(sample, row, elapsed, elapsed * sum(weights) / sum(weights[: index + 1])))
        return found

    def _sample(self, server: Server, row: Row, repeat: int) -> Sample:
        """Measure one server at one work, and once more where that was too short."""
        key = (server.name, row.name)
        seconds = self._seconds.get(key, self._timing.seconds)
        sample = measure(server, row, repeat, replace(self._timing, seconds=seconds))
        enough = enough_seconds(row, sample.outcome, seconds)
        if enough > seconds and key not in self._seconds:
            self._seconds[key] = enough
            sample = measure(server, row, repeat, replace(self._timing, seconds=enough))
        if sample.fault:
            self._failed.add(key)
        return sample


def progress(sample: Sample, row: Row, elapsed: float, total: float) -> str:
    """Say in a line what was measured, and how far it is."""
    outcome = sample.outcome
    if sample.fault:
        told = f"FAILED: {sample.fault.splitlines()[0]}"
    elif row.idle:
        told = f"{outcome['handshakes_per_second']:>11,.0f} handshakes/s"
    else:
        told = f"{outcome['deliveries_per_second']:>11,.0f} deliveries/s, p99 {outcome['latency_us']['p99']:,.0f} µs"
    return f"[{elapsed:4.0f} s of {total:4.0f} s] {sample.server:10} {sample.row:12} {told}"
