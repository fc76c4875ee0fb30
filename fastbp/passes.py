"""Passes of data through a network: outputs, losses and gradients by compiled calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .architecture import Architecture
from .budget import ROWS_A_THREAD, WORK_A_CALL, choose_threads
from .canonical import is_memory_map, unfit
from .engine import NO_COLUMNS, NO_STARTS, Array, Batch, Recipe, Workspace, aligned
from .errors import check_flag, check_seed, too_few_for_norm
from .kernels.cpu import slots
from .samples import Data
from .sparse import Sparse, parts

INFERENCE_ROWS = 512  # rows of X that one batch of inference takes
KEEP_ELEMENTS = 1 << 24  # larger workspaces are not kept for the next call
PIECE: Final = 1_000_000_000  # operations of one compiled call: some 50 ms, then Ctrl-C is heard


class Passes(Architecture):
    """What a `Network` does with data, beneath its public methods."""

    _card: Any
    _as_matrix: Callable[..., Any]
    _on_host: Callable[[Any], Any]

    def _infer(self, X: Any, *, logits: bool) -> NDArray[Any]:
        """Outputs (or logits, where the loss is computed from them) by running statistics."""
        ready = (
            type(X) is np.ndarray
            and X.dtype == self.dtype
            and X.ndim == 2
            and X.shape[1] == self.inputs
            and X.shape[0] > 0
            and X.flags.carray
        )
        matrix = X if ready else self._as_matrix(X, finite=False, sparse=True)
        if isinstance(matrix, Sparse):  # screened at the door
            return self._run_inference(*parts(matrix), len(matrix), logits=logits)[0]
        out, bad = self._run_inference(matrix, NO_COLUMNS, NO_STARTS, len(matrix), logits=logits)
        if bad and (message := unfit(matrix, "X")):
            raise ValueError(message)
        return out

    def _run_inference(
        self,
        X: Any,
        columns: Array,
        starts: Array,
        rows: int,
        *,
        logits: bool = False,
        n_threads: int | None = None,
    ) -> tuple[Array, int]:
        """Outputs (or logits) of canonical rows, and how many of the dense ones hold NaN or inf.

        One compiled call, or several of some 50 ms: between them Ctrl-C is heard.
        """
        threads = 1
        if rows >= 2 * ROWS_A_THREAD:
            threads = choose_threads(self._work(rows) // 3, rows, n_threads, WORK_A_CALL)
        out = np.empty((rows, self._specs[-1].units), self.dtype)
        most = INFERENCE_ROWS if self.device == "cpu" else self._rows_at_once()
        kept = self._workspaces
        work = self._take(kept, min(rows, most))  # one row is microseconds: no `with` here
        # No name for the parameters: a card counts who else holds them.
        if rows <= most or rows <= (piece := self._piece()):
            bad = work.infer(
                X, out, self._parameters, self._running, logits=logits, n_threads=threads,
                columns=columns, starts=starts,
            )  # fmt: skip
        else:
            bad = 0
            for i in range(0, rows, piece):
                some = X if starts.size else X[i : i + piece]
                bad += work.infer(
                    some, out[i : i + piece], self._parameters, self._running, logits=logits,
                    n_threads=threads, columns=columns, starts=starts[i : i + piece + 1],
                )  # fmt: skip
        self._give_back(kept, work)
        return out, bad

    def _loss(self, batch: Batch, seed: int | None, training: bool = False) -> float:
        """The data term over a batch; in blocks of rows where nothing ties them together."""
        rows = len(batch.order)
        block = rows if training else min(rows, self._rows_at_once())
        bounds = np.append(np.arange(0, rows, block), rows)
        with self._borrow(block) as work:
            blocks = replace(batch, bounds=bounds)
            self._call(work, slots.LOSS, blocks, self._room(0), training, seed)
            total, weight = work.results[slots.LOSS_SUM], work.results[slots.WEIGHT_SUM]
        return float(total if self.reduction == "sum" else total / weight)

    def _mean_loss(self, data: Any) -> float:
        """Mean loss of canonical data, whatever the reduction of the objective."""
        batch = data.batch(data.indices, np.empty(0, np.int64))
        loss = self._loss(batch, None)
        if self.reduction == "sum":
            weights = data.weights[data.indices] if data.weights.size else None
            loss /= data.samples if weights is None else float(weights.sum(dtype=np.float64))
        return loss

    def _call(
        self,
        work: Workspace,
        mode: int,
        batch: Batch,
        gradient: Array,
        training: bool,
        seed: int | None,
    ) -> None:
        """Losses or the gradient of a batch; `work.results` holds the sums.

        Raises:
            ValueError: a memory-mapped X or y holds NaN or inf; other arrays were screened before.
        """
        rows = int(batch.bounds[1] - batch.bounds[0])
        screen = is_memory_map(batch.X) or is_memory_map(batch.targets)
        seed = self.seed if seed is None else check_seed(seed)
        work.results[:] = 0.0
        blocks = max(1, self._piece() // rows)
        work_a_call = self._work(rows * min(blocks, len(batch.bounds) - 1))
        for first in range(0, len(batch.bounds) - 1, blocks):
            work.run(
                mode,
                replace(batch, bounds=batch.bounds[first : first + blocks + 1]),
                Recipe(seed=seed, screen=screen),
                self._parameters,
                gradient,
                np.empty((0, self._parameters.size), self.dtype),
                self._running,
                training=training,
                n_threads=choose_threads(work_a_call, rows, grain=WORK_A_CALL),
            )
        if screen and not np.isfinite(work.results[slots.LOSS_SUM]):
            message = unfit(batch.X, "X") or (len(batch.targets) and unfit(batch.targets, "y"))
            if message:
                raise ValueError(message)

    def _room(self, size: int | None = None) -> Array:
        """Zeros for a gradient."""
        return aligned(self._parameters.size if size is None else size, self.dtype)

    def _batch(
        self, X: Any, y: Any, sample_weight: Any, training: bool = False, sparse: bool = True
    ) -> Batch:
        """The whole of X and y as one canonical batch."""
        data = Data.canonical(self, X, y, sample_weight, sparse=sparse)
        self._check_rows(data.samples, training)
        return data.whole()

    @property
    def _normed(self) -> bool:
        """Some layer has batch norm."""
        return any(spec.batch_norm for spec in self._specs)

    def _check_rows(self, rows: int, training: bool) -> None:
        if check_flag("training", training) and rows == 1 and self._normed:
            way_out = "give more rows, or training=False for the running statistics"
            raise ValueError(f"X: {too_few_for_norm(way_out)}")

    def _piece(self) -> int:
        """Rows of a pass that go through the network in one compiled call: whole blocks."""
        return max(1, PIECE * 3 // self._work_a_row // INFERENCE_ROWS) * INFERENCE_ROWS

    def _work(self, rows: int) -> int:
        """Floating-point operations of a training step on `rows` samples, about."""
        return rows * self._work_a_row

    @contextmanager
    def _borrow(self, rows: int) -> Iterator[Workspace]:
        """A workspace for `rows` samples that no other thread uses meanwhile."""
        kept = self._workspaces
        work = self._take(kept, rows)
        yield work
        self._give_back(kept, work)  # not after an error: what an interrupt left in it is not known

    def _take(self, kept: list[Workspace], rows: int) -> Workspace:
        """A workspace of `kept`, or a new one.

        `kept` is `_workspaces` as the pass found it: another precision or device replaces that
        list, and a workspace of before must not come back into the new one.
        """
        try:
            work = kept.pop()  # one step, so safe between threads
        except IndexError:
            return self._workspace(rows)
        return work if rows <= work.plan.rows else self._workspace(rows)

    def _give_back(self, kept: list[Workspace], work: Workspace) -> None:
        if work.arena.size <= KEEP_ELEMENTS:
            kept.append(work)

    def _workspace(self, rows: int, reduction: str | None = None) -> Workspace:
        given = self._specs, self.loss_name, reduction or self.reduction, self.dtype, rows
        if self._card is None:
            bf16 = self._precision is not None
            return Workspace(*given, self._parameters.size, bf16=bf16)
        from .cuda.workspace import CardWorkspace

        work: Any = CardWorkspace(self._card, *given, self._parameters.size)
        return work

    def _rows_at_once(self) -> int:
        """Rows of X that one batch of a pass takes."""
        if self.device == "cpu":
            return INFERENCE_ROWS
        from .cuda.workspace import ROWS_AT_ONCE

        return ROWS_AT_ONCE
