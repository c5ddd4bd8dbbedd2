"""The verdict of a soak: all faults in its samples, in words."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trend import Trend, trend

#: Allowed memory after the crowd above that before it, in MiB: the allocator keeps some of the peak.
LEFT_MIB = 48

#: Log lines of failures.
BAD_LINE = re.compile(r"Traceback|Unhandled|a callback failed|validator failed|\[.*#(?:error|critical)\]")

#: Lag of a late message. One second in a hundred may have one: the machine may be busy.
LAG_MS = 1000.0


@dataclass(frozen=True)
class Rule:
    """A value that must not grow.

    Attributes:
        name: in a sample.
        title: for reports, with the unit.
        allowance: allowed growth over a run.
        floor: see `trend.trend`.
    """

    name: str
    title: str
    allowance: float
    floor: Callable[[Sequence[float]], float]


RULES = [
    # CPython's arenas and malloc's bins still grow by this in a run without a leak.
    Rule("rss_mib", "memory, MiB", 4.0, min),
    # The size of the crowd is random, also at its minimum.
    Rule("descriptors", "descriptors", 20.0, min),
    # One tick of the scheduler, on a busy machine.
    Rule("p50_ms", "lag of the bystanders, ms", 20.0, median),
]

#: Seconds since the start, the values of `RULES`, and more.
Sample = Mapping[str, Any]


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """Return the trends of `RULES` during the crowd."""
    crowded = [sample for sample in samples if sample["crowded"]]
    return {
        rule.name: trend([(sample["at"], sample[rule.name]) for sample in crowded], rule.allowance, rule.floor)
        for rule in RULES
    }


def faults(samples: Sequence[Sample], before: Any, after: Any, log: str, outcomes: Sequence[str]) -> list[str]:
    """Return the faults, in words; empty for a pass.

    Args:
        samples: one a second.
        before: gauges of the relay before the crowd.
        after: gauges after the crowd.
        log: the log of the relay.
        outcomes: outcomes of the crowd that are bugs.
    """
    moved = trends(samples)
    found = [
        f"{rule.title}: grew by {moved[rule.name].growth:.1f}, that is {moved[rule.name].per_hour:.1f}/h;"
        f" allowed in this time: {moved[rule.name].allowed:.1f}"
        for rule in RULES
        if moved[rule.name].grows
    ]
    found += [f"a bystander: {fault}" for sample in samples for fault in sample["faults"]]
    late = [sample["max_ms"] for sample in samples if sample["crowded"] and sample["max_ms"] > LAG_MS]
    if len(late) > max(1, len(samples) // 100):
        found.append(
            f"a bystander's message took more than {LAG_MS:.0f} ms in {len(late)} seconds, at worst {max(late):.0f}"
        )
    if after.descriptors > before.descriptors:
        found.append(f"descriptors left behind: {before.descriptors} before, {after.descriptors} after all had gone")
    if after.rss_mib > before.rss_mib + LEFT_MIB:
        found.append(
            f"memory: {before.rss_mib:.1f} MiB before, {after.rss_mib:.1f} after all had gone; allowed {LEFT_MIB} more"
        )
    found += [f"the log says: {line}" for line in log.splitlines() if BAD_LINE.search(line)][:20]
    return found + [f"the crowd: {outcome}" for outcome in outcomes]
