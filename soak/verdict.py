"""What a soak has to show, from its samples: everything that is wrong, in words."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trend import Trend, trend

#: Memory's budget: how far it may be above where it was before the crowd came, when all have gone. The allocator keeps
#: some of what the crowd needed at its height.
LEFT_MIB = 48

#: What is no line of a healthy log.
BAD_LINE = re.compile(r"Traceback|Unhandled|a callback failed|validator failed|\[.*#(?:error|critical)\]")

#: A message of the bystanders that takes longer is late. One second in a hundred may have one: the machine has other
#: things to do, too.
LAG_MS = 1000.0


@dataclass(frozen=True)
class Rule:
    """What may not grow.

    Attributes:
        name: of the value in a sample.
        title: for people, with the unit.
        allowance: growth over a run that is none.
        floor: see `trend.trend`.
    """

    name: str
    title: str
    allowance: float
    floor: Callable[[Sequence[float]], float]


RULES = [
    # What CPython's arenas and malloc's bins still settle by within a run without a leak.
    Rule("rss_mib", "memory, MiB", 4.0, min),
    # The crowd's size is random, and so is how many are there at the quietest moment.
    Rule("descriptors", "descriptors", 20.0, min),
    # A tick of the scheduler more or less, on a machine that does other things, too.
    Rule("p50_ms", "lag of the bystanders, ms", 20.0, median),
]

#: Seconds since the beginning, and the values of `RULES` and more.
Sample = Mapping[str, Any]


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """Return how each of the `RULES` has moved while the crowd was there."""
    crowded = [sample for sample in samples if sample["crowded"]]
    return {
        rule.name: trend([(sample["at"], sample[rule.name]) for sample in crowded], rule.allowance, rule.floor)
        for rule in RULES
    }


def faults(samples: Sequence[Sample], before: Any, after: Any, log: str, outcomes: Sequence[str]) -> list[str]:
    """Return what is wrong, in words; empty for a pass.

    Args:
        samples: one a second.
        before: the gauges of the relay before anybody came.
        after: the same when all had gone.
        log: what the relay has said.
        outcomes: of the crowd, those that may not be.
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
