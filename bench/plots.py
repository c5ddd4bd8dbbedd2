"""Draw what was measured, as PNG files beside ``results.json``.

Usage: ``plots.py RESULTS_FOLDER``, with the Python of an environment that has matplotlib; nothing else imports it.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

#: Server → its colour in every plot. Ours stands out, the yardstick is grey, peers are pale.
COLOURS = {
    "relay": "#d1242f",
    "relay-pure": "#a3141d",
    "relay-history": "#e8703a",
    "watched": "#f0a0a5",
    "relay-redis": "#8250df",
    "relay-redis-2": "#a475f9",
    "relay-redis-3": "#c8a5ff",
    "floor": "#57606a",
    "autobahn": "#e3a857",
    "websockets": "#6ca6cd",
    "picows": "#8fbc8f",
    "aiohttp": "#9f8fc9",
    "ws": "#b8b04d",
    "nchan": "#5fb3a8",
    "nats": "#c98fb0",
}

#: Of all other text.
INK = "#24292f"

INCHES = (9, 5)
DOTS_PER_INCH = 120

#: Server → row → metric → median.
Medians = dict[str, dict[str, dict[str, float | None]]]


def value(medians: Medians, server: str, row: str, metric: str) -> float | None:
    """Give a median; None where there is none."""
    return medians.get(server, {}).get(row, {}).get(metric)


def short(number: float, _position: object = None) -> str:
    """Write a number as 0.42, 6.7, 950, 1.2 k, 38 k, 4.5 M."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 10 or scaled == int(scaled) else f"{scaled:.1f}{unit}"
    return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.{1 if number >= 1 else 2}f}"


def by_members(axes: Axes, medians: Medians, titles: dict[str, str]) -> bool:
    """Draw deliveries/s over members, one line per server, with its name at its end."""
    ends = []
    for server, title in titles.items():
        points = [(n, value(medians, server, f"{n}x64", "deliveries")) for n in (10, 100, 1000, 9000)]
        drawn = [(members, rate) for members, rate in points if rate]
        if drawn:
            ours = server == "relay"
            style = {"lw": 3 if ours else 1.6, "ls": "--" if server == "floor" else "-", "zorder": 3 if ours else 2}
            axes.plot(*zip(*drawn, strict=True), "o", color=COLOURS[server], **style)
            ends.append((drawn[-1], title, server))
    if not ends:
        return False
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([10, 100, 1000, 9000], ["10", "100", "1000", "9000"])
    axes.xaxis.set_minor_locator(NullLocator())
    log_ticks(axes.yaxis)
    axes.grid(visible=True, which="major", axis="y", alpha=0.3)
    axes.set_xlabel("members of the room")
    name_ends(axes, ends)
    return True


def log_ticks(axis: Axis) -> None:
    """Mark 1, 3, 10, 30 … on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_major_formatter(FuncFormatter(short))
    axis.set_minor_formatter(NullFormatter())


def name_ends(axes: Axes, ends: list[tuple[tuple[float, float], str, str]]) -> None:
    """Write the names of lines to the right of the plot, moved apart where they would overlap."""
    axes.figure.canvas.draw()
    least, taken = 0.052, -1.0
    for (members, rate), title, server in sorted(ends, key=lambda end: end[0][1]):
        height = axes.transAxes.inverted().transform(axes.transData.transform((members, rate)))[1]
        taken = max(height, taken + least)
        axes.annotate(
            title,
            (members, rate),
            xytext=(1.03, taken),
            textcoords="axes fraction",
            va="center",
            color=COLOURS[server] if server == "relay" else INK,
            weight="bold" if server == "relay" else "normal",
            arrowprops={"arrowstyle": "-", "color": COLOURS[server], "lw": 0.6, "shrinkB": 6},
            annotation_clip=False,
        )


def bars(row: str, metric: str) -> Callable[[Axes, Medians, dict[str, str]], bool]:
    """Make what draws one bar per server, the best first by what `BARS` says is good."""

    def draw(axes: Axes, medians: Medians, titles: dict[str, str]) -> bool:
        """Draw the bars."""
        found = [(value(medians, server, row, metric), server) for server in titles]
        good = sorted((number, server) for number, server in found if number is not None)
        if metric == "handshakes":
            good.reverse()
        if not good:
            return False
        names = [titles[server] for _, server in good]
        drawn = axes.barh(names, [number for number, _ in good], color=[COLOURS[server] for _, server in good])
        axes.bar_label(drawn, [short(number) for number, _ in good], padding=4)
        finish_bars(axes, names, titles)
        return True

    return draw


def finish_bars(axes: Axes, names: Sequence[str], titles: dict[str, str]) -> None:
    """Set the first bar at the top, make room for labels, make our name bold."""
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    for name, label in zip(names, axes.get_yticklabels(), strict=True):
        label.set_weight("bold" if name == titles.get("relay") else "normal")


def latencies(row: str) -> Callable[[Axes, Medians, dict[str, str]], bool]:
    """Make what draws p50 and p99 per server in ms, from one to the other, on a logarithmic axis."""

    def draw(axes: Axes, medians: Medians, titles: dict[str, str]) -> bool:
        """Draw a bar from p50 to p99."""
        found = [(value(medians, s, row, "p99"), value(medians, s, row, "p50"), s) for s in titles]
        good = sorted((high / 1e3, low / 1e3, server) for high, low, server in found if high and low)
        if not good:
            return False
        names = [titles[server] for _, _, server in good]
        for place, (high, low, server) in enumerate(good):
            axes.plot([low, high], [place, place], color=COLOURS[server], lw=7, solid_capstyle="butt")
            axes.annotate(short(low), (low, place), xytext=(-5, 0), textcoords="offset points", ha="right", va="center")
            axes.annotate(short(high), (high, place), xytext=(5, 0), textcoords="offset points", va="center")
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), names)
        finish_bars(axes, names, titles)
        axes.margins(x=0.25)
        log_ticks(axes.xaxis)
        return True

    return draw


#: Server → how many nodes it has; 0 without a broker.
NODES = {"relay": 0, "relay-redis": 1, "relay-redis-2": 2, "relay-redis-3": 3}


def throughput_by_nodes(axes: Axes, medians: Medians, titles: dict[str, str]) -> bool:
    """Draw a bar of deliveries/s for each number of nodes, all on one core."""
    found = [(nodes, server, value(medians, server, "nodes-6x16", "deliveries")) for server, nodes in NODES.items()]
    drawn = [(nodes, server, rate) for nodes, server, rate in found if rate and server in titles]
    if len(drawn) < 2:
        return False
    names = [f"{nodes} node{'s' * (nodes > 1)}" if nodes else "no broker" for nodes, _, _ in drawn]
    bar = axes.bar(names, [rate for _, _, rate in drawn], color=[COLOURS[server] for _, server, _ in drawn])
    axes.bar_label(bar, [short(rate) for _, _, rate in drawn], padding=4)
    axes.yaxis.set_major_formatter(FuncFormatter(short))
    return True


def added_by_nodes(axes: Axes, medians: Medians, titles: dict[str, str]) -> bool:
    """Draw the latency that the broker adds, p50 in ms over nodes, one line per rate."""
    for row, rate, style in (("nodes-200", "200/s", "-"), ("nodes-2000", "2000/s", "--")):
        without = value(medians, "relay", row, "p50")
        found = [(nodes, value(medians, server, row, "p50")) for server, nodes in NODES.items() if server in titles]
        points = [(nodes, (there - without) / 1e3) for nodes, there in found if nodes and there and without]
        if points:
            axes.plot(*zip(*points, strict=True), "o", ls=style, color=COLOURS["relay-redis"], label=rate)
            for nodes, added in points:
                axes.annotate(short(added), (nodes, added), xytext=(0, 6), textcoords="offset points", ha="center")
    if not axes.lines:
        return False
    axes.set_xticks([1, 2, 3])
    axes.set_xlabel("nodes")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.15, y=0.2)
    axes.legend(frameon=False)
    return True


#: File → what is drawn, side by side: title, and what draws it.
PLOTS: dict[str, list[tuple[str, Callable[[Axes, Medians, dict[str, str]], bool]]]] = {
    "deliveries.png": [("Deliveries/s: one publisher, window 64, messages of 64 bytes", by_members)],
    "latency.png": [
        ("200 messages/s to 100: p50 to p99, ms", latencies("paced-100")),
        ("200 messages/s to 1000: p50 to p99, ms", latencies("paced-1000")),
    ],
    "connections.png": [
        ("KiB per idle connection", bars("idle-9000", "kib")),
        ("Handshakes/s, 64 at a time", bars("idle-9000", "handshakes")),
    ],
    "nodes.png": [
        ("Deliveries/s: all nodes and the broker on one core", throughput_by_nodes),
        ("Latency that the broker adds, p50, ms", added_by_nodes),
    ],
}


def draw(folder: Path) -> list[str]:
    """Draw all plots that there are figures for, and give the names of their files."""
    results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    titles = {name: known["title"] for name, known in results["facts"]["servers"].items()}
    made = []
    for name, parts in PLOTS.items():
        figure, axes = plt.subplots(1, len(parts), figsize=INCHES, squeeze=False, layout="constrained")
        drawn = [part(one, results["medians"], titles) for one, (_, part) in zip(axes[0], parts, strict=True)]
        for one, (title, _), visible in zip(axes[0], parts, drawn, strict=True):
            one.set_visible(visible)
            one.set_title(title, fontsize=10)
            one.spines[["top", "right"]].set_visible(False)
        (folder / name).unlink(missing_ok=True)
        if any(drawn):
            figure.savefig(folder / name, dpi=DOTS_PER_INCH)
            made.append(name)
        plt.close(figure)
    return made


if __name__ == "__main__":
    for drawn in draw(Path(sys.argv[1])):
        print(drawn)
