"""Kill a training with SIGKILL at random moments, resume it each time, and compare the end.

    python tests/kill.py --kills 200

Each child resumes from the checkpoint and trains on, writing checkpoints most of its time; it is
killed 0 to `--most` milliseconds after its first step, by a clock that does not look at what it
does. After each kill the checkpoint must be whole, and that of a moment no earlier than before. In
the end the weights must be those of a run that was never cut short.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fastbp

EPOCHS = 10_000_000
ROWS, INPUTS = 400, 20


def trainer(path: Path | None, every: str) -> fastbp.Trainer:
    layers = [fastbp.Dense(64, "relu", batch_norm=True, dropout=0.2), fastbp.Dense(3, "softmax")]
    net = fastbp.Network(INPUTS, layers, seed=5)
    rate = fastbp.Exponential(1e-3, 0.9, every=10_000)
    options = {"batch_size": 32, "early_stopping": fastbp.EarlyStopping(patience=EPOCHS)}
    return fastbp.Trainer(
        net, fastbp.Adam(rate), checkpoint=path, every=every, progress=False, **options
    )


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(ROWS, INPUTS)).astype(np.float32), rng.integers(0, 3, ROWS)


def child(path: Path) -> None:
    """Resume if there is a checkpoint, say so at the first epoch's end, train until killed."""
    mine = trainer(path, "7 steps")
    if path.exists():
        mine.resume()
    told = []

    def tell(state: fastbp.State) -> None:
        if not told:
            told.append(print("begun", flush=True))

    mine.fit(*data(), epochs=EPOCHS, validation=0.2, callbacks=[tell])


def kill_once(path: Path, wait: float) -> None:
    command = [sys.executable, __file__, "--child", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "begun\n":
            raise SystemExit("a child ended by itself: its checkpoint could not be resumed")
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def equal_end(path: Path) -> bool:
    """Finish the epoch under way and the next; then a run that was never cut short, so far."""
    resumed = trainer(None, "1 epoch")
    resumed.resume(path)
    target = resumed.epoch + 2

    def enough(state: fastbp.State) -> bool:
        return state.trainer.epoch >= target

    resumed.fit(*data(), epochs=EPOCHS, validation=0.2, callbacks=[enough])
    whole = trainer(None, "1 epoch")
    whole.fit(*data(), epochs=EPOCHS, validation=0.2, callbacks=[enough])
    same = np.array_equal(resumed.state, whole.state) and resumed.step == whole.step
    same = same and resumed.network.parameters.tobytes() == whole.network.parameters.tobytes()
    for name in {*whole.history} - {"seconds"}:
        pair = resumed.history[name], whole.history[name]
        same = same and np.array_equal(*pair, equal_nan=True)
    print(f"compared after {whole.epoch} epochs, {whole.step} steps: equal: {same}")
    return bool(same)


def main() -> int:
    """Run as described above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--most", type=float, default=60.0, help="milliseconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", type=Path)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child)
        return 0
    rng = random.Random(asked.seed)
    path = (asked.folder or Path(tempfile.mkdtemp())) / "run.safetensors"
    last, during = 0, 0
    for _ in range(asked.kills):
        kill_once(path, rng.uniform(0.0, asked.most) / 1000.0)
        during += sum(name.name.endswith(".tmp") for name in path.parent.iterdir())
        found = trainer(None, "1 epoch")
        found.resume(path)  # whole, or this raises
        assert found.step >= last, (found.step, last)
        last = found.step
    rests = len(list(path.parent.iterdir()))
    print(f"{asked.kills} kills, {during} of them while writing; {last} steps; {rests} files left")
    return 0 if equal_end(path) and rests <= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
