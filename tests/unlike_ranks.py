"""What ranks that were not given the same meet: a case each, on two ranks, one after the other.

mpiexec -n 2 python tests/unlike_ranks.py DIRECTORY    rank r writes r.json: what each case gave
mpiexec -n 2 python tests/unlike_ranks.py CASE         one of those that end all ranks
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastbp
from fastbp import Dense, Network, Trainer

RANK, LAST = 0, False
if __name__ == "__main__":
    from mpi4py import MPI

    RANK = MPI.COMM_WORLD.Get_rank()
    LAST = MPI.COMM_WORLD.Get_size() - 1 == RANK
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(200, 6)).astype("f4"), RNG.integers(0, 3, 200)
W = np.repeat(np.float32([2.0, 1.0]), [16, 24])
ITEMS = [(X[:16], Y[:16])] * 5


def net(seed: int = 1, **fields: Any) -> Network:
    return Network(6, [Dense(16, "relu", **fields), Dense(3, "softmax")], seed=seed)


def trainer(network: Network | None = None, **options: Any) -> Trainer:
    options = {"optimizer": fastbp.SGD(0.1), "progress": False, "distributed": "mpi", **options}
    return Trainer(network or net(), **options)


def norms(distributed: str | None = "mpi") -> list[float]:
    """A step of 40 rows of which the first 16 weigh twice as much."""
    whole = [(X[:40], Y[:40], W)]
    mine = [(X[16:40], Y[16:40]) if LAST else (X[:16], Y[:16], W[:16])]
    found = trainer(distributed=distributed).fit_stream(mine if distributed else whole)
    return [float(norm) for norm in found.gradient_norm[0]]


def with_callback(callback: Callable[[Any], Any], epochs: int = 4) -> Any:
    return trainer(callbacks=[callback]).fit(X, Y, epochs)


def leaves_nan(state: Any) -> None:
    if LAST and state.epoch == 1:
        state.network.parameters[0] = np.nan


def changes_decay(state: Any) -> None:
    if state.trainer.leads:
        state.trainer.weight_decay = 0.1


def changes_statistics(state: Any) -> None:
    if LAST:
        state.network.layers[0].running_mean = 5.0


def changes_weights(state: Any) -> None:
    if state.trainer.leads:
        state.network.parameters *= 0.5


def interrupts_at_the_end(state: Any) -> None:
    if LAST and state.epoch == 2:
        os.kill(os.getpid(), signal.SIGINT)


def bad_validation() -> Any:
    Xv = X[:20].copy()
    Xv[3, 3] = np.nan if LAST else 0
    return trainer().fit_stream(ITEMS, validation=(Xv, Y[:20]))


def bad_row(place: Path) -> Any:
    A = X.copy()
    A[150, 2] = np.nan if LAST else 0
    np.save(place / f"x{RANK}.npy", A)
    mapped = np.load(place / f"x{RANK}.npy", mmap_mode="r")
    parts = (slice(at, at + 20) for at in range(0, 200, 20))
    return trainer().fit_stream([(mapped[part], Y[part]) for part in parts])


def resumed(place: Path) -> int:
    """Warnings of a trainer with another setting."""
    path = place / "other.safetensors"
    trainer(checkpoint=path).fit(X, Y)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trainer(weight_decay=0.1).resume(path)
    return len(found)


def many() -> Any:
    return fastbp.fit_many([trainer(net(seed)) for seed in range(2)], X, Y, progress=False)


def stopping(**fields: Any) -> Any:
    rule = fastbp.EarlyStopping("loss", patience=2, **fields)
    return trainer(early_stopping=rule).fit(X, Y, 3)


def sums_at_every_step(place: Path) -> list[bool]:
    """Whether a fit resumed from each of its checkpoints has the history of the uninterrupted."""
    from fastbp import checkpoint

    path, write, kept = place / "sums.safetensors", checkpoint.write, []

    def copying(of: Trainer, to: Any) -> None:
        write(of, to)
        kept.append(path.read_bytes())

    def made() -> Trainer:
        network = Network(6, [Dense(16, "relu"), Dense(3, "softmax")], dtype="float64")
        return trainer(network, batch_size=16, checkpoint=path, every="5 steps")

    checkpoint.write = copying
    whole = made().fit(X, Y, 4).loss
    checkpoint.write = write
    same = []
    for number in range(MPI.COMM_WORLD.bcast(len(kept)) - 1):
        if kept:
            path.write_bytes(kept[number])
        MPI.COMM_WORLD.Barrier()
        again = made()
        again.resume()
        same.append(again.fit(X, Y, 4).loss == whole)
    return same


def cases(place: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names, and what is tried: all ranks come to its end."""
    yield "weights of one rank", norms
    yield "other seeds", lambda: trainer(net(seed=1 + RANK)).fit_stream(ITEMS)
    yield "other rates", lambda: trainer(optimizer=fastbp.SGD(0.1 + RANK)).fit_stream(ITEMS)
    yield "other steps", lambda: trainer().fit_stream(ITEMS * 9, steps_per_epoch=5 + RANK)
    held = None if LAST else (X[:20], Y[:20])
    yield "validation of one rank", lambda: trainer().fit_stream(ITEMS, validation=held)
    yield "bad validation", bad_validation
    yield "no epochs", lambda: trainer().fit(X, Y, 0 if LAST else 3)
    yield "no callback", lambda: trainer().fit(X, Y, callbacks=[3] if LAST else [])
    measured = ("accuracy",) if LAST else ()
    yield "metrics of a stream", lambda: trainer(metrics=measured).fit_stream(ITEMS)
    yield "other metrics", lambda: trainer(metrics=measured).fit(X, Y)
    yield "other rules", lambda: stopping(min_delta=9.0, restore_best=LAST)
    warned = "warn" if LAST else "raise"
    yield "other ends", lambda: trainer(on_divergence=warned).fit(X, Y)
    yield "nan of one rank", lambda: with_callback(leaves_nan)
    yield "decay of one rank", lambda: with_callback(changes_decay)
    yield "parameters of one rank", lambda: with_callback(changes_weights)
    normed = trainer(net(batch_norm=True), callbacks=[changes_statistics])
    yield "statistics of one rank", lambda: normed.fit(X, Y, 4)
    yield "late interrupt", lambda: with_callback(interrupts_at_the_end, 3)
    yield "many", many
    yield "no items", lambda: trainer().fit_stream([])
    yield "no stream", lambda: trainer().fit_stream(3 if LAST else ITEMS)
    yield "bad row", lambda: bad_row(place)
    single = [(X[:1], Y[:1])] * 5
    yield "single rows", lambda: len(trainer(net(batch_norm=True)).fit_stream(single))
    yield "warnings", lambda: resumed(place)
    yield "sums", lambda: all(sums_at_every_step(place))
    yield "rates", lambda: rates_of_the_first_rank()


def rates_of_the_first_rank() -> list[int]:
    """A checksum of the weights that a callable rate leads to, which is another on each rank."""
    rates = np.random.default_rng(RANK)
    found = []
    for train in (lambda t: t.fit(X, Y, 2), lambda t: t.fit_stream(ITEMS)):
        mine = trainer(optimizer=fastbp.SGD(lambda step: 0.1 * rates.random()))
        train(mine)
        found.append(zlib.crc32(mine.network.parameters.tobytes()))
    return found


class Broken(fastbp.Schedule):
    """Fails on the last rank alone, between two agreements."""

    def __repr__(self) -> str:
        return "Broken()"

    def at(self, steps: Any, total: Any, state: Any) -> Any:
        if LAST and steps[0] > 0:
            raise MemoryError("a schedule's own")
        return np.full(len(steps), 0.01)


def second_try() -> None:
    """A failure while another that all had is being handled."""
    try:
        trainer(optimizer=fastbp.SGD(1e30)).fit(X, Y, 2)
    except fastbp.DivergenceError:
        trainer(optimizer=fastbp.SGD(Broken())).fit(X, Y, 40)


def killed_between() -> None:
    """A rank that dies between two fits."""
    mine = trainer()
    mine.fit(X, Y, 2)
    if LAST:
        os.kill(os.getpid(), signal.SIGKILL)
    mine.fit(X, Y, 2)


ENDS = {"second try": second_try, "killed between": killed_between}

if __name__ == "__main__":
    if sys.argv[1] in ENDS:
        ENDS[sys.argv[1]]()
        sys.exit()
    folder, told = Path(sys.argv[1]), {}
    for name, tried in cases(folder):
        try:
            found = tried()
            told[name] = found if isinstance(found, int | list) else "nothing"
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - it is told
            told[name] = f"{type(error).__name__}: {error}"
    (folder / f"{RANK}.json").write_text(json.dumps(told))
