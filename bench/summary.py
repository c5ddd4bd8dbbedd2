"""Write what matters most in one small table, such as for a README. Pure: facts and samples in, text out."""

from typing import Any

from report import Report, markdown
from samples import Results

#: What is in it: title, row, metric.
LINES = [
    ("deliveries/s, 10 members, one message at a time, M", "10x1", "deliveries"),
    ("deliveries/s, 100 members, window 16, M", "100x16", "deliveries"),
    ("deliveries/s, 1000 members, window 64, M", "1000x64", "deliveries"),
    ("deliveries/s, all of 100 members publish, M", "all-100", "deliveries"),
    ("deliveries/s, 16 KiB messages, 100 members, M", "16k-100", "deliveries"),
    ("p99 at 200 messages/s to 1000 members, µs", "paced-1000", "p99"),
    ("handshakes/s", "idle-9000", "handshakes"),
    ("KiB per idle connection", "idle-9000", "kib"),
]


def compact(facts: dict[str, Any], results: Results) -> str:
    """Write the table, with the rows that were measured."""
    report = Report(facts, results)
    measured = {row.name for row in report.rows}
    lines = [
        [title, *(report.cell(server, row, metric) for server in report.servers)]
        for title, row, metric in LINES
        if row in measured
    ]
    return markdown(["", *map(report.title, report.servers)], lines)
