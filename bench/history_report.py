"""Write what history costs: the relay whose rooms keep messages, beside the one without. Pure: a report to text."""

import statistics

from report import NOT_MEASURED, Report, markdown
from servers import HISTORY, HISTORY_OPTIONS, RELAY
from work import Row

#: The least that the deliveries with history are, as a share of those without, in rows with a window.
BAR = 0.97

HEADER = ["", "of", "with / without", "lowest", "highest", f"≥ {BAR}", "CPU per delivery, with / without"]

NOTE = f"""\
`{" ".join(HISTORY_OPTIONS)}` beside no history. The two are measured one after the other in each repeat:
*with / without* is the median of the repeats' ratios, between the lowest and the highest of them."""


def shown(ratios: list[float]) -> list[str]:
    """Return the cells of ratios: median, lowest, highest."""
    if not ratios:
        return [NOT_MEASURED] * 3
    return [f"{value:.3f}" for value in (statistics.median(ratios), min(ratios), max(ratios))]


def reached(row: Row, ratios: list[float]) -> str:
    """Return whether a row has reached the bar; empty for one without a bar."""
    if row.kind != "window" or not ratios:
        return ""
    return "yes" if statistics.median(ratios) >= BAR else "**no**"


def line(report: Report, row: Row) -> list[str]:
    """Return the cells of a row: deliveries where as much is published as possible, else the median latency."""
    metric = "deliveries" if row.kind == "window" else "p50"
    ratios = report.results.pairs(HISTORY, RELAY, row.name, metric)
    cpu = report.results.pairs(HISTORY, RELAY, row.name, "cpu")
    return [row.title, metric, *shown(ratios), reached(row, ratios), shown(cpu)[0]]


def section(report: Report) -> str:
    """Write the section; empty where not both were measured."""
    if not {HISTORY, RELAY} <= set(report.servers):
        return ""
    rows = [row for row in report.rows if [HISTORY, row.name] not in report.facts["not applicable"]]
    table = markdown(HEADER, [line(report, row) for row in rows if row.kind != "idle"])
    return f"## With history\n\n{NOTE}\n\n{table}"
