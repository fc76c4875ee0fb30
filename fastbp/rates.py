"""What a step size is: a function eta(t) of the step t, which counts from 0.

A schedule is frozen and may be shared: what changes (only `ReduceOnPlateau` has any) is a small
dict that `initial_state` makes, the Trainer keeps and checkpoints, and `observe` updates. Rates
are handed out for many steps at once; however the steps are cut, each gets the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import check_not_negative, shown

Rates = NDArray[np.float64]
ScheduleState = dict[str, Any]

# A vector body and its remainder may round differently: rates are computed in whole blocks of
# steps, so that a step's lane does not depend on where the Trainer cut its chunks.
_BLOCK = 64


@dataclass(frozen=True)
class Schedule:
    """Base of the schedules. To write one, subclass it and define `at`."""

    @property
    def in_blocks(self) -> bool:
        """`at` may be asked for whole blocks of steps, steps that are never made among them."""
        return True

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        """Rates at `steps`, element by element.

        Args:
            steps: float64 array of whole numbers, counting from 0.
            total: the number of steps made when this `fit` ends, earlier fits included; None
                where it is not known.
            state: what `initial_state` made; not to be changed here.

        >>> class Halved(Schedule):
        ...     def at(self, steps, total, state):
        ...         return 0.1 * 0.5**steps
        >>> Halved().rates(0, 3).tolist()
        [0.1, 0.05, 0.025]
        """
        raise NotImplementedError(f"{type(self).__name__} must define at(steps, total, state)")

    def rates(
        self, first: int, count: int, total: int | None = None, state: ScheduleState | None = None
    ) -> Rates:
        """eta(t) for t = first ... first + count - 1, a float64 array of shape (count,).

        Args:
            first: the first step, counting from 0.
            count: how many steps.
            total: the number of steps made when this `fit` ends, earlier fits included; None
                where it is not known.
            state: what `initial_state` made and `observe` changed; a fresh one if None.

        Raises:
            ValueError: `at` gives another number of rates, or one that is negative or not finite.

        >>> import fastbp
        >>> fastbp.InverseTime(0.1, decay=1.0).rates(2, 2).round(4).tolist()
        [0.0333, 0.025]
        """
        block = _BLOCK if self.in_blocks else 1
        low = first // block * block
        high = -(-(first + count) // block) * block
        steps = np.arange(low, high, dtype=np.float64)
        found = self.at(steps, total, self.initial_state() if state is None else state)
        rates = np.asarray(found, dtype=np.float64)
        if rates.shape != steps.shape:
            raise ValueError(
                f"{type(self).__name__}.at gave shape {rates.shape} for {len(steps)} steps; give a "
                "rate for each."
            )
        rates = rates[first - low : first - low + count]
        bad = ~(np.isfinite(rates) & (rates >= 0.0))
        if bad.any():
            place = int(bad.argmax())
            raise ValueError(
                f"{type(self).__name__}.at gave {rates[place]:g} for step {first + place}; a rate "
                "is a finite number of 0 or more."
            )
        return np.ascontiguousarray(rates)

    def initial_state(self) -> ScheduleState:
        """What changes during training, as a dict of plain values; empty for most schedules."""
        return {}

    def observe(self, state: ScheduleState, record: Mapping[str, Any]) -> None:
        """Take note of a finished epoch: change `state` in place.

        Args:
            state: what `initial_state` made.
            record: the epoch's values by name ("loss", "validation_loss", metrics, ...), and under
                "step" how many steps have been made in all.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at every step: what a plain float means.

    Args:
        lr: the rate, 0 or more.

    Raises:
        ValueError, TypeError: it is out of its range.

    >>> Constant(0.1).rates(0, 2).tolist()
    [0.1, 0.1]
    """

    lr: float

    def __post_init__(self) -> None:
        check_not_negative("lr", self.lr)

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        return np.full(len(steps), float(self.lr))


@dataclass(frozen=True)
class Called(Schedule):
    """A Python callable of the step, evaluated ahead for the steps of a chunk.

    Each result must be finite and 0 or more.

    >>> Called(lambda step: 0.1 / (step + 1)).rates(0, 2).tolist()
    [0.1, 0.05]
    """

    function: Callable[[int], float]

    @property
    def in_blocks(self) -> bool:
        return False  # the callable may count its calls, or know no rate beyond the last step

    def at(self, steps: Rates, total: int | None, state: ScheduleState) -> Rates:
        rates = np.empty(len(steps), dtype=np.float64)
        for i, step in enumerate(steps.tolist()):
            rate = self.function(int(step))
            rates[i] = check_not_negative(f"lr({step:.0f})", rate, _CALLABLE)
        return rates


_CALLABLE = "A callable lr gets the step, counting from 0, and returns the rate as a number."


def as_schedule(lr: object, argument: str = "lr") -> Schedule:
    """The schedule that `lr` means: a float is `Constant`, a callable of the step is `Called`.

    Raises:
        ValueError: a rate that is negative, NaN or inf.
        TypeError: anything but a number, a Schedule or a callable.

    >>> as_schedule(0.1)
    Constant(lr=0.1)
    """
    if isinstance(lr, Schedule):
        return lr
    if isinstance(lr, type) and issubclass(lr, Schedule):
        raise TypeError(
            f"{argument}={lr.__name__} is the class; give an object of it: {lr.__name__}(...)."
        )
    if callable(lr):
        return Called(lr)
    try:
        return Constant(check_not_negative(argument, lr))
    except TypeError:
        kind = type(lr).__name__
        raise TypeError(
            f"{argument}={shown(lr)} is of type {kind}; give a number of 0 or more, a schedule "
            "such as Cosine(0.1), or a callable of the step."
        ) from None
