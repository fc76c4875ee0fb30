"""Which step size to train with: short trainings from one start, side by side.

The range test of Smith, "Cyclical learning rates for training neural networks" (2017), section 3.3,
raises the rate from batch to batch in one pass and leaves it to the eye where the loss falls
steepest. A compiled step costs microseconds, so each rate gets a training of its own instead: what
is compared is what is wanted, the loss after so many steps, with this optimizer and batch size.
"""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .divergence import DivergenceError
from .errors import LARGEST_SEED, check_integer, check_positive
from .fit import Fit
from .guard import check_finite_start
from .history import History
from .kernels.cpu.random import shuffle
from .rates import Constant
from .run import Run
from .samples import Data, door

if TYPE_CHECKING:
    from .trainer import Trainer

A_DECADE: Final = 4
"""Rates between one power of ten and the next."""
SHUFFLES: Final = 2
"""Trials of each rate, in other orders: near the largest rate that works, luck decides one."""
LEARNT: Final = 1e-3
"""A loss that is this share of the untrained one decides nothing more: a network that knows its
samples by heart goes on to 0 the faster, the larger the rate, to nobody's good."""


@dataclass(frozen=True)
class RateSearch:
    """What `Trainer.find_rate` found.

    Attributes:
        rate: the suggestion.
        rates: the rates that were tried, ascending.
        losses: of the last epoch, the geometric mean of two trials; inf where one diverged.
        steps: of each trial.

    >>> RateSearch(0.1, [0.01, 0.1, 1.0], [0.5, 0.25, float("inf")], 100)
    RateSearch(rate=0.1: loss 0.25 after 100 steps; 3 rates from 0.01 to 1 tried)
    """

    rate: float
    rates: list[float]
    losses: list[float]
    steps: int

    def __repr__(self) -> str:
        loss = self.losses[self.rates.index(self.rate)]
        return (
            f"RateSearch(rate={self.rate:.3g}: loss {loss:.4g} after {self.steps} steps; "
            f"{len(self.rates)} rates from {self.rates[0]:.3g} to {self.rates[-1]:.3g} tried)"
        )

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the losses against the rates, with the suggestion marked.

        Args:
            path: where to write the picture; its ending gives the format. None: write nothing.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed (extra `plot`).
            ValueError: an ending that matplotlib does not know.
        """
        from .plotting import plot_rates

        return plot_rates(self, path)


def find_rate(
    trainer: Trainer, X: Any, y: Any, low: float, high: float, steps: int, sample_weight: Any
) -> RateSearch:
    """`Trainer.find_rate`."""
    low, high = check_positive("low", low), check_positive("high", high)
    if not low < high:
        raise ValueError(f"low={low:g} must be below high={high:g}")
    steps = check_integer("steps", steps, least=1)
    trainer._check_settings()
    check_finite_start(trainer)
    data, _ = door(trainer.network, X, y, sample_weight, None, trainer.seed)
    trainer._check_batch_norm(min(trainer.batch_size or data.samples, data.samples))
    data = _part(data, trainer, steps)
    an_epoch = len(trainer._bounds(data.samples)) - 1
    epochs = max(2, math.ceil(steps / an_epoch))
    count = max(round(A_DECADE * (math.log10(high) - math.log10(low))), 1)
    rates = np.geomspace(low, high, count + 1).tolist()
    trials = [[_trial(trainer, data, epochs, r, s) for s in range(SHUFFLES)] for r in rates]
    untrained = trainer.network._mean_loss(data)
    losses = [_mean(trial) for trial in trials]
    if not any(map(math.isfinite, losses)):
        raise DivergenceError(
            f"every rate from {low:g} to {high:g} diverged; give a smaller low, or scale the "
            "inputs to about 1"
        )
    return RateSearch(choose(rates, losses, untrained), rates, losses, epochs * an_epoch)


def _mean(losses: list[float]) -> float:
    """Geometric mean; inf where one diverged, else 0 where one is."""
    if math.inf in losses:
        return math.inf
    return 0.0 if min(losses) <= 0 else math.exp(sum(map(math.log, losses)) / len(losses))


def choose(rates: list[float], losses: list[float], untrained: float) -> float:
    """The rate with the least loss, its neighbours' counted half.

    Rates beside the one from which training fails are on the edge, and short trials favour them: a
    failing neighbour counts against them. Of equally good ones (those that have learnt all there
    is) the middle one is taken.

    Args:
        rates: ascending, equally far apart in their logarithms.
        losses: after the trials; inf where they diverged.
        untrained: the loss before them.

    >>> choose([0.001, 0.01, 0.1, 1.0], [0.5, 0.02, 0.018, 2.0], 1.0)
    0.01
    """
    least = max(LEARNT * untrained, sys.float_info.min)
    top = max(max(untrained, min(losses)) * 10.0, least)
    logs = np.log(np.clip(losses, least, top))
    wide = np.concatenate([logs[:1], logs, logs[-1:]])
    smooth = (wide[:-2] + 2.0 * logs + wide[2:]) / 4.0
    best = np.flatnonzero(smooth <= smooth.min() + 1e-9)
    return rates[int(best[(len(best) - 1) // 2])]


def _part(data: Data, trainer: Trainer, steps: int) -> Data:
    """Two epochs of a trial are no more than `steps`: of much data a random part is enough."""
    most = max(steps // 2, 1) * (trainer.batch_size or data.samples)
    if data.samples <= most:
        return data
    order = np.arange(data.samples)
    shuffle(order, trainer.seed, -2)  # epochs count from 0; -1 holds out
    part = data.only(np.sort(order[:most]))
    if not part.counts:
        raise ValueError(
            f"sample_weight is 0 for all of the {most} rows that steps={steps} of batch_size="
            f"{trainer.batch_size} look at; give more steps, or leave out rows that do not count."
        )
    return part


def _trial(trainer: Trainer, data: Data, epochs: int, rate: float, shuffled: int) -> float:
    """Loss of the last epoch of a training with this rate, on a copy of all that changes."""
    trial = object.__new__(type(trainer))
    trial.__dict__.update(trainer.__dict__)
    trial.network, trial._state = copy.deepcopy(trainer.network), trainer._state.copy()
    trial.history, trial.schedule, trial.schedule_state = History(), Constant(rate), {}
    trial.progress, trial.metrics, trial.on_divergence = False, {}, "raise"
    trial.checkpoint, trial.early_stopping = None, None
    trial.seed = (trainer.seed + shuffled) % LARGEST_SEED
    try:
        with trial.network._data_kept():
            history = Fit(trial, Run(trial, data, None, epochs, []), epochs, []).train()
    except DivergenceError:
        return math.inf
    loss = history.loss[-1]
    return loss if math.isfinite(loss) else math.inf
