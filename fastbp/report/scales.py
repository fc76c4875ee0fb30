"""Axes: where a value lies in a chart, and which values are worth a line and a label."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..panels import logarithmic


@dataclass(frozen=True)
class Scale:
    """Maps low ... high to start ... end, by value or by logarithm.

    >>> Scale(1.0, 100.0, 0.0, 200.0, log=True)(10.0)
    100.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the range, at most so many (and at least two, where there are)."""
        if self.log:
            return _decades(self.low, self.high, most)
        step = _step((self.high - self.low) / max(most - 1, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        digits = 12 - math.floor(math.log10(step))
        return [round(index * step, digits) for index in range(first, last + 1)]


def fit(values: Iterable[float], start: float, end: float, log: bool = False) -> Scale:
    """A scale for all finite values, with some room; logarithmic where all of them allow it.

    >>> fit([1.0, 3.0], 0, 1).ticks()
    [1.0, 1.5, 2.0, 2.5, 3.0]
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Scale(0.0, 1.0, start, end)
    low, high = min(finite), max(finite)
    if log and logarithmic(finite):
        return Scale(low / 1.1, high * 1.1, start, end, log=True)
    room = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    # Values that are all positive do not get an axis that goes below 0.
    return Scale(max(low - room, 0.0) if low >= 0 else low - room, high + room, start, end)


def _step(least: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least)


def _decades(low: float, high: float, most: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / most))
    found = [10.0**power for power in range(first, last + 1, every)]
    if len(found) >= 2:
        return found
    for factors in ((1, 2, 5), range(1, 10)):
        fine = [round(f * 10.0**p, 15) for p in range(first - 1, last + 2) for f in factors]
        found = [value for value in fine if low <= value <= high]
        if len(found) >= 2:
            break
    return found[:most]


def labels(values: list[float]) -> list[str]:
    """Of an axis: as many digits as tell its values apart.

    >>> labels([2020.2, 2020.4]), labels([0.5, 1.0])
    (['2020.2', '2020.4'], ['0.5', '1'])
    """
    texts: list[str] = []
    for digits in range(4, 18):
        texts = [f"{value:.{digits}g}" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def label(value: float) -> str:
    """A number as short as it goes: 0.001, 2.5e-06, 1200.

    >>> [label(v) for v in (0.001, 2.5e-6, 1200.0, 0.0)]
    ['0.001', '2.5e-06', '1200', '0']
    """
    return f"{value:.4g}"
