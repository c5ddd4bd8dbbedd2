"""What was measured: one `Sample` per measurement, and what many of them say together.

Lives here: reading and writing of samples, medians, ratios. Must not live here: how results look.
"""

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

#: The broker's program, whose CPU time is not the relay's.
BROKER_PROGRAM = "redis-server"

#: What the load generator counts that must not be there.
VIOLATIONS = ("lost", "doubled", "disordered", "changed", "unexpected", "closed")


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Attributes:
        server: its name.
        row: the name of the work.
        repeat: counted from 0.
        took_seconds: with start and end of the server.
        outcome: what the load generator printed; empty where it printed nothing.
        fault: what went wrong; empty when nothing did.
    """

    server: str
    row: str
    repeat: int
    took_seconds: float
    outcome: dict[str, Any]
    fault: str = ""


def begin(path: Path, facts: dict[str, Any]) -> None:
    """Begin a file of samples, one line of JSON each, with what has to be known of them in the first."""
    path.write_text(json.dumps(facts) + "\n", encoding="utf-8")


def keep(path: Path, sample: Sample) -> None:
    """Add a sample to the file at once, so that an interrupted run is not lost."""
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(sample)) + "\n")


def read(path: Path) -> tuple[dict[str, Any], list[Sample]]:
    """Read the facts and the samples; a last line that was cut off is left out."""
    lines = [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
    facts, *found = map(json.loads, lines)
    return facts, [Sample(**sample) for sample in found]


def read_whole(path: Path) -> tuple[dict[str, Any], list[Sample]]:
    """Read the facts and the samples from the results of a run that has ended."""
    whole = json.loads(path.read_text("utf-8"))
    return whole["facts"], [Sample(**sample) for sample in whole["samples"]]


def violations(outcome: dict[str, Any]) -> str:
    """Say what was wrong with the messages: "lost 3, closed 1"."""
    return ", ".join(f"{name} {outcome[name]}" for name in VIOLATIONS if outcome.get(name))


def _kib_per_connection(outcome: dict[str, Any]) -> float | None:
    """Give the memory that the server took for one connection."""
    before, after = outcome.get("rss_before_kib"), outcome.get("rss_after_kib")
    return None if before is None or after is None else (after - before) / outcome["connections"]


def _cpu_per_handshake(outcome: dict[str, Any]) -> float | None:
    """Give the microseconds of CPU that one handshake cost the server."""
    seconds = outcome.get("open_server_cpu_seconds")
    return None if seconds is None else seconds / outcome["connections"] * 1e6


def _cpu_per_message(outcome: dict[str, Any], broker: bool) -> float | None:
    """Give the microseconds of CPU that one published message cost the broker, or all the others."""
    programs, seconds = outcome.get("programs"), outcome.get("server_cpus_seconds")
    if not programs or not seconds or not outcome["messages"]:
        return None
    chosen = [cpu for name, cpu in zip(programs, seconds, strict=True) if (name == BROKER_PROGRAM) is broker]
    return sum(chosen) / outcome["messages"] * 1e6 if chosen else None


#: What can be asked of an outcome.
METRICS: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "deliveries": lambda outcome: outcome["deliveries_per_second"],
    "p50": lambda outcome: outcome["latency_us"]["p50"],
    "p99": lambda outcome: outcome["latency_us"]["p99"],
    "max": lambda outcome: outcome["latency_us"]["max"],
    "cpu": lambda outcome: outcome["server_cpu_us_per_delivery"],
    "generator": lambda outcome: outcome["generator_cpu_share"],
    "handshakes": lambda outcome: outcome["handshakes_per_second"],
    "handshake_cpu": _cpu_per_handshake,
    "kib": _kib_per_connection,
    "relay_cpu": partial(_cpu_per_message, broker=False),
    "broker_cpu": partial(_cpu_per_message, broker=True),
    "wire": lambda outcome: outcome["bytes_received"] / outcome["deliveries"] if outcome["deliveries"] else None,
}


class Results:
    """Samples by server and row.

    Args:
        samples: all of them, in any order.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = list(samples)

    def of(self, server: str, row: str) -> list[Sample]:
        """Give the samples of a server and a row."""
        return [sample for sample in self.samples if (sample.server, sample.row) == (server, row)]

    def values(self, server: str, row: str, metric: str) -> list[float]:
        """Give a metric in all samples that are without fault and have it."""
        good = [METRICS[metric](sample.outcome) for sample in self.of(server, row) if not sample.fault]
        return [value for value in good if value is not None]

    def median(self, server: str, row: str, metric: str) -> float | None:
        """Give the median of a metric over the repeats; None where there is none."""
        values = self.values(server, row, metric)
        return statistics.median(values) if values else None

    def ratio(self, server: str, other: str, row: str, metric: str) -> float | None:
        """Give how many times the other's a server's median is; None where either has none."""
        mine, others = self.median(server, row, metric), self.median(other, row, metric)
        return mine / others if mine is not None and others else None

    def pairs(self, server: str, other: str, row: str, metric: str) -> list[float]:
        """Give how many times the other's a server's metric is, for each repeat in which both have it.

        The two of a repeat are measured one after the other, so what changes from repeat to repeat cancels out.
        """
        mine, others = self._by_repeat(server, row, metric), self._by_repeat(other, row, metric)
        return [value / others[repeat] for repeat, value in mine.items() if others.get(repeat)]

    def _by_repeat(self, server: str, row: str, metric: str) -> dict[int, float]:
        """Give a metric by repeat, where it is without fault and there."""
        good = {one.repeat: METRICS[metric](one.outcome) for one in self.of(server, row) if not one.fault}
        return {repeat: value for repeat, value in good.items() if value is not None}

    def spread(self, server: str, row: str, metric: str) -> float | None:
        """Give how far the repeats are apart, as a share of their median."""
        values, middle = self.values(server, row, metric), self.median(server, row, metric)
        return (max(values) - min(values)) / middle if middle else None

    def best(self, servers: Iterable[str], row: str, metric: str) -> str | None:
        """Give the server whose median is the highest."""
        medians = {server: self.median(server, row, metric) or 0 for server in servers}
        name = max(medians, key=lambda server: medians[server], default=None)
        return name if name is not None and medians[name] else None

    def faults(self, server: str, row: str) -> list[str]:
        """Give what went wrong, once each."""
        return list(dict.fromkeys(sample.fault for sample in self.of(server, row) if sample.fault))
