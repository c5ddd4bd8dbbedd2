"""Write what relays with a broker have shown, beside one without, as Markdown. Pure: a report in, text out."""

from collections.abc import Callable
from dataclasses import dataclass

import servers
import work
from report import NOT_MEASURED, Report, markdown
from samples import Results
from servers import RELAY

REDIS, TWO_NODES = "relay-redis", "relay-redis-2"


@dataclass(frozen=True)
class Figure:
    """A figure that has a bar.

    Attributes:
        title: what it is.
        value: of the results; None where it was not measured.
        bar: what it has to reach.
        least: whether the bar is the least, not the most.
        form: of figure and bar.
    """

    title: str
    value: Callable[[Results], float | None]
    bar: float
    least: bool = False
    form: str = ",.0f"

    def line(self, results: Results) -> list[str]:
        """Return the cells of its line."""
        value = self.value(results)
        bar = f"{'≥' if self.least else '≤'} {self.bar:{self.form}}"
        if value is None:
            return [self.title, bar, NOT_MEASURED, ""]
        reached = value >= self.bar if self.least else value <= self.bar
        return [self.title, bar, f"{value:{self.form}}", "yes" if reached else "**no**"]


def added(row: str) -> Callable[[Results], float | None]:
    """Make what gives the median latency that a broker adds, in µs."""

    def value(results: Results) -> float | None:
        """Return the difference of the medians of p50."""
        there, without = results.median(REDIS, row, "p50"), results.median(RELAY, row, "p50")
        return None if there is None or without is None else there - without

    return value


def ratio(row: str, metric: str) -> Callable[[Results], float | None]:
    """Make what gives how many times the local relay's a metric is."""
    return lambda results: results.ratio(REDIS, RELAY, row, metric)


FIGURES = [
    Figure("added p50, 200 messages/s to 10 members, µs", added("one-200"), 500),
    Figure("added p50, 1000 messages/s to 10 members, µs", added("one-1000"), 500),
    Figure(
        "publish → other node, 10 000/s: p50, µs", lambda results: results.median(TWO_NODES, "cross-10000", "p50"), 2000
    ),
    Figure("relay CPU per message / local: one message per turn", ratio("turns-2x1", "relay_cpu"), 1.9, form=".2f"),
    Figure("relay CPU per message / local: 5000/s in rooms of 2", ratio("pairs-5000", "relay_cpu"), 1.15, form=".2f"),
    Figure("the same, 5 at a time", ratio("pairs-5000-bursts", "relay_cpu"), 1.15, form=".2f"),
    Figure("deliveries/s / local: 100 members, window 64", ratio("100x64", "deliveries"), 0.85, True, ".2f"),
]

#: The tables of all broker rows: metric, and what it is.
METRICS = {
    "p50": "p50, µs",
    "p99": "p99, µs",
    "deliveries": "Millions of deliveries per second",
    "relay_cpu": "CPU of the relay per published message, all nodes together, µs",
    "broker_cpu": "CPU of the broker per published message, µs",
}

NOTE = """\
All nodes, the broker and the local relay have one core, and the load generator another: more nodes show here what they
cost, not what they carry. A node that has a core to itself carries what the CPU per message says. The broker is on the
same machine, on a Unix socket, and keeps nothing on disk: a network and a disk add to the latencies."""


def section(report: Report) -> str:
    """Write the section; empty where no relay with a broker was measured."""
    if not any(servers.BY_NAME[name].nodes for name in report.servers if name in servers.BY_NAME):
        return ""
    figures = [figure.line(report.results) for figure in FIGURES]
    shown = [name for name in report.servers if name == RELAY or servers.BY_NAME[name].nodes]
    rows = [row for row in work.BROKER_ROWS if row.name in report.facts["rows"]]
    tables = []
    for metric, title in METRICS.items():
        lines = [[row.title, *(report.cell(name, row.name, metric) for name in shown)] for row in rows]
        tables.append(f"### {title}\n\n{markdown(['', *map(report.title, shown)], lines)}")
    parts = ["## With a broker", markdown(["figure", "bar", "measured", "reached"], figures), NOTE]
    return "\n\n".join([*parts, *(tables if rows else [])])
