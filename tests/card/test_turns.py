"""A card's numbers and the host's, in turns: views, threads and interrupts within a fit."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp
from fastbp import Adam, Dense, Network, Trainer
from fastbp.kernels.cuda import memory

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4)).astype(np.float32)
Y = np.arange(24) % 3


def trainer(device="cuda", **given):
    net = Network(4, [Dense(6, "relu"), Dense(3, "softmax")], device=device, seed=1)
    return Trainer(net, **{"optimizer": Adam(0.01), "batch_size": 8, "progress": False, **given})


def on_card(array):
    """An array on the card, that says so: the simulator's own do not."""
    there = memory.upload(array, "X").reshape(array.shape)
    if isinstance(there, np.ndarray):
        pytest.skip("the PTX interpreter's memory is the host's")
    if not hasattr(there, "__cuda_array_interface__"):
        kind = type(there)
        there.__class__ = type(
            "OnCard", (kind,), {"__cuda_array_interface__": property(lambda self: {})}
        )
    return there


def test_a_buffer_that_is_used_again_within_a_fit_is_read_again():
    run, buffer, pairs = trainer(), np.zeros((5, 4), np.float32), []

    def look(state):
        buffer[...] = state.epoch
        pairs.append((run.network.forward(buffer), run.network.forward(buffer.copy())))

    run.fit(X, Y, epochs=3, callbacks=[look], validation=0.25)
    assert all(np.array_equal(*pair) for pair in pairs)


def test_data_are_copied_once_a_fit_and_numbers_only_where_somebody_looks(monkeypatch):
    sent, filled = [], []
    upload, fill = memory.upload, memory.fill

    def counted(array, what):
        sent.append(what)
        return upload(array, what)

    run, size = trainer(batch_size=12), 51
    run.fit(X, Y)
    monkeypatch.setattr(memory, "upload", counted)
    monkeypatch.setattr(memory, "fill", lambda to, of: (filled.append(of.size), fill(to, of)))
    run.fit(X, Y, epochs=3, validation=(X[:5], Y[:5]))
    assert sent.count("X") == 2
    assert filled.count(size) <= 2  # as the fit begins
    filled.clear()
    run.network.forward(X)
    run.network.forward(X)
    assert filled.count(size) <= 1


def test_reading_a_network_while_it_is_trained_changes_nothing():
    alone, watched = trainer(), trainer()
    alone.fit(X, Y, epochs=6)
    done, seen = threading.Event(), []

    def look():
        while not done.wait(0.05):
            seen.append(watched.network.parameters[0])

    reader = threading.Thread(target=look)
    reader.start()
    watched.fit(X, Y, epochs=6)
    done.set()
    reader.join()
    assert seen
    assert np.array_equal(watched.network.parameters, alone.network.parameters)
    assert np.array_equal(watched.state, alone.state)


def test_gradients_of_two_threads_are_their_own():
    net, halves = trainer().network, (slice(0, 12), slice(12, 24))
    wanted = [net.gradients(X[half], Y[half]) for half in halves]
    wrong = []

    def ask(index):
        for _ in range(8):
            found = net.gradients(X[halves[index]], Y[halves[index]])
            wrong.append(not np.array_equal(found, wanted[index]))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == [False] * 16


def streamed(device):
    """What a held view shows between the items of a stream; it sets W to 0, and the rows."""
    run = trainer(device)
    W, rows, seen = run.network.layers[0].W, run.state, []

    def items():
        for i in range(4):
            seen.append(float(W[0, 0]))
            if i == 2:
                W[...] = 0
                rows[...] = 0
            yield X[6 * i : 6 * i + 6], Y[6 * i : 6 * i + 6]

    run.fit_stream(items(), steps_per_epoch=10)
    return [*seen, float(run.network.layers[0].W[0, 0]), *run.history.loss]


def streamed_rows(device):
    """The optimizer's rows alone, held since before the first launch; they are set to 0."""
    run = trainer("cpu")
    rows, seen = run.state, []
    run.network.to(device)

    def items():
        for i in range(4):
            seen.append(float(abs(rows).sum()))
            if i == 2:
                rows[...] = 0
            yield X[6 * i : 6 * i + 6], Y[6 * i : 6 * i + 6]

    run.fit_stream(items(), steps_per_epoch=10)
    return [*seen, *run.history.loss]


def let_go(device):
    """Views that are written through, and gone before the next call."""
    net, losses = trainer(device).network, []
    for _ in range(2):
        b = net.layers[0].b
        losses.append(net.loss(X, Y))
        b += 0.5
        del b
        losses.append(net.loss(X, Y))
    return losses


def measured(device):
    """What a held view shows to a metric."""
    seen = []

    def metric(y, outputs):
        seen.append(float(W[0, 0]))
        return 0.0

    run = trainer(device, metrics={"seen": metric})
    W = run.network.layers[0].W
    run.fit(X, Y, epochs=3)
    return seen


@pytest.mark.parametrize("case", [streamed, streamed_rows, let_go, measured])
def test_views_are_live_within_a_fit(case):
    np.testing.assert_allclose(case("cuda"), case("cpu"), rtol=1e-4, atol=1e-6)


def test_an_interrupt_while_results_are_read_loses_none(monkeypatch):
    whole, cut = trainer(batch_size=24), trainer(batch_size=24)
    read, armed = memory.read, [True]

    def interrupted(there, host):
        read(there, host)
        if armed and host.dtype == np.float64 and host.ndim == 1:
            armed.clear()
            raise KeyboardInterrupt

    whole.fit(X, Y)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cut.fit(X, Y)
    assert not armed
    assert cut.history.gradient_norm == whole.history.gradient_norm
    assert np.array_equal(cut.network.parameters, whole.network.parameters)


def test_many_of_both_devices_are_checked_each_by_its_own():
    one, other = trainer("cuda"), trainer("cpu")
    with pytest.raises((ValueError, TypeError), match=r"networks\[1\].*CUDA device"):
        fastbp.fit_many([one, other], on_card(X), Y, progress=False)


@pytest.mark.parametrize(
    "bad",
    [
        np.array([[1.0, np.inf, 1.0, 1.0]]), np.array([[1.0, 1e300, 1.0, 1.0]]),
        np.zeros((2, 3)), np.zeros(4), np.zeros((1, 1, 4)), np.zeros((2, 4), np.complex64),
    ],
)  # fmt: skip
def test_what_is_wrong_on_a_card_is_said_in_the_hosts_words(bad):
    errors = []
    for net, given in ((trainer("cpu").network, bad), (trainer().network, on_card(bad))):
        with pytest.raises((ValueError, TypeError)) as error:
            net.forward(given)
        errors.append((type(error.value), str(error.value)))
    assert errors[0] == errors[1]


def test_ranks_do_not_train_on_a_card(monkeypatch):
    run = trainer()
    monkeypatch.setattr(Trainer, "_world", property(lambda self: SimpleNamespace(size=2)))
    run.distributed = "mpi"
    with pytest.raises(ValueError, match=r"distributed='mpi' trains on processors"):
        run._check_settings()
