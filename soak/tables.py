"""The report of a soak as Markdown."""

from collections.abc import Mapping
from typing import Any

from verdict import RULES


def markdown(outcome: Mapping[str, Any]) -> str:
    """Return the report."""
    faults = outcome["faults"]
    options = f", relay options `{' '.join(outcome['options'])}`" if outcome["options"] else ""
    passed = "**FAILED**" if faults else "**PASSED**"
    samples = [sample for sample in outcome["samples"] if sample["crowded"]]
    lines = [
        "# Soak",
        "",
        f"{outcome['seconds']:.0f} s{options}, {outcome['lives']} clients, {outcome['log_lines']} log lines: {passed}",
        "",
        *(f"* {fault}" for fault in faults),
        *([""] if faults else []),
        "| | floor, first | floor, last | slope per hour | growth | allowed |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    if not any(moved["points"] for moved in outcome["trends"].values()):
        lines.insert(
            4, "Too short to say whether anything grows: a run of less than 40 s is not judged by its slopes.\n"
        )
    for rule in RULES:
        moved = outcome["trends"][rule.name]
        ends = [point[1] for point in moved["points"]] or [0.0]
        figures = (ends[0], ends[-1], moved["per_hour"], moved["growth"], moved["allowed"])
        lines.append(f"| {rule.title} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")
    worst = {
        name: max((sample[name] for sample in samples), default=0.0) for name in ("rss_mib", "descriptors", "max_ms")
    }
    before, after = outcome["before"], outcome["after"]
    heard = sum(sample["heard"] for sample in samples)
    lines += [
        "",
        "Before, at most while the crowd was there, and after all had gone:",
        "",
        f"* memory: {before['rss_mib']:.1f}, {worst['rss_mib']:.1f}, {after['rss_mib']:.1f} MiB",
        f"* descriptors: {before['descriptors']}, {worst['descriptors']}, {after['descriptors']}",
        "",
        f"The bystanders heard {heard} messages, the slowest in {worst['max_ms']:.0f} ms.",
        "",
        "![memory, descriptors, CPU and lag](soak.png)",
        "",
        "| what came of a life | times |",
        "| --- | ---: |",
        *(f"| {name} | {count} |" for name, count in outcome["outcomes"].items()),
        "",
    ]
    return "\n".join(lines)
