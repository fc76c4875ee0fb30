"""MNIST on 1, 2 and 4 ranks: how far from one process, and the same bits twice on as many ranks.

    python tests/equal_ranks.py --ranks 1 2 4      500 steps of 784-128-10 on batches of 128

Not a part of the suite: it needs ../shared/data/mnist_train.npz, and four ranks on fewer cores wait
for each other by spinning. Alone, a rank must give the very bits of a Trainer without ranks.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastbp
from fastbp.bench.scaling import launcher

MNIST = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "mnist_train.npz"
ROWS, BATCH, EPOCHS = 32_000, 128, 2  # 500 steps
BOUNDS = {"float32": 1e-5, "float64": 1e-12}
"""Of max|a - b| / max|b|: sums over a batch in another order, 500 times over."""


def trained(dtype: str, distributed: str | None) -> fastbp.Trainer:
    """A trainer after its 500 steps."""
    with np.load(MNIST) as file:
        X, y = file["x"][:ROWS].reshape(ROWS, -1).astype(dtype) / 255, file["y"][:ROWS]
    layers = [fastbp.Dense(128, "relu"), fastbp.Dense(10, "softmax")]
    net = fastbp.Network(784, layers, dtype=dtype, seed=0)
    rule = fastbp.SGD(0.05, momentum=0.9)
    trainer = fastbp.Trainer(net, rule, BATCH, distributed=distributed, progress=False)
    trainer.fit(X, y, epochs=EPOCHS)
    return trainer


def child(place: Path) -> None:
    """One of the ranks: leaves its numbers in `place`."""
    from mpi4py import MPI

    found = {}
    for dtype in BOUNDS:
        trainer = trained(dtype, "mpi")
        found[dtype] = trainer.network.parameters
        found[f"{dtype} state"] = trainer.state
    np.savez(place / f"{MPI.COMM_WORLD.Get_rank()}.npz", **found)


def on_ranks(count: int) -> list[dict[str, np.ndarray]]:
    """What each rank of one run was left with."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            launcher() or "mpiexec",
            "-n",
            str(count),
            sys.executable,
            __file__,
            "--child",
            folder,
        ]
        subprocess.run(command, check=True, timeout=600)
        return [dict(np.load(Path(folder) / f"{rank}.npz")) for rank in range(count)]


def main() -> None:
    """A line for each number of ranks and dtype; status 1 where one of them is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    alone = {dtype: trained(dtype, None).network.parameters for dtype in BOUNDS}
    kept = True
    for count in options.ranks:
        first, *others = on_ranks(count) + on_ranks(count)
        for dtype, bound in BOUNDS.items():
            names = (dtype, f"{dtype} state")
            same = all((first[name] == other[name]).all() for other in others for name in names)
            far = abs(first[dtype] - alone[dtype]).max() / abs(alone[dtype]).max()
            kept &= same and far <= (bound if count > 1 else 0.0)
            bits = "the same bits" if same else "OTHER BITS"
            print(f"{count} ranks twice, {dtype}: {bits}; {far:.1e} from one process", flush=True)
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
