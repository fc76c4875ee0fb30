"""A Trainer on disk and in copies: checkpoints that training goes on from, and pickles."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from . import checkpoint as checkpoints
from .errors import check_flag
from .exclusive import exclusively
from .settings import Settings
from .warn import warn

if TYPE_CHECKING:
    from .trainer import Trainer


class Resuming(Settings):
    """What a `Trainer` does about checkpoints, pickles and copies."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint now: the network and all that `resume` needs, whole or not at all.

        In a callback the fit under way is kept with it, and `resume` goes on with that. After an
        interrupt (Ctrl-C) no fit is under way: what is kept is where the trainer stands.

        Args:
            path: the file.

        Raises:
            OSError: the file cannot be written.
        """
        if self._world.leads:  # of several ranks one writes
            checkpoints.write(cast("Trainer", self), path)

    def resume(self, path: str | os.PathLike[str] | None = None, *, finish: bool = True) -> int:
        """Take up the training that a checkpoint holds, as if it had never been cut short.

        The network's numbers, optimizer rows, counters, schedule, seeds and history become those
        of the checkpoint. Was it written within a `fit`, then the next `fit` goes on with that
        one, in the middle of an epoch, too: call it with the same data and arguments, and the end
        is that of the uninterrupted run to the last bit. The trainer must be made as the other
        was; settings that differ and would change the result are warned of.

        Args:
            path: the file; None: the trainer's own `checkpoint`.
            finish: go on with the fit that was cut short; False: the next `fit` is a new one.

        Returns:
            At most how many epochs the fit that was cut short has still to run: the one under way,
            and those of further `restarts`, included. 0 where it had ended, or has no epoch left:
            the trainer stands at its end then, with the weights that it goes back to.

        Raises:
            ValueError: the file is no checkpoint, is damaged, or is of another network or
                optimizer; nothing has changed then. Or path=None, and the trainer has no
                `checkpoint`.
            RuntimeError: the network is being trained.
            OSError: the file cannot be read.

        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/xor.safetensors"
        >>> net = Network(2, [Dense(1)])
        >>> history = Trainer(net, checkpoint=path).fit([[0, 0], [1, 1]], [0, 1], epochs=3)
        >>> trainer = Trainer(Network(2, [Dense(1)]), checkpoint=path)
        >>> trainer.resume(), trainer.epoch
        (0, 3)
        """
        if path is None and self.checkpoint is None:
            raise ValueError("path=None needs a trainer with checkpoint=PATH; give the path.")
        check_flag("finish", finish)
        trainer = cast("Trainer", self)
        with exclusively(self.network):
            with self._world.agreeing():
                found = checkpoints.read(trainer, self.checkpoint if path is None else path)  # type: ignore[arg-type]
            found.standing.restore(trainer)
            self.seed, self.network.seed = found.seeds
            left = 0 if found.fit is None or not finish else found.fit.left(self.restarts)
            self._cut_short = found.fit if left else None
            if found.fit is not None and finish and not left:
                found.fit.end(trainer)
        if found.differing and self._world.leads:
            warn(
                f"the trainer differs from the one of the checkpoint: {', '.join(found.differing)}",
                RuntimeWarning,
            )
        return left

    def __getstate__(self) -> dict[str, Any]:
        self.network._settle()
        return {**self.__dict__, "_job": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._state = np.array(self._state)  # it may be a map of a file, and read-only

    def __copy__(self) -> Self:
        return copy.deepcopy(self)
