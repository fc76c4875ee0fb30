"""Training on batches that come one by one, from data that may never end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .budget import WORK_A_CALL
from .engine import Workspace
from .errors import plural, shown, too_few_for_norm
from .pace import Pace
from .run import Run
from .samples import Data

if TYPE_CHECKING:
    from .trainer import Trainer


class Stream(Run):
    """A `Run` whose steps take the items of an iterator; some steps make an epoch.

    The next item is fetched before the present one is trained on, so that the last step of an
    epoch, whose figures are recorded, is known as such when the iterator ends early. The present
    one is a copy by then: an iterator may fill the same arrays anew.
    """

    def __init__(
        self,
        trainer: Trainer,
        items: Iterator[Any],
        held: Data | None,
        steps: int,
        epochs: int | None,
        rules: list[Any],
    ) -> None:
        self._begin(trainer, held, rules)
        self.steps = steps
        self.total = None if epochs is None else trainer.step + epochs * steps
        self.left = None if epochs is None else epochs * steps
        self.items = items
        self.taken = 0
        self.work = self.net._workspace(1)
        self.order = np.arange(0)
        self.following = self._fetch()
        with trainer._world.agreeing():
            if self.following is None:
                raise ValueError("batches gave nothing: there is nothing to train on")

    def _fetch(self) -> Data | None:
        """The next item through the door; None where there is none, or none is wanted."""
        if self.left == 0:
            return None
        try:
            item = next(self.items)
        except StopIteration:
            return None
        name = f"batches[{self.taken}]"
        X, y, weights = _parts(item, name)
        data = Data.canonical(self.net, X, y, weights, (f"{name}[0]", f"{name}[1]", f"{name}[2]"))
        self._check_rows(data.samples, name)
        data = data.apart(X)
        self.taken += 1
        if self.left is not None:
            self.left -= 1
        return data

    def _check_rows(self, rows: int, name: str) -> None:
        """An item is enough for a step."""
        if rows == 1 and self.net._normed:
            way_out = "join it with another, or give layers without batch_norm"
            raise ValueError(f"{name}: {too_few_for_norm(way_out)}")

    def _epoch(self, progress: Any) -> dict[str, Any]:
        """The steps of one epoch, fewer where the batches end; see `Run.epoch`."""
        self.work.results[:], self.begun = 0.0, 0
        for step in range(self.steps):
            if self.following is None:
                break
            self.data = self.following
            failure = self._look_ahead()
            self._make_room(self.data.samples)
            self.guard.renew(step)  # the item cannot be had again: the next one starts from here
            if not (self._chunk(step, 1) and self._sound(step + 1)):
                return {}
            if failure is not None:
                raise failure
            progress.update(self.done)
            if self._is_recorded(step + 1):
                continue
            reason, _, _ = self._due()
            if reason:
                self.stopped = reason
                return {}
        self.ended = self.following is None
        values = self._values()
        self.begun = 0
        return values

    def _look_ahead(self) -> Exception | None:
        """Fetch the next item; what is wrong with it is said after the present step."""
        try:
            self.following = self._fetch()
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterator raises
            self.following = None
            return error
        return None

    def _unfit(self, rows: Any) -> str | None:
        message = super()._unfit(rows)
        return message and f"batches[{self.taken - 1 - (self.following is not None)}]: {message}"

    def _make_room(self, rows: int) -> None:
        """A workspace that holds the item; the sums of the epoch so far move along."""
        if rows > self.work.plan.rows:
            larger: Workspace = self.net._workspace(rows)
            larger.results[:] = self.work.results
            self.work = larger
        if rows != len(self.order):
            self.order = np.arange(rows)
            self.pace = Pace(self.net._work(rows), rows, self.trainer.n_threads, WORK_A_CALL)

    def _bounds(self, first: int, count: int) -> Any:
        return np.array([0, self.data.samples])

    def _is_recorded(self, steps: int) -> bool:
        return steps == self.steps or self.following is None

    def fingerprint(self) -> None:
        """What has come by is gone: a checkpoint holds the trainer between two epochs."""
        return

    @property
    def rows(self) -> int:
        """Samples of the item at hand."""
        return 0 if self.following is None else self.following.samples


def items_of(batches: Any) -> Iterator[Any]:
    """The items of what `fit_stream` was given.

    Raises:
        TypeError: it has none.
    """
    if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches={shown(batches)} must be an iterator of (X, y); for arrays in memory use "
            "trainer.fit(X, y)"
        )
    return iter(batches)


def _parts(item: Any, name: str) -> tuple[Any, Any, Any]:
    """X, y and weights, or None, of an item."""
    if not isinstance(item, tuple | list) or len(item) not in {2, 3}:
        size = f" of {plural(len(item), 'part')}" if isinstance(item, tuple | list) else ""
        raise TypeError(
            f"{name}={shown(item)} is a {type(item).__name__}{size}; give (X, y) or (X, y, weights)"
        )
    X, y, *weights = item
    return X, y, weights[0] if weights else None
