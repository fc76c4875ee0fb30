"""`fit_many`: independent networks side by side, one thread each, over one copy of the data.

Each network is a fit of its own, so it has the bits of one; what is shared is the data, the cores
and the bar. Compiled steps run without Python's lock and Python is back every 50 ms of them, so two
cores do nearly twice as much. The caller's thread trains nothing: it draws, and hears Ctrl-C.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .budget import available_cores
from .divergence import DivergenceError
from .errors import check_integer, check_name, naming, plural, shown
from .exclusive import exclusively, rules_apart
from .guard import check_finite_start
from .history import History
from .network import Network
from .progress import make_progress
from .samples import NAMES, Data, check_weights, hold_out, parted
from .side_by_side import Case, SideBySide
from .trainer import Trainer
from .warn import warn


def fit_many(
    networks: Iterable[Network | Trainer],
    X: ArrayLike,
    y: ArrayLike,
    epochs: int = 1,
    *,
    validation: Any = None,
    folds: Iterable[Any] | None = None,
    sample_weight: ArrayLike | None = None,
    on_divergence: str = "warn",
    n_threads: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> list[History]:
    """Train independent networks side by side: restarts, folds, hyper-parameters.

    Each gets the bits of a `Trainer(...).fit(...)` of its own, whatever runs beside it. X and y are
    shared, never copied for a network; networks may differ in anything but their inputs.

    Args:
        networks: `Network`s, each trained by a Trainer with these `options`, or `Trainer`s, each
            with its own settings (and going on where it stopped), or both.
        X, y, epochs, sample_weight: as for `Trainer.fit`.
        validation: (Xv, yv), (Xv, yv, weights), or the share of the samples to hold out, which
            each network draws by its own seed.
        folds: instead of `validation`, what each network trains on and is judged by, in turn:
            (train, held) rows of X, as scikit-learn's `KFold().split(X)` gives them; held may be
            None.
        on_divergence: "warn": once all have ended a RuntimeWarning names the networks, and their
            histories' `stopped` says where; "raise": a DivergenceError does, once all have ended.
            It stands in place of the Trainers' own.
        n_threads: how many are trained at once; None: the cores. Results do not depend on it.
        progress: one bar for all; None: in a terminal and in a notebook.
        options: of the Trainer that each Network gets: `optimizer`, `batch_size`, ... Callbacks
            are called in the thread of their network, several at a time.

    Returns:
        The histories, in the order of the networks.

    Raises:
        ValueError, TypeError: bad data or options; the message names the network, as networks[2].
            Nothing has changed then. Errors of a callback or a checkpoint are raised as they are,
            with a note, once the other networks have ended.
        KeyboardInterrupt: Ctrl-C; each network has the weights of its last finished step.

    >>> networks = [Network(1, [Dense(4, "tanh"), Dense(1)], seed=seed) for seed in range(4)]
    >>> X = np.linspace(0, 1, 64)[:, np.newaxis]
    >>> histories = fit_many(networks, X, np.sin(X), epochs=20, optimizer=Adam(0.01))
    >>> len(histories), all(history.loss[-1] < history.loss[0] for history in histories)
    (4, True)
    """
    epochs = check_integer("epochs", epochs, least=1)
    check_name("on_divergence", on_divergence, ("warn", "raise"))
    at_once = available_cores() if n_threads is None else check_integer("n_threads", n_threads, 1)
    trainers = _trainers(networks, options)
    parts = _parts(folds, validation, len(trainers))
    cases = _cases(trainers, (X, y, sample_weight), parts, validation, epochs)
    with ExitStack() as stack:
        for place, trainer in enumerate(trainers):
            with naming(f"networks[{place}]"):
                stack.enter_context(exclusively(trainer.network))
                stack.enter_context(rules_apart(trainer._all_rules))
        bar = make_progress(progress, 1, sum(case.steps for case in cases))
        SideBySide(cases, epochs, at_once, bar).work()
    return _judged(cases, on_divergence)


def _judged(cases: list[Case], on_divergence: str) -> list[History]:
    """The histories, or what must be raised of what went wrong."""
    for case in cases:
        if case.error is not None:
            others = "the other networks were trained to their ends"
            case.error.add_note(f"fit_many: raised in networks[{case.place}]; {others}.")
            raise case.error
    histories = [case.history for case in cases if case.history is not None]
    diverged = [
        f"networks[{case.place}]: {case.history.stopped}"
        for case in cases
        if case.history is not None and case.diverged
    ]
    if diverged:
        few = "\n".join(diverged[:3]) + ("\n..." if len(diverged) > 3 else "")
        message = f"{plural(len(diverged), 'network')} of {len(cases)} diverged.\n{few}"
        if on_divergence == "raise":
            raise DivergenceError(message)
        warn(message, RuntimeWarning)
    return histories


def _trainers(networks: Any, options: dict[str, Any]) -> list[Trainer]:
    """A Trainer for each of the networks."""
    if isinstance(networks, Network | Trainer | str) or not isinstance(networks, Iterable):
        raise TypeError(
            f"networks={shown(networks)} must be several: a list of fastbp.Network or "
            "fastbp.Trainer objects."
        )
    for name in ("checkpoint", "every", "distributed"):
        if options.get(name) is not None:
            raise ValueError(
                f"{name}={shown(options[name])} would be one for all networks; give fit_many "
                "Trainers, each with a checkpoint of its own."
            )
    listed = list(networks)
    found: list[Trainer] = []
    for place, item in enumerate(listed):
        with naming(f"networks[{place}]"):
            found.append(_trainer(item, options))
    if not found:
        raise ValueError("networks is empty; give at least one fastbp.Network.")
    if options and not any(isinstance(item, Network) for item in listed):
        raise ValueError(
            f"{next(iter(options))}=... is for Networks, and networks holds Trainers only; give it "
            "to them."
        )
    _check_apart(found)
    return found


def _trainer(item: Any, options: dict[str, Any]) -> Trainer:
    """A Trainer as it is, or one of a Network."""
    if isinstance(item, Network):
        return Trainer(item, **_own(options))
    if not isinstance(item, Trainer):
        raise TypeError(f"{shown(item)} must be a fastbp.Network or a fastbp.Trainer.")
    if item._world.size > 1:
        raise ValueError(
            f"distributed={item.distributed!r}: fit_many trains networks side by side in one "
            "process; give each rank some of them, without distributed."
        )
    return item


def _own(options: dict[str, Any]) -> dict[str, Any]:
    """Options for one Trainer: stopping rules remember what they saw, so each has its own."""
    rules = {k: copy.deepcopy(v) for k, v in options.items() if k in {"early_stopping", "stopping"}}
    return {**options, **rules}


def _check_apart(trainers: list[Trainer]) -> None:
    """Raise ValueError where two of them would change the same thing."""
    seen: dict[Any, tuple[int, str]] = {}
    for place, trainer in enumerate(trainers):
        rules = [*trainer.stopping, trainer.early_stopping]
        things: list[tuple[Any, str]] = [(id(trainer.network), "network")]
        things += [(id(rule), "stopping rule") for rule in rules if rule is not None]
        if trainer.checkpoint is not None:
            things.append((trainer.checkpoint.resolve(), "checkpoint"))
        for key, what in things:
            first, _ = seen.setdefault(key, (place, what))
            if first != place:
                raise ValueError(
                    f"networks[{place}] has the same {what} as networks[{first}]; give it one of "
                    "its own (copy.deepcopy)."
                )


def _parts(folds: Any, validation: Any, count: int) -> list[Any]:
    """The folds, one a network; None each where there are none."""
    if folds is None:
        return [None] * count
    if validation is not None:
        raise ValueError("give folds or validation, not both: a fold has its held-out rows.")
    listed: Sequence[Any] = list(folds)
    if len(listed) != count:
        raise ValueError(
            f"folds has {plural(len(listed), 'pair')} for "
            f"{plural(count, 'network')}; give each network its (train, held) rows."
        )
    for place, part in enumerate(listed):
        if not isinstance(part, tuple | list) or len(part) != 2:
            raise TypeError(f"folds[{place}]={shown(part)} must be a pair of rows (train, held).")
    return list(listed)


def _cases(
    trainers: list[Trainer],
    data: tuple[Any, Any, Any],
    parts: list[Any],
    validation: Any,
    epochs: int,
) -> list[Case]:
    """The fits, checked: nothing has changed when one of them cannot begin."""
    doors: dict[Any, Data] = {}
    matrices: dict[Any, Any] = {}
    X, y, weights = data
    cases = []
    for place, (trainer, part) in enumerate(zip(trainers, parts, strict=True)):
        net = trainer.network
        with naming(f"networks[{place}]"):
            key = (net.inputs, net.dtype, net.layers[-1].units, net.loss_name, net.device)
            if key not in doors:  # what has the form already is not copied again
                given_X = matrices.get((net.dtype, net.device), X)
                doors[key] = Data.canonical(net, given_X, y, weights, NAMES)
                matrices[net.dtype, net.device] = doors[key].X
            part_of, held, copied = _held(trainer, doors[key], validation, part, place)
            trainer._check_settings()
            trainer._check_fit(part_of, held)
            check_finite_start(trainer)
            steps = (len(trainer._bounds(part_of.samples)) - 1) * trainer.restarts
            work = net._work(part_of.samples) * trainer.restarts
            cases.append(Case(place, trainer, part_of, held, copied, steps * epochs, work))
    return cases


def _held(
    trainer: Trainer, data: Data, validation: Any, fold: Any, place: int
) -> tuple[Data, Data | None, bool]:
    """What a network trains on, what is held out, and whether that is a part of the same X."""
    if fold is not None:
        name = f"folds[{place}]"
        train = _rows(fold[0], data.samples, f"{name}[0]")
        if fold[1] is None:
            part = data.only(train)
            check_weights(part, None)
            return part, None, False
        return *parted(data, train, _rows(fold[1], data.samples, f"{name}[1]"), name), True
    return hold_out(trainer.network, data, validation, trainer.seed)


def _rows(rows: Any, samples: int, name: str) -> Any:
    """Indices (n,), or a mask (samples,), as indices in their order."""
    found = np.asarray(rows)
    if found.dtype == bool and found.shape == (samples,):
        found = np.flatnonzero(found)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not found.size:
        raise ValueError(
            f"{name}={shown(rows)} must be the indices of rows of X, at least one, or a mask of "
            f"shape ({samples},)."
        )
    found = found.astype(np.int64)
    outside = found[(found < 0) | (found >= samples)]
    if outside.size:
        raise ValueError(f"{name} has the row {outside[0]}; X has rows 0 to {samples - 1}.")
    return found
