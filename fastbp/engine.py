"""The one way from Python into the compiled loop: buffers for a batch, and calls on them.

A `Workspace` owns what one batch of a network needs; `Workspace.run` is the only caller of
`run_steps`. Training, losses, gradients and the forward pass in training mode are all this call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from . import budget, threads
from .kernels.cpu import infer as inference
from .kernels.cpu import loop, slots
from .kernels.cpu.barrier import SYNC_SIZE
from .kernels.cpu.bf16_product import bind_bf16
from .kernels.cpu.figures import FIGURES
from .kernels.cpu.jit import JIT_DISABLED
from .kernels.cpu.memory import address_table
from .kernels.cpu.ranks import ALONE
from .kernels.cpu.scratch import scratch_elements
from .kernels.cpu.shares import FLAT
from .kernels.cpu.table import bind, bind_bodies_of_bf16
from .kernels.layout import CACHE_LINE, IN, LD, LayerSpec, O, build_plan
from .kernels.tables import LOSSES

Array = np.ndarray[Any, Any]


def _quiet(function: Any) -> Any:
    """Compiled code warns of no overflow, and neither does what stands for it with the JIT off."""
    return np.errstate(all="ignore")(function) if JIT_DISABLED else function


_run_steps, _infer = _quiet(loop.run_steps), _quiet(inference.infer)
# Where the functions have, after t and T, the array without which there is nothing to do.
_WORK: Final = {_run_steps: list(loop.ARGUMENTS).index("bounds"), _infer: 1}


def aligned(size: int, dtype: Any) -> Array:
    """Zeros on a 64-byte boundary: a vector load then never straddles two cache lines."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(size + CACHE_LINE // itemsize, dtype)
    start = -raw.ctypes.data % CACHE_LINE // itemsize
    return raw[start : start + size]


NO_COLUMNS: Final[Array] = np.empty(0, np.int32)
NO_STARTS: Final[Array] = np.empty(0, np.int64)


@dataclass
class Batch:
    """What `run` trains on or measures: canonical arrays and the order to take them in.

    Attributes:
        X: (samples, inputs) of the network's dtype.
        labels: (samples,) int64 classes, or empty.
        targets: (samples, outputs) of the network's dtype; (0, outputs) where there are labels.
        weights: (samples,) of the network's dtype, or empty for ones.
        order: int64 indices of samples.
        bounds: int64; step s takes order[bounds[s]:bounds[s + 1]].
        columns, starts: of a sparse matrix (CSR), whose values X then holds; empty where X is
            dense. int32 and int64.
        world: who this rank is among those that share each batch (`kernels/cpu/ranks.py`).
        total: sum of the weights of the (one) batch over the ranks; None: of these weights.
    """

    X: Array
    labels: Array
    targets: Array
    weights: Array
    order: Array
    bounds: Array
    columns: Array = field(default_factory=lambda: NO_COLUMNS)
    starts: Array = field(default_factory=lambda: NO_STARTS)
    world: Array = field(default_factory=lambda: ALONE)
    total: float | None = None


@dataclass
class Recipe:
    """How `run` learns: the optimizer's code and constants, and the random addresses.

    Attributes:
        code, hyper: the optimizer and its constants, in the order of `tables.UPDATES`.
        l2: times W, is added to dL/dW: 2 lambda.
        decoupled: times the rate, is taken off W before the update: AdamW's decay.
        clip_value, clip_norm: bounds of each element and of the norm of the gradient; 0: none.
        noise: standard deviation of what is added to the inputs.
        seed, epoch, first_step: address of the random numbers, `first_step` within the epoch.
        first_update: steps that the optimizer has made before (Adam's t counts from there).
        record: the last step leaves the figures by layer.
        screen: a row that is not finite makes its batch's loss NaN.
        shared_l2: scikit-learn's alpha: as l2, but divided by the sum of the batch's weights; the
            squares of all W are summed to `results[ROWS_SQUARES]`.
        least, most: the log losses computed from logits are held between them.
        heedless: go on where a batch's loss is not finite.
        rates: the step sizes, one a step.
    """

    code: int = 0
    hyper: tuple[float, ...] = ()
    l2: float = 0.0
    decoupled: float = 0.0
    clip_value: float = 0.0
    clip_norm: float = 0.0
    noise: float = 0.0
    seed: int = 0
    epoch: int = 0
    first_step: int = 0
    first_update: int = 0
    record: bool = False
    screen: bool = False
    shared_l2: float = 0.0
    least: float = 0.0
    most: float = np.inf
    heedless: bool = False
    rates: Array = field(default_factory=lambda: np.zeros(1))


class Workspace:
    """Buffers of one network for batches of up to `rows` samples."""

    def __init__(
        self,
        layers: list[LayerSpec],
        loss: str,
        reduction: str,
        dtype: Any,
        rows: int,
        parameters: int,
        *,
        bf16: bool = False,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.layers = layers
        self.plan = build_plan(layers, rows, self.dtype.itemsize, bf16=bf16)
        self.bf16 = bf16  # products on bfloat16 operands
        self.from_logits = layers[-1].ends_in_logits(loss)
        self.loss, self.mean = LOSSES[loss].code, reduction == "mean"
        self.arena = aligned(self.plan.arena, dtype)
        self.masks = aligned(max(self.plan.masks, 1), np.uint8)
        self.losses = np.zeros(rows)
        self.prefetched = np.zeros(2 * rows, np.int64)
        self.plans = np.vstack([self.plan.ints, self.plan.ints])  # inputs lie elsewhere by turns
        self.plans[len(layers), IN] = self.plan.other
        self.weight_room = np.ones(2 * rows, dtype)
        self.figures = np.zeros((len(layers), FIGURES))
        self.partial = np.zeros(parameters // FLAT + len(layers))
        self.results = np.zeros(slots.RESULTS)
        self.sync = aligned(SYNC_SIZE, np.int64)
        self.settings = np.zeros(slots.SETTINGS, np.int64)
        self.factors = np.zeros(slots.FACTORS)
        self._table: Any = None
        self._known: tuple[Array | None, ...] = (None, None, None)
        self._compiled: set[Any] = set()
        self._scratches: Array = np.zeros((0, 0), dtype)
        self._unfit: Array = np.zeros(0, np.int64)

    def scratches(self, count: int) -> Array:
        """One row of scratch memory a thread."""
        if len(self._scratches) < count:
            size = scratch_elements(
                self.plan.ints, self.plan.rows, self.dtype.itemsize, bf16=self.bf16, count=count
            )
            self._scratches = aligned(count * size, self.dtype).reshape(count, size)
            self._unfit = np.zeros(count, np.int64)
        return self._scratches

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
        """Run the steps of `batch.bounds`; the number of steps done is returned.

        Fewer than asked means that the next batch's loss was not finite and nothing of that step
        was applied. `results`, `figures`, `losses` and the arena hold what was met on the way.
        """
        s, f = self.settings, self.factors
        s[slots.MODE], s[slots.TRAINING], s[slots.LOSS_CODE] = mode, training, self.loss
        s[slots.FROM_LOGITS], s[slots.AVERAGE] = self.from_logits, self.mean
        s[slots.CODE] = recipe.code
        s[slots.SEED], s[slots.EPOCH], s[slots.RECORD] = recipe.seed, recipe.epoch, recipe.record
        s[slots.FIRST_STEP], s[slots.FIRST_UPDATE] = recipe.first_step, recipe.first_update
        s[slots.TARGETS], s[slots.TARGETS_LD] = self.plan.targets, self.plan.targets_ld
        s[slots.LABELLED], s[slots.SCREEN] = batch.labels.size > 0, recipe.screen
        f[slots.L2], f[slots.DECOUPLED] = recipe.l2, recipe.decoupled
        f[slots.CLIP_VALUE], f[slots.CLIP_NORM] = recipe.clip_value, recipe.clip_norm
        f[slots.NOISE], f[slots.SHARED_L2] = recipe.noise, recipe.shared_l2
        f[slots.LEAST], f[slots.MOST] = recipe.least, recipe.most
        f[slots.TOTAL] = -1.0 if batch.total is None else batch.total
        s[slots.HEEDLESS] = recipe.heedless
        f[slots.HYPER : slots.HYPER + len(recipe.hyper)] = recipe.hyper
        self._bind()
        named = {
            **vars(self), **vars(batch), "reals": self.plan.reals, "rates": recipe.rates,
            "parameters": parameters, "gradient": gradient, "state": state, "running": running,
            "scratches": self.scratches(n_threads),
        }  # fmt: skip
        args = tuple(named[name] for name in loop.ARGUMENTS)
        return self._together(_run_steps, n_threads, args)

    def outputs(self, rows: int) -> Array:
        """What the last run's forward pass left for its first `rows` rows, (rows, outputs)."""
        last, n = self.plan.ints[-1], self.layers[-1].units
        start, ld = last[O], last[LD]
        return self.arena[start : start + rows * ld].reshape(rows, ld)[:, :n].copy()

    def infer(
        self,
        X: Array,
        out: Array,
        parameters: Array,
        running: Array,
        *,
        logits: bool,
        n_threads: int,
        columns: Array = NO_COLUMNS,
        starts: Array = NO_STARTS,
    ) -> int:
        """Outputs of all rows of X into `out`; the number of rows that held NaN or inf.

        logits: what goes into the last activation, where the loss is computed from it.
        columns, starts: as for `Batch`.
        """
        table, scratches = self._table, self.scratches(n_threads)
        known = self._known  # also what keeps the arrays behind the table's addresses alive
        if not (known[0] is parameters and known[1] is running and known[2] is scratches):
            self._bind()
            arrays = [
                self.plan.ints, self.plan.reals, parameters, running, self.arena, self.masks,
                scratches, self.sync, self.prefetched, self._unfit,
            ]  # fmt: skip
            table = self._table = address_table(arrays, inference.NUMBERS)
            table[inference.BLOCK] = self.plan.rows
            self._known = parameters, running, scratches
        table[inference.LOGITS] = logits and self.from_logits
        if n_threads == 1:
            return _infer(0, 1, X, out, columns, starts, table)
        self._unfit[:] = 0  # fewer threads may come than are asked for
        self._together(_infer, n_threads, (X, out, columns, starts, table))
        return int(self._unfit.sum())

    def _bind(self) -> None:
        """Make the compiled bodies ready."""
        bind(self.dtype, budget.available_cores)
        if self.bf16:
            bind_bf16()
            bind_bodies_of_bf16()

    def _together(self, function: Any, n_threads: int, args: tuple[Any, ...]) -> int:
        """Run a compiled loop on this many threads."""
        if n_threads > 1 and function not in self._compiled:
            # Nothing to do: it compiles (or loads) here, where an interrupt leaves nobody waiting.
            function(0, 1, *(a[:0] if i == _WORK[function] else a for i, a in enumerate(args)))
            self._compiled.add(function)
        return int(threads.run(function, n_threads, args))
