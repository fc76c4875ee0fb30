"""A process that holds one peer at one number of threads and answers its parent's requests.

Requests and replies are lines of JSON on standard input and output:

    {"do": "open", "shape": "784-128-10:128", "steps": 76}   -> {}   built, compiled, warmed up
    {"do": "losses", "steps": 20}               -> {"loss": ...}
    {"do": "time"}                              -> {"us": ...}   microseconds a step, one repeat
    {"do": "roof"}                              -> {"gflops": ...}

Whatever goes wrong is a reply, too: {"error": "..."}. End of input ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .peers import PEERS, Peer, make
from .shapes import EPOCHS, make_task, parse

ROOF_SIZE = 2048


class Worker:
    """The requests, a method each."""

    def __init__(self, peer: str, threads: int, device: str = "cpu") -> None:
        self._name, self._threads, self._device = peer, threads, device
        self._peer: Peer | None = None
        self._steps = 0

    def open(self, shape: str, steps: int) -> dict[str, Any]:
        """Prepare a shape's task, of so many steps an epoch, instead of the one before."""
        self._peer = None
        task = make_task(parse(shape, steps))
        self._steps = task.shape.steps
        self._peer = make(self._name, task, self._threads, self._device)
        return {}

    def losses(self, steps: int) -> dict[str, Any]:
        """The mean loss of the first steps from the start weights."""
        assert self._peer is not None
        return {"loss": self._peer.losses(steps)}

    def time(self) -> dict[str, Any]:
        """One repeat by the clock."""
        assert self._peer is not None
        start = time.perf_counter()
        self._peer.train(EPOCHS)
        return {"us": (time.perf_counter() - start) / (EPOCHS * self._steps) * 1e6}

    def roof(self) -> dict[str, Any]:
        """What the device multiplies at best: a float32 product of two large squares."""
        multiply = _numpy_product() if self._device == "cpu" else _card_product()
        multiply()
        start = time.perf_counter()
        multiply()
        return {"gflops": 2 * ROOF_SIZE**3 / (time.perf_counter() - start) / 1e9}


def _numpy_product() -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    A, B = (rng.random((ROOF_SIZE, ROOF_SIZE), dtype=np.float32) for _ in range(2))
    out = np.empty_like(A)
    return lambda: np.matmul(A, B, out=out)


def _card_product() -> Callable[[], Any]:
    """cuBLAS by way of PyTorch, whose float32 products leave tensor cores alone by default."""
    import torch

    A, B = (torch.rand((ROOF_SIZE, ROOF_SIZE), device="cuda") for _ in range(2))

    def multiply() -> None:
        torch.mm(A, B)
        torch.cuda.synchronize()

    return multiply


def main(peer: str, threads: int, device: str) -> None:
    """Answer requests until there are no more."""
    # Libraries print on standard output: theirs goes to standard error, ours to the parent.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if device == "cpu" and PEERS[peer].by_affinity and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    worker = Worker(peer, threads, device)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # noqa: BLE001 - the parent leaves this peer out and says why
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
