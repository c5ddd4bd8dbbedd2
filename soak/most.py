"""The report of ``one_address`` as Markdown: each attack, the most of each column, and faults in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Lag of the bystanders' messages that an attack may cause, in ms, at the 95th percentile.
LAG_MS = 100.0

TITLES = {"address": "One address", "network": "One /48, each connection from a /64 of its own"}

#: One row.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: with the unit.
        value: row → its figure.
        form: of the figure.
    """

    title: str
    value: Callable[[Row], float]
    form: str = ".0f"


def _accepted(row: Row) -> float:
    return float(row["answers"].get("101", 0)) / float(row["seconds"])


def _refused(row: Row) -> float:
    return sum(row["answers"].values()) / float(row["seconds"]) - _accepted(row)


def _turned_away(row: Row) -> float:
    """Return the percentage of newcomers from other addresses that did not get in."""
    answers = row["newcomers"]["answers"]
    come = sum(answers.values())
    return 100.0 * (come - answers.get("101", 0)) / come if come else 0.0


COLUMNS = [
    Column("connections", lambda row: row["open"]),
    Column("rooms", lambda row: row["rooms"]),
    Column("handshakes/s", _accepted),
    Column("refused/s", _refused),
    Column("CPU, % of a core", lambda row: 100 * row["cpu_share"]),
    Column("relay, MiB", lambda row: row["relay_mib"]),
    Column("kernel, MiB", lambda row: row["kernel_mib"], ".1f"),
    Column("kernel, KiB of one", lambda row: row["kernel_kib_of_one"]),
    Column("log lines/s", lambda row: row["log_lines_per_second"], ".1f"),
    Column("p50, ms", lambda row: row["p50_ms"], ".1f"),
    Column("p95, ms", lambda row: row["p95_ms"], ".1f"),
    Column("max, ms", lambda row: row["max_ms"]),
    Column("newcomers refused, %", _turned_away),
    Column("newcomers' p95, ms", lambda row: row["newcomers"]["p95_ms"]),
]


def faults(rows: Sequence[Row]) -> list[str]:
    """Return the faults, in words; empty for a pass."""
    found = []
    for row in rows:
        what = f"{row['name']}, {row['source']}"
        if row["p95_ms"] >= LAG_MS:
            found.append(f"{what}: the bystanders' p95 is {row['p95_ms']:.0f} ms; allowed: less than {LAG_MS:.0f}")
        if _turned_away(row):
            found.append(f"{what}: {_turned_away(row):.0f} % of the newcomers from other addresses did not get in")
        if row["late"]:
            found.append(f"{what}: {row['late']} messages of the bystanders did not come within the time")
        found += [f"{what}: {fault}" for fault in row["faults"]]
    return found


def line(row: Row) -> str:
    """Return one row as one line for the terminal."""
    return f"{row['source']}: {row['name']}: " + ", ".join(
        f"{column.title} {format(column.value(row), column.form)}" for column in COLUMNS
    )


def markdown(rows: Sequence[Row], seconds: float, options: Sequence[str], cores: int) -> str:
    """Return the report."""
    found = faults(rows)
    lines = [
        "# What one address can take",
        "",
        f"{seconds:.0f} s per attack, relay options {'`' + ' '.join(options) + '`' if options else 'by default'}: "
        + ("**FAILED**" if found else "**PASSED**"),
        "",
        *(f"* {fault}" for fault in found),
        *([""] if found else []),
    ]
    if cores == 1:
        lines += ["One core only: the attacker and the bystanders take CPU time from the relay.", ""]
    for source, title in TITLES.items():
        chosen = [row for row in rows if row["source"] == source]
        if chosen:
            lines += [f"## {title}", "", *_table(chosen), ""]
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    cells = [[row["name"], *(format(column.value(row), column.form) for column in COLUMNS)] for row in rows]
    most = [format(max(column.value(row) for row in rows), column.form) for column in COLUMNS]
    cells.append(["**at most**", *(f"**{figure}**" for figure in most)])
    titles = ["attack", *(column.title for column in COLUMNS)]
    return [
        f"| {' | '.join(titles)} |",
        f"| --- {'| ---: ' * len(COLUMNS)}|",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]
