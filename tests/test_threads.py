"""The pool of threads: results, errors, interrupts, forks, exits."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import threads
from fastbp.kernels.cpu.jit import JIT_DISABLED


def shares(t: int, team: int, seen: list[Any], meet: Any = None) -> int:
    if meet is not None:
        meet.wait()
    seen.append((t, team, threading.current_thread().name))
    return 10 * t + 7


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_share_runs_once_and_the_first_answers(count: int) -> None:
    seen: list[Any] = []
    meet = threading.Barrier(count)  # all are there at once, or nobody comes through
    assert threads.run(shares, count, (seen, meet)) == 7
    assert sorted(t for t, _, _ in seen) == list(range(count))
    assert {team for _, team, _ in seen} == {count}
    names = {t: name for t, _, name in seen}
    assert names[0] == threading.current_thread().name
    assert all(names[t] == "fastbp-worker" for t in range(1, count))


def test_workers_are_used_again() -> None:
    def crew() -> set[int]:
        return {t.ident for t in threading.enumerate() if t.name == "fastbp-worker"}

    threads.run(shares, 4, ([],))
    before = crew()
    for _ in range(50):
        threads.run(shares, 4, ([],))
        threads.run(shares, 2, ([],))
    assert crew() == before
    assert all(t.daemon for t in threading.enumerate() if t.name == "fastbp-worker")


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_error_of_any_share_is_raised_when_all_have_returned(failing: int) -> None:
    done: list[int] = []

    def work(t: int, team: int) -> None:
        if t == failing:
            raise LookupError(f"share {t}")
        time.sleep(0.02)
        done.append(t)

    with pytest.raises(LookupError, match=f"share {failing}"):
        threads.run(work, 4, ())
    assert sorted(done) == sorted({0, 1, 2, 3} - {failing})
    assert threads.run(shares, 4, ([],)) == 7  # the pool is whole


def test_two_callers_have_crews_of_their_own() -> None:
    meet = threading.Barrier(4)
    results: list[Any] = [None, None]

    def call(i: int) -> None:
        results[i] = threads.run(shares, 2, ([], meet))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    assert results == [7, 7]


def test_a_call_within_a_call() -> None:
    def outer(t: int, team: int) -> Any:
        return threads.run(shares, 2, ([],))

    assert threads.run(outer, 2, ()) == 7


def test_an_interrupt_of_the_wait_is_raised_when_all_have_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C while the caller waits: simulated, for a signal may come to any test."""
    finished = threading.Event()

    class Interrupted(queue.SimpleQueue):  # type: ignore[type-arg]
        struck = False

        def get(self, *args: Any, **keywords: Any) -> Any:
            if threading.current_thread() is threading.main_thread() and not self.struck:
                self.struck = True
                raise KeyboardInterrupt
            return super().get(*args, **keywords)

    def work(t: int, team: int) -> None:
        if t == 1:
            time.sleep(0.05)
            finished.set()

    threads.run(work, 2, ())  # the worker has a queue of its own already
    finished.clear()
    monkeypatch.setattr(threads.queue, "SimpleQueue", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        threads.run(work, 2, ())
    assert finished.is_set()
    monkeypatch.undo()
    assert threads.run(shares, 2, ([],)) == 7


def test_an_interrupt_of_the_first_share_waits_for_the_others() -> None:
    finished = threading.Event()

    def work(t: int, team: int) -> None:
        if t == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)
        finished.set()

    with pytest.raises(KeyboardInterrupt):
        threads.run(work, 2, ())
    assert finished.is_set()


def test_an_interrupt_between_the_shares_comes_when_all_have_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal when some workers have their task and others not: the first share still runs, or
    those that have begun would wait for it at their meeting for ever.
    """
    trip = ctypes.PyDLL(None).PyErr_SetInterrupt  # what Ctrl-C does
    trip.argtypes, trip.restype = [ctypes.py_object], None
    worker = threads._Worker()
    striker = SimpleNamespace(tasks=SimpleNamespace(put=trip), core=-1, native_id=None)
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done.put(None)  # the striker's
    seen: dict[int, int] = {}
    monkeypatch.setattr(threads, "_take", lambda count: [striker, worker])
    monkeypatch.setattr(threads, "_idle", [])
    monkeypatch.setattr(threads.queue, "SimpleQueue", lambda: done)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.run(seen.setdefault, 3, ())  # compiled code, too, looks at no signal
    finally:
        signal.signal(signal.SIGINT, handler)
    assert seen == {0: 3, 2: 3}
    assert done.empty()


def test_no_more_threads_to_be_had_means_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_idle", [])
    monkeypatch.setattr(threads, "_Worker", refuse)
    seen: list[Any] = []
    assert threads.run(shares, 4, (seen,)) == 7
    assert [(t, team) for t, team, _ in seen] == [(0, 1)]


# --- processes ----------------------------------------------------------------------------------

TRAIN = """
import numpy as np, os, sys, threading
import fastbp

def weights(n_threads):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 5)), rng.integers(0, 3, 64)
    net = fastbp.Network(5, [fastbp.Dense(16, "tanh"), fastbp.Dense(3, "softmax")], seed=1)
    fastbp.Trainer(net, batch_size=16, n_threads=n_threads, progress=False).fit(X, y, epochs=2)
    return net.parameters.tobytes()
"""


@pytest.mark.skipif(not hasattr(os, "fork") or JIT_DISABLED, reason="needs fork and threads")
def test_a_forked_child_trains_after_its_parent_used_threads(python: Any) -> None:
    done = python(
        "-c",
        TRAIN
        + """
want = weights(2)
child = os.fork()
if child == 0:
    same = weights(2) == want and weights(1) == want
    crew = sum(t.name == "fastbp-worker" for t in threading.enumerate())
    os._exit(0 if same and crew == 1 else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert weights(2) == want
print("ok")
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ok"


@pytest.mark.skipif(JIT_DISABLED, reason="needs threads")
def test_idle_and_busy_workers_do_not_hold_up_the_exit(python: Any) -> None:
    """A worker that would sleep for an hour, and one that waits for work."""
    done = python(
        "-c",
        TRAIN
        + """
import time
from fastbp import threads
weights(3)
threads._take(1)[0].tasks.put((lambda: time.sleep(3600), (), None))
print("end", flush=True)
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "end"
    assert "Error" not in done.stderr


INTERRUPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
weights(2)
rng = np.random.default_rng(0)
X, y = rng.normal(size=(4096, 32)).astype("f4"), rng.integers(0, 3, 4096)
net = fastbp.Network(32, [fastbp.Dense(64, "tanh"), fastbp.Dense(3, "softmax")], seed=1)
trainer = fastbp.Trainer(net, batch_size=64, n_threads=2, progress=False)
print("ready", flush=True)
try:
    trainer.fit(X, y, epochs=10**9)
except KeyboardInterrupt:
    before = net.parameters.copy()
    steps = trainer.step
    trainer.fit(X, y, epochs=1)  # goes on
    assert (net.parameters != before).any() and trainer.step > steps
    print("interrupted", bool(np.isfinite(before).all()), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32" or JIT_DISABLED, reason="sends a signal")
def test_ctrl_c_stops_a_fit_and_training_can_go_on() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN + INTERRUPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert out == "interrupted True\n", err
    assert process.returncode == 0


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_the_loop_is_compiled_before_threads_wait_for_one_another(python: Any) -> None:
    """An interrupt of the compiler would leave the others waiting for the first share."""
    done = python(
        "-c",
        TRAIN
        + """
from fastbp import threads
from fastbp.kernels.cpu import loop
run, seen = threads.run, []
def watched(function, count, args):
    seen.append((count, len(loop.run_steps.signatures)))
    return run(function, count, args)
threads.run = watched
weights(2)
assert seen[0] == (2, 1), seen
print("ok")
""",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(JIT_DISABLED, reason="slow without compiled code")
def test_two_threads_that_train_at_once_give_the_results_of_one() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 6)), rng.integers(0, 3, 300)

    def train(seed: int, n_threads: int) -> bytes:
        layers = [fastbp.Dense(20, "tanh", batch_norm=True), fastbp.Dense(3, "softmax")]
        net = fastbp.Network(6, layers, seed=seed)
        trainer = fastbp.Trainer(net, batch_size=32, n_threads=n_threads, progress=False)
        trainer.fit(X, y, epochs=3)
        return net.parameters.tobytes() + net.forward(X).tobytes()

    want = [train(seed, 1) for seed in range(4)]
    found: list[Any] = [None] * 4

    def call(seed: int) -> None:
        found[seed] = train(seed, 1 + seed % 2)

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(100)
    assert found == want


@pytest.mark.skipif(JIT_DISABLED, reason="slow without compiled code")
def test_one_network_read_by_two_threads() -> None:
    rng = np.random.default_rng(0)
    net = fastbp.Network(6, [fastbp.Dense(20, "tanh"), fastbp.Dense(3, "softmax")], seed=1)
    X = [rng.normal(size=(n, 6)).astype("f4") for n in (7, 100, 600, 1)]
    want = [net.forward(x).tobytes() for x in X]
    wrong: list[int] = []

    def call(i: int) -> None:
        wrong.extend(i for _ in range(50) if net.forward(X[i]).tobytes() != want[i])

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(100)
    assert not wrong
