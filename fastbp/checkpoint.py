"""Checkpoints: a training on disk, to be resumed as if nothing had happened.

One safetensors file holds the network, as `net.save` writes it, and beside it all that the trainer
has made and where its fit is. It is replaced whole (`atomic.py`), so that whenever the process is
killed either the old or the new checkpoint is there.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, fields, is_dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import io
from .atomic import check_target
from .distrusted import Memory, count
from .errors import shown
from .fit_state import FitState
from .snapshot import TrainerState

if TYPE_CHECKING:
    from .rates import Schedule
    from .settings import Settings
    from .trainer import Trainer


def as_path(path: Any) -> Path | None:
    """The argument `checkpoint` as a path where a file can be written.

    Raises:
        TypeError, OSError: it is no path, or a directory, or its directory is missing.
    """
    return None if path is None else check_target(path, "checkpoint")


def write(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Store a trainer, its network and the fit that it is in, if any."""
    io.save(trainer.network, path, training=memory(trainer))


def memory(trainer: Trainer) -> Memory:
    """What a checkpoint keeps of a trainer beside its network."""
    standing = TrainerState.now(trainer).memory()
    standing["numbers"] = {"state": trainer._state}  # the network is there by layers
    under_way = trainer._job or trainer._cut_short
    return {
        "settings": settings(trainer),
        "rules": rules(trainer),
        "seed": trainer.seed,
        "standing": standing,
        "fit": None if under_way is None else under_way.memory(),
    }


def settings(trainer: Settings) -> dict[str, Any]:
    """What decides the result of a training, as text where it is no number."""
    rate = _described(trainer.schedule)
    names = ("batch_size", "sampling", "weight_decay", "perturbation", "clip_norm", "clip_value")
    return {
        "optimizer": trainer.optimizer.name,
        "hyper": list(trainer.optimizer.hyper()),
        "decoupled_decay": trainer.optimizer.decoupled_decay,
        "lr": "" if " at 0x" in rate else rate,  # a function has no description
        **{name: getattr(trainer, name) for name in (*names, "restarts")},
    }


def rules(trainer: Settings) -> list[str]:
    """The stopping rules by their arguments: what they have seen is no setting."""
    found = []
    for rule in trainer._all_rules:
        given = [entry.name for entry in fields(rule) if entry.init] if is_dataclass(rule) else []
        texts = [f"{name}={_plain(getattr(rule, name))}" for name in given]
        kept = ", ".join(text for text in texts if " at 0x" not in text)  # a function has no words
        found.append(f"{type(rule).__name__}({kept})")
    return found


def _described(schedule: Schedule) -> str:
    """A schedule by its arguments, NumPy's numbers as Python's."""
    given = {entry.name: getattr(schedule, entry.name) for entry in fields(schedule) if entry.init}
    plain = {name: value.item() for name, value in given.items() if isinstance(value, np.generic)}
    return repr(replace(schedule, **plain) if plain else schedule)


def _plain(value: Any) -> str:
    """A number whatever its kind: 3, 3.0 and np.int64(3) are one setting."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return repr(float(value)) if is_number else repr(value)


@dataclass
class Checkpoint:
    """A checkpoint that was read and fits a trainer; nothing has changed yet.

    Attributes:
        standing: where the trainer stood.
        seeds: the trainer's, of shuffles, dropout and noise, and the network's.
        fit: the fit that was cut short, if any.
        differing: settings that differ from the trainer's, in words.
    """

    standing: TrainerState
    seeds: tuple[int, int]
    fit: FitState | None
    differing: list[str]


def read(trainer: Trainer, path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of such a trainer.

    Raises:
        ValueError: it is none, is damaged, or is of another network or optimizer.
        OSError: the file cannot be read.
    """
    net, kept = io.load_training(path, type(trainer.network))
    where = f"{os.fspath(path)!r} cannot be resumed from"
    ours, theirs = trainer.network.architecture(), net.architecture()
    for name, value in ours.items():
        if theirs.get(name) != value and name != "seed":
            raise ValueError(
                f"{where}: its network has {name}={shown(theirs.get(name))}, and this one "
                f"{shown(value)}; give the trainer such a network, or load it: Network.load."
            )
    try:
        had = kept["settings"]
        if had["optimizer"] != trainer.optimizer.name:
            raise ValueError(
                f"its optimizer is {shown(had['optimizer'])}, and this trainer's "
                f"{trainer.optimizer.name!r}"
            )
        differing = [
            f"{name}={shown(value)} (it had {shown(had[name])})"
            for name, value in settings(trainer).items()
            if had[name] != value
        ]
        ours_now = rules(trainer)
        for own, other in itertools.zip_longest(ours_now, kept.get("rules", ours_now)):
            if own != other:
                differing.append(f"{own or 'no rule'} (it had {other or 'none'})")
        standing = kept["standing"]
        standing["numbers"] |= {"parameters": net.parameters, "running": net._running}
        fit = None if kept["fit"] is None else FitState.recalled(kept["fit"], trainer)
        seeds = count(kept, "seed"), net.seed
        return Checkpoint(TrainerState.recalled(standing, trainer), seeds, fit, differing)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{where}: {what}.") from error
