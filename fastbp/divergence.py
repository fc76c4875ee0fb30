"""When numbers are no longer finite: back to the last step that left them so, and who is told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .warn import warn

if TYPE_CHECKING:
    from .run import Run


class DivergenceError(ArithmeticError):
    """Training met a loss or weight that is not finite; the message says where and what to try.

    An `ArithmeticError`.

    Args:
        what: what happened, which the attribute `what` keeps.
        advice: what to try, the rest of the message.

    >>> from fastbp import SGD, Dense, Network, Trainer
    >>> trainer = Trainer(Network(1, [Dense(1)], seed=0), SGD(1e30))
    >>> try:
    ...     trainer.fit([[1.0]], [[1.0]], epochs=9)
    ... except DivergenceError as error:
    ...     print(error.what)
    training diverged in epoch 1, batch 0: the loss, a weight or an optimizer's row is not finite.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what} {advice}".rstrip())
        self.what = what


class BadRowError(ValueError):
    """A memory-mapped row held NaN or inf; the Trainer takes everything back to before the fit."""


def go_back(run: Run, first: int) -> None:
    """Back to the last finite step, then an error or a warning that says so.

    `first` steps of the epoch have been made; the next one's loss or these steps' numbers are
    not finite.
    """
    trainer, guard = run.trainer, run.guard
    kept = _last_finite(run, first - guard.first)
    trainer.step = guard.step + kept
    run.begun = step = guard.first + kept  # the one that went wrong
    start, end = run._bounds(step, 1)
    rows = run.order[start:end]
    if run.data.screen and (bad := run._unfit(rows)):
        raise BadRowError(bad)
    run.data.check_labels(rows)
    rate = float(run._recipe(step, 1, trainer.step).rates[0])
    back = f"has the weights of the last finite step ({trainer.step} steps made)"
    if run.on_divergence != "raise" and any(
        rule.restore_best and rule.best_epoch is not None for rule in run.rules
    ):
        back = "goes back to the weights of its best epoch"
    error = DivergenceError(
        f"training diverged in epoch {trainer.epoch}, batch {step}: the loss, a weight or an "
        "optimizer's row is not finite.",
        f"The network {back}. Try a smaller rate (it is {rate:g}), clip_norm=1, inputs scaled "
        "to about 1, batch_norm=True, or dtype='float64'.",
    )
    give_up(run, error)


def give_up(run: Run, error: DivergenceError) -> None:
    """End the fit for numbers that are not finite: an error, a warning, or a note."""
    run.stopped, run.diverged = str(error), True
    run.trainer.history.stopped = run.stopped
    if run.on_divergence == "raise":
        raise error
    if run.on_divergence == "warn":
        warn(run.stopped, RuntimeWarning)


def _last_finite(run: Run, done: int) -> int:
    """How many of the `done` steps since the guard left all numbers finite; back to there.

    What is not finite stays so, so the step is found by halving: a replay has the same bits.
    """
    if run.guard.finite():
        return done
    good, bad = 0, max(done, 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        _replay(run, middle)
        good, bad = (middle, bad) if run.guard.finite() else (good, middle)
    _replay(run, good)
    return good


def _replay(run: Run, count: int) -> None:
    """The first `count` steps since the guard once more."""
    guard = run.guard
    guard.restore()
    if count:
        recipe = run._recipe(guard.first, count, guard.step)
        run._steps(guard.first, count, replace(recipe, record=False))
