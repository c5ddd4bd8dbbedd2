"""Write what matters most in one small table, such as for a README. Pure: facts and samples in, text out."""

from typing import Any

from report import Report, markdown
from samples import Results

#: What is in it: title, row, metric.
LINES = [
    ("M deliveries/s: 10 members, window 1", "10x1", "deliveries"),
    ("10 members, window 64", "10x64", "deliveries"),
    ("100 members, window 16", "100x16", "deliveries"),
    ("100 members, window 64", "100x64", "deliveries"),
    ("1000 members, window 64", "1000x64", "deliveries"),
    ("9000 members, window 64", "9000x64", "deliveries"),
    ("100 members, all publish", "all-100", "deliveries"),
    ("500 rooms of 2, all publish", "rooms-500x2", "deliveries"),
    ("100 members, 16 KiB messages", "16k-100", "deliveries"),
    ("100 members, 1 KiB with deflate", "deflate-100", "deliveries"),
    ("p50, µs: 200 messages/s to 100 members", "paced-100", "p50"),
    ("p99, µs: the same", "paced-100", "p99"),
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
