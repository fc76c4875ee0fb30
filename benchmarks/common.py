"""What the benchmarks share: the profile, the base class, nets and data.

`FASTBP_BENCH_PROFILE=full` adds the large shapes and measures for longer; `quick`, the default,
keeps the whole suite to a few minutes. Compiled code is warmed in `setup`, which is not timed;
what compiling costs is measured apart, in `start.py`.
"""

import os

import fastbp
from fastbp.bench.shapes import SHAPES, Shape, Task, make_task

PROFILE = os.environ.get("FASTBP_BENCH_PROFILE", "quick")
if PROFILE not in {"quick", "full"}:
    raise ValueError(f"FASTBP_BENCH_PROFILE={PROFILE!r}: use quick or full")
FULL = PROFILE == "full"

NAMES = list(SHAPES) if FULL else ["online", "notes", "tabular", "mnist"]
DTYPES = ["float32", "float64"] if FULL else ["float32"]


DEVICES = ["cpu", "cuda"]


def on(net: fastbp.Network, device: str) -> fastbp.Network:
    """The network, on that device; where there is no such device asv leaves the case out."""
    try:
        return net.to(device)
    except (RuntimeError, ImportError) as error:
        raise NotImplementedError(str(error)) from error


class Suite:
    """Base of every benchmark class: how long one is measured, and when it is given up."""

    timeout = 300.0
    sample_time = 0.05 if FULL else 0.02
    warmup_time = 0.1 if FULL else 0.02
    rounds = 2 if FULL else 1
    repeat = (3, 10, 5.0) if FULL else (2, 5, 1.0)


def network(shape: Shape, dtype: str = "float32", **fields: object) -> fastbp.Network:
    """A relu network of a shape, with softmax and cross entropy; `fields` of the hidden layers.

    Not `bench.shapes.network_of`: asv runs this with the package as it was at older commits.
    """
    *hidden, classes = shape.widths[1:]
    fields = {"activation": "relu", **fields}
    layers = [fastbp.Dense(units, **fields) for units in hidden]
    layers.append(fastbp.Dense(classes, "softmax"))
    return fastbp.Network(shape.widths[0], layers, loss="cross_entropy", dtype=dtype, seed=0)


def trainer(shape: Shape, net: fastbp.Network, optimizer: object = None, **options: object):
    """A trainer on the shape's batches: momentum SGD unless told otherwise."""
    optimizer = optimizer or fastbp.SGD(0.01, momentum=0.9)
    return fastbp.Trainer(
        net, optimizer=optimizer, batch_size=shape.batch, progress=False, **options
    )


__all__ = [
    "DEVICES", "DTYPES", "FULL", "NAMES", "SHAPES", "Suite", "Task", "make_task", "network", "on",
    "trainer",
]  # fmt: skip
