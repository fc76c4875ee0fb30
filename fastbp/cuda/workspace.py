"""The way from Python onto the card: what one batch needs there, and launches on it.

`CardWorkspace` has the methods and results of `engine.Workspace`; its launches are of one kernel,
`kernels/cuda/loop.py`. What the host reads back of a launch is eight numbers.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..engine import NO_COLUMNS, NO_STARTS, Batch, Recipe
from ..kernels.cpu.figures import FIGURES
from ..kernels.cpu.slots import GRADIENT, RESULTS, TRAIN
from ..kernels.cuda import loop, memory, slots
from ..kernels.cuda.places import places
from ..kernels.cuda.shim import SIMULATED
from ..kernels.cuda.update import STRIDE, constants
from ..kernels.layout import LD, LayerSpec, O
from ..kernels.tables import LOSSES
from .card import Card
from .programs import Programs

Array = np.ndarray[Any, Any]

ROWS_AT_ONCE: Final = 64 if SIMULATED else 16384
"""Rows of a pass that go through the network side by side."""


class CardWorkspace:
    """Buffers on the card of one network for batches of up to `rows` samples."""

    def __init__(
        self,
        card: Card,
        layers: list[LayerSpec],
        loss: str,
        reduction: str,
        dtype: Any,
        rows: int,
        parameters: int,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.card, self.layers = card, layers
        self.plan = places(layers, rows, self.dtype.itemsize)
        last = layers[-1]
        self.from_logits = last.ends_in_logits(loss)
        self.loss, self.mean = LOSSES[loss].code, reduction == "mean"
        self.size, self.outputs_a_row = parameters, last.units
        self.results, self.figures = np.zeros(RESULTS), np.zeros((len(layers), FIGURES))
        self.flags = np.zeros(slots.FLAGS, np.int64)
        self.settings, self.factors = np.zeros(slots.SETTINGS, np.int64), np.zeros(slots.FACTORS)
        self._norm = any(layer.batch_norm for layer in layers)
        self._stamp = 1
        self._programs = Programs(self.plan, layers, self.dtype)
        self._allocate(rows)

    def _allocate(self, rows: int) -> None:
        what = f"a batch of {rows} rows"
        self.arena = memory.allocate(self.plan.arena, self.dtype, what)
        self._masks = memory.allocate(self.plan.masks, np.uint8, "dropout masks")
        self._losses = memory.allocate(rows, np.float64, what)
        self._bad = memory.upload(np.zeros(2 * rows, np.int64), what)
        figures, squares = loop.chunks_of(self.layers, self.size)
        self._squares = figures
        self._partial = memory.allocate(figures + squares, np.float64, "partial sums")
        self._plan = memory.upload(self.plan.ints, "the plan").reshape(self.plan.ints.shape)
        self._reals = memory.upload(self.plan.reals, "the plan").reshape(self.plan.reals.shape)
        self._flat_figures = memory.upload(self.figures, "figures")
        self._figures = self._flat_figures.reshape(self.figures.shape)
        self._settings = memory.upload(self.settings, "settings")
        self._factors = memory.upload(self.factors, "settings")
        self._results = memory.upload(self.results, "results")
        self._flags = memory.upload(self.flags, "flags")
        self._none = memory.allocate(STRIDE, self.dtype, "nothing")
        self._no_indices = memory.allocate(1, np.int64, "nothing")
        self._no_columns = memory.allocate(1, np.int32, "nothing")

    def run(
        self,
        mode: int,
        batch: Batch,
        recipe: Recipe,
        parameters: Array,
        gradient: Array,
        state: Array,
        running: Array,
        *,
        training: bool,
        n_threads: int,
    ) -> int:
        """As `engine.Workspace.run`; the parameters are the card's, `n_threads` plays no part."""
        del parameters, running  # the card counts who else holds them
        with self.card.lock:
            done = self._run(mode, batch, recipe, state, training)
            if mode == GRADIENT:
                memory.read(self.card.gradient, gradient)
        return done

    def _run(self, mode: int, batch: Batch, recipe: Recipe, state: Array, training: bool) -> int:
        card, s, f = self.card, self.settings, self.factors
        card.ready(state if mode == TRAIN else None)
        bounds = batch.bounds - batch.bounds[0]
        steps, rows = len(bounds) - 1, int(np.diff(bounds).max())
        s[slots.MODE], s[slots.TRAINING] = mode, training
        s[slots.FROM_LOGITS], s[slots.CODE] = self.from_logits, recipe.code
        s[slots.SEED], s[slots.EPOCH] = recipe.seed, recipe.epoch
        s[slots.RECORD], s[slots.SCREEN] = recipe.record, recipe.screen
        s[slots.HEEDLESS], s[slots.LABELLED] = recipe.heedless, batch.labels.size > 0
        s[slots.WEIGHTED] = batch.weights.size > 0
        # An epoch's last batch may be short, and alone in a chunk: its tiles are the others'. An
        # item of a stream is all there is in its order, and may have found room for larger ones.
        most = min(self.plan.rows, len(batch.order)) if mode == TRAIN else rows
        s[slots.MOST_ROWS] = most
        s[slots.NORMS] = self._norm
        s[slots.STATE_SIZE] = state.size if mode == TRAIN else 0
        f[slots.L2], f[slots.CLIP_VALUE], f[slots.CLIP_NORM] = (
            recipe.l2, recipe.clip_value, recipe.clip_norm,
        )  # fmt: skip
        f[slots.NOISE], f[slots.SHARED_L2] = recipe.noise, recipe.shared_l2
        f[slots.LEAST], f[slots.MOST] = recipe.least, recipe.most
        made = constants(
            recipe.code, recipe.hyper, recipe.rates[:steps], recipe.first_update + 1,
            recipe.decoupled, self.dtype,
        )  # fmt: skip
        order = batch.order[batch.bounds[0] : batch.bounds[-1]]
        return self._launch(
            batch.X, batch.labels, batch.targets, batch.weights, order, bounds,
            memory.upload(made, "rates") if mode == TRAIN else self._none, self._none,
            batch.columns, batch.starts, recipe.first_step, self._programs.tail(most),
            mode == TRAIN,
        )  # fmt: skip

    def infer(
        self,
        X: Any,
        out: Array,
        parameters: Array,
        running: Array,
        *,
        logits: bool,
        n_threads: int,
        columns: Array = NO_COLUMNS,
        starts: Array = NO_STARTS,
    ) -> int:
        """As `engine.Workspace.infer`: outputs of X into `out`; 1 where X is not finite.

        A row's outputs do not depend on the others: each block works on rows of its own.
        """
        del parameters, running  # the card counts who else holds them
        with self.card.lock:
            return self._infer(X, out, logits, columns, starts)

    def _infer(self, X: Any, out: Array, logits: bool, columns: Array, starts: Array) -> int:
        self.card.ready()
        s, rows = self.settings, len(out)
        s[:] = 0
        s[slots.MODE], s[slots.LOGITS] = slots.INFER, logits and self.from_logits
        s[slots.MOST_ROWS] = min(rows, self.plan.rows)
        self.factors[:] = 0.0
        bounds = np.append(np.arange(0, rows, self.plan.rows), rows)
        there = memory.allocate(out.size, self.dtype, f"outputs of {rows} rows")
        nothing = np.empty(0, self.dtype)
        self._launch(
            X, NO_STARTS, nothing, nothing, None, bounds, self._none, there, columns, starts, 0, 0,
            False,
        )  # fmt: skip
        memory.read(there, out)
        return int(self.flags[slots.UNFIT])

    def outputs(self, rows: int) -> Array:
        """What the last run's forward pass left for its first `rows` rows, (rows, outputs)."""
        last = self.plan.ints[-1]
        host = np.empty(rows * last[LD], self.dtype)
        memory.read(self.arena[last[O] : last[O] + host.size], host)
        return host.reshape(rows, last[LD])[:, : self.outputs_a_row].copy()

    def _launch(
        self, X: Any, labels: Array, targets: Array, weights: Array, order: Array | None,
        bounds: Array, rates: Any, out: Any, columns: Array, starts: Array, first_step: int,
        tail: int, train: bool,
    ) -> int:  # fmt: skip
        """Upload what is new, launch, wait; the steps done.

        `results` counts what was done even where an interrupt ends the wait.
        """
        card = self.card
        table, blocks = self._tell(first_step, len(bounds) - 1, tail)
        self.settings[slots.ORDERED] = order is not None
        self.settings[slots.SPARSE] = starts.size > 0
        running = self.card._host["running"].size
        data = [
            card.given(X, "X"),
            card.given(labels, "y") if labels.size else self._no_indices,
            card.given(targets, "y") if targets.size else self._none,
            card.given(weights, "sample_weight") if weights.size else self._none,
            self._no_indices if order is None else memory.upload(order, "the order"),
            memory.upload(np.ascontiguousarray(bounds, np.int64), "the batches' bounds"),
        ]
        sparse = (self._no_columns, self._no_indices)
        if starts.size:
            sparse = card.given(columns, "X"), card.given(starts, "X")
        self.flags[:] = 0
        memory.fill(self._results, self.results)
        memory.fill(self._flags, self.flags)
        memory.fill(self._settings, self.settings)
        memory.fill(self._factors, self.factors)
        before = int(self.results[loop.STEPS])
        kernel = loop.kernels[self.dtype.type]
        try:
            if train:
                card.changed()
            kernel.launch(
                blocks, self._plan, self._reals, table, self._settings, self._factors, *data, rates,
                card.parameters, card.gradient, card.state, card.running, running, self.arena,
                self._masks, self._losses, self._bad, self._partial, self._programs.scratch,
                self._figures,
                self._results, self._flags, out, *sparse,
            )  # fmt: skip
        finally:  # an interrupt may have come after the launch: what was done counts
            self._collect(train)
        return int(self.results[loop.STEPS]) - before

    def _tell(self, first_step: int, steps: int, tail: int) -> tuple[Any, int]:
        """The settings that do not depend on what is asked for; its phases and number of blocks."""
        s, plan = self.settings, self.plan
        s[slots.LOSS_CODE], s[slots.MEAN] = self.loss, self.mean
        s[slots.FIRST_STEP], s[slots.STEP_COUNT] = first_step, steps
        s[slots.TARGETS], s[slots.OTHER_TARGETS] = plan.targets
        s[slots.WEIGHTS], s[slots.OTHER_WEIGHTS] = plan.weights
        s[slots.INPUTS], s[slots.OTHER_INPUTS] = plan.inputs
        s[slots.TARGETS_LD], s[slots.OUTPUTS] = plan.targets_ld, self.outputs_a_row
        s[slots.SIZE], s[slots.SQUARES] = self.size, self._squares
        s[slots.STAMP], s[slots.ROWS] = self._stamp, plan.rows
        self._stamp += steps + 1
        mode, training = int(s[slots.MODE]), bool(s[slots.TRAINING])
        pair = bool(s[slots.LOGITS if mode == slots.INFER else slots.FROM_LOGITS])
        table, s[slots.PHASES], blocks = self._programs.program(
            int(s[slots.MOST_ROWS]), mode, training, pair, tail
        )
        return table, blocks

    def _collect(self, train: bool) -> None:
        """Read what a launch has left; an interrupt meanwhile is raised when all is here."""
        late: KeyboardInterrupt | None = None
        wanted = [(self._results, self.results), (self._flags, self.flags)]
        if train:
            wanted.append((self._flat_figures, self.figures))
        for there, host in wanted:
            read = False
            while not read:
                try:
                    memory.read(there, host)
                    read = True
                except KeyboardInterrupt as error:
                    late = error
        if train:
            self.card.unfit = bool(self.flags[slots.NOT_FINITE])
            self.card.show()
        if late is not None:
            raise late
