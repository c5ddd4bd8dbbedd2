"""Write what was measured as Markdown. Pure: facts and samples in, text out."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import work
from samples import Results
from servers import FLOOR, HISTORY, RELAY, SERVERS
from work import Row

FAILED = "FAILED"
NOT_INSTALLED = "not installed"
NOT_APPLICABLE = "n/a"
NOT_MEASURED = "–"

#: Beside a figure whose server failed in another repeat.
SOMETIMES = " (!)"

#: How a metric is shown.
FORMATS: dict[str, Callable[[float], str]] = {
    "deliveries": lambda value: f"{value / 1e6:#.3g}",
    "cpu": lambda value: f"{value:.2f}",
    "generator": lambda value: f"{value:.0%}",
    "handshakes": lambda value: f"{value:,.0f}",
    "handshake_cpu": lambda value: f"{value:,.0f}",
    "kib": lambda value: f"{value:.1f}",
    "wire": lambda value: f"{value:,.0f}",
    "relay_cpu": lambda value: f"{value:.1f}",
    "broker_cpu": lambda value: f"{value:.1f}",
}


def plain(value: float) -> str:
    """Show a figure as an integer, as most are."""
    return f"{value:,.0f}"


@dataclass(frozen=True)
class Table:
    """One table of a report.

    Attributes:
        title: what it shows.
        kinds: of the rows that are in it.
        metric: what the cells are.
        only: rows by name, where not all of these kinds are in it.
    """

    title: str
    kinds: tuple[str, ...]
    metric: str
    only: tuple[str, ...] = ()

    def rows(self, rows: Iterable[Row]) -> list[Row]:
        """Give the rows that are in it."""
        return [row for row in rows if row.kind in self.kinds and (not self.only or row.name in self.only)]


#: After the main one.
TABLES = [
    Table("Latency at 200 messages/s, p50, µs", ("paced",), "p50"),
    Table("Latency at 200 messages/s, p99, µs", ("paced",), "p99"),
    Table("Latency at 200 messages/s, max, µs", ("paced",), "max"),
    Table("Millions of deliveries per second at 200 messages/s", ("paced",), "deliveries"),
    Table("Idle connections: KiB of the server per connection", ("idle",), "kib"),
    Table("Idle connections: handshakes/s, 64 at a time", ("idle",), "handshakes"),
    Table("Idle connections: CPU of the server per handshake, µs", ("idle",), "handshake_cpu"),
    Table("CPU of the server per delivery, µs", ("window", "paced"), "cpu"),
    Table("With a window: p50, µs", ("window",), "p50"),
    Table("With a window: p99, µs", ("window",), "p99"),
    Table("With a window: max, µs", ("window",), "max"),
    Table("Bytes received per delivery, frames and all", ("window",), "wire", ("deflate-100",)),
    Table("CPU share of the load generator: near 100 % it is what was measured", ("window", "paced"), "generator"),
]

#: What the ratios compare with, where it was measured, beside the best peer.
RATIO_SERVERS = ("floor", "relay-pure", "picows", "ws")

#: Kind of row → what the ratios are of, and whether more of it is better.
RATIO_METRICS = {"window": ("deliveries", True), "paced": ("p50", False), "idle": ("handshakes", True)}
RATIO_NOTE = "Deliveries and handshakes per second: more is better. p50 of latency: less is better."

#: The relay, in all its ways, and the yardstick.
NO_PEERS = (RELAY, HISTORY, "relay-pure", "watched", FLOOR, *(server.name for server in SERVERS if server.nodes))

LIMITATIONS = """\
## What this does not show

* **Two programs on one machine, over loopback.** No network, no packet loss, no interrupts of a network card. Servers
  and load generator have a core each, which may be shared with others by the host: compare within a row, whose servers
  were measured next to each other, rather than between rows or between runs.
* **A closed loop**, but for the rows at 200 messages/s: a publisher waits for its window, so a slow server is given
  less to do, and the latencies of these rows are those of a server at its limit.
* **One core.** Servers that use several are held to one, since that is what the relay uses.
* **Well-behaved clients only**: everyone reads at once. What a slow reader costs the others is not in here.
* **Not the same promises.** The floor checks nothing and limits nothing; NATS speaks a protocol of its own; Nchan
  stores messages and cannot leave out their publisher, a delivery that costs it time and is not counted. What a peer
  does beyond relaying, or leaves out, is not in the figures.
"""


class Report:
    """A report.

    Args:
        facts: what `facts.gather` has gathered.
        results: what was measured.
    """

    def __init__(self, facts: dict[str, Any], results: Results) -> None:
        self.facts = facts
        self.results = results
        self.servers = list(facts["servers"])
        self.rows = [row for row in work.ROWS if row.name in facts["rows"]]
        self.peers = [server for server in self.servers if server not in NO_PEERS]

    def title(self, server: str) -> str:
        """Give the name of a server for people."""
        return str(self.facts["servers"][server]["title"])

    def cell(self, server: str, row: str, metric: str) -> str:
        """Give a figure, or why there is none."""
        if server in self.facts["absent"]:
            return NOT_INSTALLED
        if [server, row] in self.facts["not applicable"]:
            return NOT_APPLICABLE
        value = self.results.median(server, row, metric)
        faults = self.results.faults(server, row)
        if value is None:
            return FAILED if faults else NOT_MEASURED
        return FORMATS.get(metric, plain)(value) + (SOMETIMES if faults else "")

    def to_floor(self, row: str) -> str:
        """Give the relay's deliveries/s as a share of the floor's."""
        ratio = self.results.ratio(RELAY, FLOOR, row, "deliveries")
        return NOT_MEASURED if ratio is None else f"{ratio:.2f}"

    def to_best(self, row: str) -> str:
        """Give the relay's deliveries/s as a multiple of the best peer's, and who that is."""
        best = self.results.best(self.peers, row, "deliveries")
        ratio = self.results.ratio(RELAY, best, row, "deliveries") if best else None
        return NOT_MEASURED if best is None or ratio is None else f"{ratio:.2f} ({self.title(best)})"

    def main_table(self) -> str:
        """Write deliveries/s of the rows in which as much is published as the server can do."""
        rows = [row for row in self.rows if row.kind == "window"]
        lines = [
            [row.title, *self._cells(row, "deliveries"), self.to_floor(row.name), self.to_best(row.name)]
            for row in rows
        ]
        return markdown(["", *map(self.title, self.servers), "relay / floor", "relay / best peer"], lines)

    def ratios(self) -> str:
        """Write the relay's figure as a multiple of others', for each row; empty where the relay was not measured."""
        others = [name for name in RATIO_SERVERS if name in self.servers]
        lines = [self._ratio_line(row, others) for row in self.rows] if RELAY in self.servers else []
        header = ["", "of", *(f"/ {self.title(name)}" for name in others), "/ best peer"]
        title = "## Ratios: the relay's median as a multiple of others'"
        return f"{title}\n\n{RATIO_NOTE}\n\n{markdown(header, lines)}" if lines else ""

    def _ratio_line(self, row: Row, others: Sequence[str]) -> list[str]:
        """Give the ratios of one row."""
        metric, _ = RATIO_METRICS[row.kind]
        best = self._best(row)
        cells = [self._ratio(name, row.name, metric) for name in others]
        last = f"{self._ratio(best, row.name, metric)} ({self.title(best)})" if best else NOT_MEASURED
        return [row.title, metric, *cells, last]

    def _best(self, row: Row) -> str | None:
        """Give the peer whose figure is the best; latencies are best where they are lowest."""
        metric, highest = RATIO_METRICS[row.kind]
        medians = {name: self.results.median(name, row.name, metric) for name in self.peers}
        known = {name: median for name, median in medians.items() if median}
        if not known:
            return None
        return (max if highest else min)(known, key=lambda name: known[name])

    def _ratio(self, other: str, row: str, metric: str) -> str:
        """Give one ratio."""
        ratio = self.results.ratio(RELAY, other, row, metric)
        return NOT_MEASURED if ratio is None else f"{ratio:.2f}"

    def table(self, table: Table) -> str:
        """Write one of the other tables; empty where it has no rows."""
        lines = [[row.title, *self._cells(row, table.metric)] for row in table.rows(self.rows)]
        return f"### {table.title}\n\n{markdown(['', *map(self.title, self.servers)], lines)}" if lines else ""

    def failures(self) -> str:
        """Write what went wrong and who was not there."""
        lines = [f"* **{self.title(server)}**, {absence}" for server, absence in self.facts["absent"].items()]
        lines += [f"* {work.BY_NAME[row].title}: {why}" for row, why in self.facts.get("left out", {}).items()]
        for server in self.servers:
            for row in [row for row in work.BY_NAME.values() if row.name in self.facts["rows"]]:
                bad = self.results.faults(server, row.name)
                lines += [f"* **{self.title(server)}**, {row.title}: {' / '.join(fault.splitlines())}" for fault in bad]
        return "\n".join(["## Failed, or not measured", "", *(lines or ["Nothing."])])

    def noise(self) -> str:
        """Write how far the repeats of the relay and of the floor are apart."""
        rows = [row for row in self.rows if row.kind == "window"]
        lines = [
            [row.title, *(self._spread(server, row.name) for server in self.servers)]
            for row in rows
            if self.facts["timing"]["repeats"] > 1
        ]
        header = ["", *map(self.title, self.servers)]
        title = "### Noise: how far the repeats are apart, (highest - lowest) / median of deliveries/s"
        return f"{title}\n\n{markdown(header, lines)}" if lines else ""

    def _spread(self, server: str, row: str) -> str:
        """Give how far the repeats are apart, in percent."""
        spread = self.results.spread(server, row, "deliveries")
        return NOT_MEASURED if spread is None else f"{spread:.0%}"

    def _cells(self, row: Row, metric: str) -> list[str]:
        """Give a metric of all servers."""
        return [self.cell(server, row.name, metric) for server in self.servers]


def full(facts: dict[str, Any], results: Results, plots: Sequence[str], sections: Sequence[str] = ()) -> str:
    """Write the whole report.

    Args:
        facts: what `facts.gather` has gathered.
        results: what was measured.
        plots: file names beside the report.
        sections: more of it, each with its title.
    """
    report = Report(facts, results)
    timing = facts["timing"]
    how = (
        f"Medians of {timing['repeats']} × {timing['seconds']:g} s (longer where a window takes that long), measured "
        f"on {facts['date']}. Every message was checked: once, in order, unchanged, to everyone else in its room."
    )
    parts = [
        "# Benchmark of the relay",
        how,
        "## Millions of deliveries per second",
        report.main_table(),
        "\n".join(f"![{name}]({name})" for name in plots),
        report.ratios(),
        *sections,
        report.failures(),
        "## More figures",
        *map(report.table, TABLES),
        report.noise(),
        LIMITATIONS.strip(),
        conditions(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def conditions(facts: dict[str, Any]) -> str:
    """Write the machine, the versions and the commands."""
    lines = [f"* {name}: {value}" for part in ("machine", "tools") for name, value in facts[part].items()]
    timing = f"--seconds {facts['timing']['seconds']:g} --warmup {facts['timing']['warmup']:g}"
    servers = [
        [known["title"], known["version"], code(_command(known)), code(shlex.join(known["load"]))]
        for known in facts["servers"].values()
    ]
    rows = [[name, code(shlex.join(command))] for name, command in facts["rows"].items()]
    return "\n\n".join(
        [
            "## Conditions",
            "\n".join(lines),
            markdown(["server", "version", "command", "added to the load"], servers, "---"),
            f"`--port`, `--pids` and `{timing}` are added to every load.",
            markdown(["work", "load"], rows, "---"),
        ]
    )


def _command(known: dict[str, Any]) -> str:
    """Write how a server is started, and in brackets how the command ends with compression, and over TLS."""
    environment = "".join(f"{name}={value} " for name, value in known["environment"].items())
    plain = known["command"]
    ends = [_end(known.get(name) or [], plain) for name in ("with deflate", "with tls")]
    return environment + shlex.join(plain) + "".join(f" [{shlex.join(words)}]" for words in ends if words)


def _end(words: list[str], plain: list[str]) -> list[str]:
    """Give the words from the first one on that the plain command does not have at this place."""
    same = next((at for at, pair in enumerate(zip(words, plain, strict=False)) if pair[0] != pair[1]), len(plain))
    return words[same:]


def code(text: str) -> str:
    """Mark text as code, where there is any."""
    return f"`{text}`" if text else ""


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]], mark: str = "---:") -> str:
    """Write a table, with the cells of all columns but the first to the right unless ``mark`` says otherwise."""
    marks = ["---", *[mark] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *lines))
