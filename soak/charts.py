"""Draw a soak, as PNG beside ``summary.json``.

Usage: ``charts.py RESULTS_FOLDER``, with the Python of an environment that has matplotlib; nothing else imports it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

RELAY, FLOOR, PALE, INK = "#d1242f", "#0969da", "#e3a857", "#24292f"

#: Rule → title and lines: name in a sample, colour, label.
PANELS = {
    "rss_mib": ("memory of the relay, MiB", {"rss_mib": (RELAY, "resident")}),
    "descriptors": ("open descriptors", {"descriptors": (RELAY, "open")}),
    "cpu_share": ("CPU of the relay, share of a core", {"cpu_share": (RELAY, "")}),
    "p50_ms": (
        "lag of the bystanders, ms",
        {"max_ms": (PALE, "longest"), "p99_ms": (INK, "p99"), "p50_ms": (RELAY, "p50")},
    ),
}


def draw_panel(axes: Axes, name: str, summary: dict[str, Any]) -> None:
    """Draw one value over time, with the floor used by the verdict."""
    title, lines = PANELS[name]
    trend = summary["trends"].get(name)
    samples = [sample for sample in summary["samples"] if sample["crowded"]]
    times = [sample["at"] for sample in samples]
    for key, (colour, label) in lines.items():
        axes.plot(times, [sample[key] for sample in samples], color=colour, lw=1, label=label)
    if trend:
        axes.plot(*zip(*trend["points"], strict=True), "o-", color=FLOOR, lw=1.2, ms=4, label="floor that is judged")
        said = f"{trend['growth']:+.1f} in this run, {trend['allowed']:.1f} allowed"
        title = f"{title}: {said}"
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("s")
    if name == "p50_ms":
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if trend:
        axes.legend(fontsize=8)
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def draw(folder: Path) -> Path:
    """Draw all charts and return the file."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    figure, axes = plt.subplots(2, 2, figsize=(12, 7), layout="constrained")
    for one, name in zip(axes.flat, PANELS, strict=True):
        draw_panel(one, name, summary)
    file = folder / "soak.png"
    figure.savefig(file, dpi=110)
    return file


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])).name)
