"""Runs of a fit whose batches the ranks share: each its rows, and the same numbers on each.

All ranks make the same decisions at the same steps: what a clock, a file or a person decides, the
first rank decides for all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine import Array, Batch, Recipe
from ..kernels.cpu import slots
from ..kernels.cpu.figures import DEAD, DELTA_RMS
from ..kernels.cpu.ranks import FIRST, LAST
from ..kernels.layout import ACT, DROP, LD, MASK, D, F, N, O
from ..kernels.tables import RELU
from ..run import Run
from ..stream import Stream
from .mpi import MPIWorld

if TYPE_CHECKING:
    from ..samples import Data
    from ..trainer import Trainer


class Ranked(Run):
    """A `Run` on several ranks, each of which takes its rows of each batch."""

    def _begin(self, trainer: Trainer, held: Data | None, rules: list[Any]) -> None:
        assert isinstance(trainer._world, MPIWorld)
        self.world = trainer._world
        super()._begin(trainer, held, rules)
        # One element more: what the ranks say of their losses goes with the gradient.
        size = self.net.parameters.size + 1
        self.gradient, self.vector = self.world.gradient(size, self.net.dtype)
        self._sums = np.zeros((self.world.size, slots.RESULTS))
        if not self.world.leads:
            self.progress = False
            if self.on_divergence == "warn":
                self.on_divergence = "note"

    def _own(self, rows: int) -> int:
        """How many of a batch's rows are this rank's."""
        part = self.world.part(rows)
        return part.stop - part.start

    def _recipe(self, first: int, count: int, step: int) -> Recipe:
        recipe = super()._recipe(first, count, step)
        # A callable may give each rank another rate.
        return replace(recipe, rates=self.world.of_first(recipe.rates))

    def _steps(self, first: int, count: int, recipe: Recipe) -> int:
        done = super()._steps(first, count, recipe)
        self.world.check_call(self.vector)
        return done

    def _batch(self, first: int, count: int) -> Batch:
        return replace(super()._batch(first, count), world=self.vector)

    # --- decisions: the first rank's ------------------------------------------------------------

    def _count(self) -> int:
        return self.world.pulse(super()._count())

    def _due(self) -> tuple[str, bool, bool]:
        return self.world.of_first(super()._due())

    def keep(self) -> None:
        """The first rank writes, and all wait for it: the file has the sums of all of them."""
        self._sums = self.world.gathered(self.work.results)
        with self.world.agreeing():
            if self.world.leads:
                super().keep()

    def keep_after_epoch(self) -> None:
        """As `keep`, if the first rank's clock says so."""
        if self.world.of_first(self.keeper.due_after_epoch()):
            self.keep()

    def _unfit(self, rows: Array) -> str | None:
        own = rows[self.world.part(len(rows))]
        return self.world.reason(super()._unfit(own) or "") or None

    # --- sums over the ranks ---------------------------------------------------------------------

    def totals(self) -> Array:
        """What all ranks have summed up in the epoch so far."""
        return self.world.total(self.work.results)

    @property
    def kept_results(self) -> Array:
        """What a checkpoint keeps of the sums, a row a rank."""
        return self._sums

    def take_up(self, results: Array) -> None:
        """Go on from a checkpoint's sums: each rank from its own, or one from another number's."""
        if len(results) == self.world.size:
            self.work.results[...] = results[self.world.rank]
        else:
            self.work.results[...] = results.sum(axis=0) if self.world.leads else 0.0

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = self.world.of_first(super()._values())
        return values

    def _held_loss(self) -> float:
        held = self.held
        assert held is not None
        part = held.only(held.indices[self.world.share(held.samples)])
        weight = float(part.samples)
        if held.weights.size:
            weight = float(held.weights[part.indices].sum(dtype=np.float64))
        loss = self.net._mean_loss(part) * weight if weight > 0 else 0.0
        total, weights = self.world.total(np.array([loss, weight]))
        return float(total / weights)

    def _outputs(self, data: Data) -> Any:
        part = data.only(data.indices[self.world.share(data.samples)])
        own = part.outputs(self.net)
        return self.world.joined(own.reshape(part.samples, self.net.layers[-1].units))

    def _figures(self) -> Array:
        """The figures of the last step; those of a layer's rows put together from the ranks'."""
        figures: Array = self.work.figures.copy()
        rows, arena = self._own(self.rows), self.work.arena
        for p, figure in zip(self.work.plan.ints, figures, strict=True):
            n, ld = int(p[N]), int(p[LD])
            delta, output = (
                arena[p[at] : p[at] + rows * ld].reshape(rows, ld)[:, :n] for at in (D, F)
            )
            kept = np.ones((rows, n), bool)
            if p[DROP] and p[O] == p[F]:
                kept = self.work.masks[p[MASK] : p[MASK] + rows * ld].reshape(rows, ld)[:, :n] != 0
            squares = np.square(delta, dtype=np.float64).sum()
            own = np.concatenate([(output > 0).any(axis=0), kept.any(axis=0), [squares]])
            total = self.world.total(own)
            figure[DELTA_RMS] = np.sqrt(total[-1] / (self.rows * n))
            asleep = total[:n][total[n:-1] > 0] == 0
            figure[DEAD] = asleep.mean() if p[ACT] == RELU and asleep.size else np.nan
        return figures


class RankedStream(Ranked, Stream):
    """A `Stream` of each rank: a batch is what one item of each of them make together."""

    def _fetch(self) -> Data | None:
        """The rank's next item; None where a rank has none. Failures are everyone's."""
        data: Data | None = None
        with self.world.agreeing():
            data = super()._fetch()
        rows, weight = 0, 0.0
        if data is not None:
            rows, weight = data.samples, float(data.samples)
            if data.weights.size:
                weight = float(data.weights.sum(dtype=np.float64))
        self.coming = self.world.comm.allgather((rows, weight))
        return data if all(size for size, _ in self.coming) else None

    def _look_ahead(self) -> Exception | None:
        self.present = self.coming
        self.world.pulse(1)  # to hear Ctrl-C
        return super()._look_ahead()

    def _batch(self, first: int, count: int) -> Batch:
        sizes = [rows for rows, _ in self.present]
        start, whole = sum(sizes[: self.world.rank]), sum(sizes)
        self.vector[FIRST], self.vector[LAST] = start, start + self.data.samples
        # Only the rank's own rows are looked at, at their places in the whole batch.
        order = np.zeros(whole, np.int64)
        order[start : start + self.data.samples] = self.order
        batch = self.data.batch(order, np.array([0, whole]))
        return replace(batch, world=self.vector, total=sum(weight for _, weight in self.present))

    def _own(self, rows: int) -> int:
        return int(self.data.samples)

    def _check_rows(self, rows: int, name: str) -> None:
        """Two ranks' items have two rows at least."""

    def _unfit(self, rows: Array) -> str | None:
        message = Stream._unfit(self, rows)
        own = "" if message is None else f"rank {self.world.rank}: {message}"
        return self.world.reason(own) or None

    @property
    def rows(self) -> int:
        """Samples of the batch at hand, of all ranks."""
        facts = getattr(self, "present", self.coming)
        return sum(rows for rows, _ in facts)
