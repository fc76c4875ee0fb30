"""Callbacks: Python that runs after each epoch, between compiled chunks.

A callback is a function of a `State`, or an object with the method `on_epoch_end(state)`. What it
returns stops the training if it is true; a string is the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from .errors import check_entries, shown

if TYPE_CHECKING:
    from .history import History
    from .network import Network


@dataclass
class State:
    """What a callback sees.

    Attributes:
        epoch: place of the finished epoch in the history, from 0; it counts on over fits.
        history: the `History` so far, this epoch included.
        network: the `Network`; its parameters may be read and written.
        trainer: the `Trainer`, or the estimator that trains.
        metrics: the epoch's values by name, as `History.record` has them: "epoch", "loss", and
            where there are any "lr", "seconds", "validation_loss", metrics and lists by layer (an
            estimator has none of these).

    >>> from fastbp import Dense, Network, Trainer
    >>> def enough(state):
    ...     return "it is small enough" if state.metrics["loss"] < 1 else None
    >>> trainer = Trainer(Network(1, [Dense(1)], seed=0))
    >>> trainer.fit([[0.0]], [[0.0]], epochs=9, callbacks=enough)
    History(1 epoch: loss 0, stopped: it is small enough)
    """

    epoch: int
    history: History
    network: Network
    trainer: Any  # Trainer and estimators share next to nothing: a union would refuse honest code
    metrics: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Callback(Protocol):
    """An object whose method is called after each epoch."""

    def on_epoch_end(self, state: State) -> object:
        """Look at the finished epoch; a true value stops the training, a string says why."""


Hook = Callable[[State], object]
Callbacks = Hook | Callback | Iterable[Any] | None


class Named(NamedTuple):
    """A callback that was looked at: what messages call it, and what is called."""

    name: str
    hook: Hook


def as_callbacks(callbacks: object) -> list[Named]:
    """Names and functions of one callback, several, or None.

    Raises:
        TypeError: something that is neither a function nor has `on_epoch_end`.

    >>> [(name, hook)] = as_callbacks(lambda state: state.epoch == 3)
    >>> name, hook(State(3, None, None, None))
    ('<lambda>', True)
    """
    if callbacks is None:
        return []
    single = callable(callbacks) or hasattr(callbacks, "on_epoch_end")
    listed = [callbacks] if single else check_entries("callbacks", callbacks, _ALLOWED)
    return [_hook(callback) for callback in listed]


_ALLOWED = "functions of the state, or objects with the method on_epoch_end(state)"


def _hook(callback: object) -> Named:
    if isinstance(callback, Named):  # looked at before
        return callback
    method = getattr(callback, "on_epoch_end", None)
    if isinstance(callback, type):
        raise TypeError(f"callbacks: {callback.__name__} is a class; give an object of it.")
    if callable(method):
        return Named(type(callback).__name__, method)
    if callable(callback):
        return Named(getattr(callback, "__name__", type(callback).__name__), callback)
    raise _not_a_callback(callback)


def _not_a_callback(value: object) -> TypeError:
    kind = type(value).__name__
    return TypeError(f"callbacks={shown(value)} is of type {kind}; it must be {_ALLOWED}.")


def run_callbacks(callbacks: list[Named], state: State) -> str | None:
    """Call each in turn; the reason of the first that asks to stop, or None.

    All are called even so: one must not keep another from its epoch.

    >>> hooks = as_callbacks([print, lambda state: "enough"])
    >>> run_callbacks(hooks, "the state")
    the state
    'enough'
    """
    reason = None
    for name, hook in callbacks:
        answer = hook(state)
        if reason is None and isinstance(answer, str) and answer:
            reason = answer
        elif reason is None and _asks(name, answer):
            reason = f"the callback {name} asked for it"
    return reason


def _asks(name: str, answer: Any) -> bool:
    """A callback's answer as a wish to stop."""
    try:
        return bool(answer)
    except ValueError:
        raise TypeError(
            f"the callback {name} returned {shown(answer)}, which is neither true nor false; "
            "return True, or a reason in words, to stop, and nothing to go on."
        ) from None
