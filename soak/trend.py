"""Detect growth: a robust slope over the floor of noisy samples.

A changing crowd moves memory, descriptors and lag up and down, but a leak raises the *floor*. So the samples after a
warm-up are split into windows. The floor of a window is its minimum (for lag its median: one quiet moment per window
would hide the rest). The slope is the median of the slopes between any two floors (Theil-Sen), robust against up to
29 % outliers.

A leak is growth over the whole span above an allowance and above three times the noise around the line. So the
threshold *per hour* falls with the duration: an allowance of 4 MiB is 390 MiB/h over the 37 s between the first and
last window of a run of 60 s, and 35 MiB/h over the 412 s of ten minutes. At a hundred connections a second, that is a
hundred bytes per connection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

#: Warm-up, in seconds at least and as a share of the run: memory grows to the need of the load.
WARM_UP_SECONDS = 20
WARM_UP = 0.25

#: Minimum duration after the warm-up, in seconds; shorter runs have no trend.
LEAST_SECONDS = 20

#: Number of windows: enough for a robust slope, and few enough that each has a quiet moment.
WINDOWS = 12

#: Growth above this many standard deviations, from the median distance of points from the line, is not noise.
NOISES = 3.0
_MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class Trend:
    """Trend of a value.

    Attributes:
        per_hour: the slope.
        growth: over the span after the warm-up.
        allowed: allowed growth.
        points: time in seconds and floor of each window.
    """

    per_hour: float
    growth: float
    allowed: float
    points: list[tuple[float, float]]

    @property
    def grows(self) -> bool:
        """Whether the growth is above the allowed one."""
        return self.growth > self.allowed


def floors(
    samples: Sequence[tuple[float, float]], floor: Callable[[Sequence[float]], float]
) -> list[tuple[float, float]]:
    """Return middle and floor of each window after the warm-up; none if the run is too short.

    Args:
        samples: seconds and value, in order.
        floor: reduces a window to one value.
    """
    if not samples:
        return []
    first, last = samples[0][0], samples[-1][0]
    begin = first + max(WARM_UP_SECONDS, WARM_UP * (last - first))
    if last - begin < LEAST_SECONDS:
        return []
    length = (last - begin) / WINDOWS
    windows: list[list[float]] = [[] for _ in range(WINDOWS)]
    for at, value in samples:
        if at >= begin:
            windows[min(int((at - begin) / length), WINDOWS - 1)].append(value)
    return [(begin + (n + 0.5) * length, floor(values)) for n, values in enumerate(windows) if values]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between any two points (Theil-Sen); 0 for fewer than two."""
    slopes = [(there[1] - here[1]) / (there[0] - here[0]) for here, there in combinations(points, 2)]
    return median(slopes) if slopes else 0.0


def trend(
    samples: Sequence[tuple[float, float]], allowance: float, floor: Callable[[Sequence[float]], float] = min
) -> Trend:
    """Return the trend of a value.

    Args:
        samples: seconds and value, in order.
        allowance: allowed growth over the span, independent of noise.
        floor: reduces a window to one value.
    """
    points = floors(samples, floor)
    per_second = slope(points)
    if not points:
        return Trend(0, 0, allowance, points)
    offset = median(value - per_second * at for at, value in points)
    noise = _MAD_TO_DEVIATION * median(abs(value - per_second * at - offset) for at, value in points)
    growth = per_second * (points[-1][0] - points[0][0])
    return Trend(3600 * per_second, growth, max(allowance, NOISES * noise), points)
