"""Whether something grows: a robust slope over the floor of noisy samples.

A crowd that comes and goes moves memory, descriptors and lag up and down all the time, but what has leaked never comes
down again: it raises the *floor*. So the samples behind a warm-up are cut into windows, of each the lowest is taken
(for lag the median: one quiet moment in each window would hide what the others were), and the slope is the median of
the slopes between any two of them (Theil-Sen), which up to 29 % of wild points do not move.

Only a leak explains growth over the whole span that is beyond an allowance, and beyond three times the noise of the
points around that line. So the threshold *per hour* is the lower the longer a run is: an allowance of 4 MiB is
390 MiB/h over the 37 s from the first window to the last of a run of 60 s, and 35 MiB/h over the 412 s of ten minutes.
At a hundred connections a second, that is a hundred bytes leaked by each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

#: What is not looked at: memory fills up to what the load needs, for so long at least, and for this part of a run.
WARM_UP_SECONDS = 20
WARM_UP = 0.25

#: What has to be left behind the warm-up; of a shorter run nobody can say whether anything grows.
LEAST_SECONDS = 20

#: How many windows; the fewest that make a Theil-Sen slope robust, and long enough to have a quiet moment each.
WINDOWS = 12

#: Growth is no noise when it is so many standard deviations, which come from the points' median distance from the line.
NOISES = 3.0
_MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class Trend:
    """How something has moved.

    Attributes:
        per_hour: the slope.
        growth: over the span that was looked at.
        allowed: how much growth there may be.
        points: time in seconds and floor of each window.
    """

    per_hour: float
    growth: float
    allowed: float
    points: list[tuple[float, float]]

    @property
    def grows(self) -> bool:
        """Whether it grows."""
        return self.growth > self.allowed


def floors(
    samples: Sequence[tuple[float, float]], floor: Callable[[Sequence[float]], float]
) -> list[tuple[float, float]]:
    """Return the middle and the floor of each window behind the warm-up; none where too little is left behind it.

    Args:
        samples: seconds and value, in order.
        floor: what stands for a window.
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
    """Return how something has moved.

    Args:
        samples: seconds and value, in order.
        allowance: growth over the span that is none, however little noise there is.
        floor: what stands for a window.
    """
    points = floors(samples, floor)
    per_second = slope(points)
    if not points:
        return Trend(0, 0, allowance, points)
    offset = median(value - per_second * at for at, value in points)
    noise = _MAD_TO_DEVIATION * median(abs(value - per_second * at - offset) for at, value in points)
    growth = per_second * (points[-1][0] - points[0][0])
    return Trend(3600 * per_second, growth, max(allowance, NOISES * noise), points)
