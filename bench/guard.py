"""Say whether the relay has become slower: what it costs, as a multiple of what the floor costs in the same run.

Both are measured next to each other and what is compared is CPU, not time, so that much of what else goes on on the
machine cancels out.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from samples import Results

LIMITS = Path(__file__).resolve().with_name("limits.toml")

#: What is compared, for people.
TITLES = {"cpu": "CPU per delivery", "handshake_cpu": "CPU per handshake"}

#: Metric → row → the highest ratio.
Limits = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Verdict:
    """One comparison.

    Attributes:
        text: what was compared, with which outcome.
        passed: whether it is within the limit.
    """

    text: str
    passed: bool


def read_limits(path: Path = LIMITS) -> Limits:
    """Read the limits."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def row_names(limits: Limits) -> list[str]:
    """Give the names of the rows that are needed, each once."""
    return list(dict.fromkeys(row for rows in limits.values() for row in rows))


def verdicts(results: Results, limits: Limits, relay: str, floor: str) -> list[Verdict]:
    """Compare all that there is a limit for. What could not be compared has not passed."""
    return [
        _verdict(results, (relay, floor), row, metric, limit)
        for metric, rows in limits.items()
        for row, limit in rows.items()
    ]


def _verdict(results: Results, pair: tuple[str, str], row: str, metric: str, limit: float) -> Verdict:
    """Compare one metric at one row."""
    what = f"{row:10} {TITLES[metric]:18}"
    faults = [f"{server}: {fault}" for server in pair for fault in results.faults(server, row)]
    ratio = results.ratio(*pair, row, metric)
    if faults or ratio is None:
        return Verdict(f"{what} could not be compared: {'; '.join(faults) or 'no figures'}", False)
    figures = " / ".join(f"{results.median(server, row, metric):.2f} µs" for server in pair)
    said = "ok" if ratio <= limit else "SLIPPED BACK"
    return Verdict(f"{what} {ratio:5.2f} times the floor's ({figures}), at most {limit:g}: {said}", ratio <= limit)
