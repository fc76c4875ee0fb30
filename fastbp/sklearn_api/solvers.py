"""The solvers of the estimators: an update of the compiled loop, its state, and its rate.

`SGDSolver` and `AdamSolver` follow scikit-learn's rules; `OwnSolver` follows an optimizer of
fastbp with its schedule. What scikit-learn keeps of a solver is here under its names:
`learning_rate_init`, `learning_rate`, `iteration_ends`, `trigger_stopping`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import Array
from ..optimizers import Optimizer, Rate, get_optimizer

SMALLEST_RATE = 1e-6  # below it, learning_rate="adaptive" gives up


@dataclass(frozen=True)
class ClassicalMomentum(Optimizer):
    """scikit-learn's "sgd": v <- mu v - eta g; w <- w + v, or with nesterov w <- w + mu v - eta g.

    Sutskever et al. (2013). It is `SGD` until eta changes: the steps made are kept, not their sum.

    >>> ClassicalMomentum(0.1).name
    'classical_nesterov'
    """

    lr: Rate = 1e-3
    momentum: float = 0.9
    nesterov: bool = True

    @property
    def name(self) -> str:
        return "classical_nesterov" if self.nesterov else "classical_momentum"


@dataclass(frozen=True)
class AdamEpsilonHat(Optimizer):
    """scikit-learn's "adam": eps is added to sqrt(v), and both corrections are in the rate.

    Kingma and Ba (2015), end of section 2; `Adam` adds eps to sqrt(v_hat).

    >>> AdamEpsilonHat().hyper()
    (0.9, 0.999, 1e-08)
    """

    lr: Rate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @property
    def name(self) -> str:
        return "adam_epsilon_hat"


class Solver:
    """An optimizer at work on `size` parameters.

    Attributes:
        optimizer: the update and its constants.
        state: its rows, (rows, size).
        step: steps made.
        learning_rate_init, learning_rate: the first rate, and the present one.
    """

    def __init__(self, optimizer: Optimizer, size: int, dtype: Any, rate: float) -> None:
        self.optimizer = optimizer
        self.state = np.zeros((len(optimizer.rows), size), dtype)
        self.step = 0
        self.learning_rate_init = rate
        self.learning_rate = float(rate)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.state = np.array(self.state)  # it may be a map of a file, and read-only

    def rates(self, count: int, total: int | None) -> Array:
        """The rates of the next `count` steps of `total`, where it is known."""
        return np.full(count, self.learning_rate)

    def last_rate(self) -> float:
        """The rate of the last step."""
        return self.learning_rate

    def iteration_ends(self, time_step: int) -> None:
        """An epoch is over; `time_step` samples have been seen."""

    def observe(self, values: dict[str, Any]) -> None:
        """The finished epoch's values by name."""

    def trigger_stopping(self, msg: str, verbose: Any) -> bool:
        """Whether training, which does not improve, stops."""
        if verbose:
            print(msg + " Stopping.")
        return True


class SGDSolver(Solver):
    """Momentum with scikit-learn's rates: "constant", "invscaling" or "adaptive"."""

    def __init__(
        self, optimizer: Optimizer, size: int, dtype: Any, rate: float, rule: str, power_t: float
    ) -> None:
        super().__init__(optimizer, size, dtype, rate)
        self.lr_schedule, self.power_t = rule, power_t

    def iteration_ends(self, time_step: int) -> None:
        if self.lr_schedule == "invscaling":
            self.learning_rate = float(self.learning_rate_init) / (time_step + 1) ** self.power_t

    def trigger_stopping(self, msg: str, verbose: Any) -> bool:
        if self.lr_schedule != "adaptive":
            return super().trigger_stopping(msg, verbose)
        if self.learning_rate <= SMALLEST_RATE:
            if verbose:
                print(msg + " Learning rate too small. Stopping.")
            return True
        self.learning_rate /= 5.0
        if verbose:
            print(f"{msg} Setting learning rate to {self.learning_rate:f}")
        return False


class AdamSolver(Solver):
    """Adam; `learning_rate` is the last step's, both corrections in it."""

    def rates(self, count: int, total: int | None) -> Array:
        return np.full(count, float(self.learning_rate_init))

    def last_rate(self) -> float:
        beta1, beta2, _ = self.optimizer.hyper()
        root = np.sqrt(1.0 - beta2**self.step)
        return float(self.learning_rate_init * root / (1.0 - beta1**self.step))

    def iteration_ends(self, time_step: int) -> None:
        self.learning_rate = self.last_rate()


class OwnSolver(Solver):
    """An optimizer of fastbp with its rate, schedule or callable of the step."""

    def __init__(self, optimizer: Optimizer, size: int, dtype: Any) -> None:
        self.schedule = optimizer.schedule
        self.schedule_state = self.schedule.initial_state()
        super().__init__(optimizer, size, dtype, float("nan"))  # known with the first steps

    def rates(self, count: int, total: int | None) -> Array:
        rates = self.schedule.rates(self.step, count, total, self.schedule_state)
        self.learning_rate = float(rates[-1])
        return rates

    def observe(self, values: dict[str, Any]) -> None:
        self.schedule.observe(self.schedule_state, {**values, "step": self.step})


def make_solver(estimator: Any, size: int, dtype: Any) -> Solver:
    """The solver that an estimator's parameters describe."""
    e = estimator
    if e.optimizer is not None:
        return OwnSolver(get_optimizer(e.optimizer), size, dtype)
    rate = e.learning_rate_init
    if e.solver == "adam":
        adam = AdamEpsilonHat(rate, e.beta_1, e.beta_2, e.epsilon)
        return AdamSolver(adam, size, dtype, rate)
    momentum = ClassicalMomentum(rate, e.momentum, e.nesterovs_momentum)
    return SGDSolver(momentum, size, dtype, rate, e.learning_rate, e.power_t)
