"""The face on device="cuda": data, views, copies, files, resuming, estimators, memory."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastbp
from fastbp import Adam, Dense, EarlyStopping, Network, Trainer
from fastbp.kernels.cuda import memory

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 24)


def network(device="cuda", **fields):
    layers = [Dense(6, "relu", **fields), Dense(3, "softmax")]
    return Network(4, layers, device=device, seed=1)


def trainer(net, **given):
    return Trainer(net, **{"optimizer": Adam(0.01), "batch_size": 8, "progress": False, **given})


def test_moves_and_comes_back():
    net = network("cpu")
    there = net.forward(X)
    assert net.to("cuda") is net
    assert net.device == "cuda"
    np.testing.assert_allclose(net.forward(X), there, rtol=1e-5, atol=1e-6)
    trainer(net).fit(X, Y)
    weights = net.parameters.copy()
    assert net.to("cpu").device == "cpu"
    assert np.array_equal(net.parameters, weights)


def test_views_are_live_in_both_directions():
    net = network()
    W, before = net.layers[0].W, net.forward(X)
    W[...] = 0.0  # through a view that was there before
    assert not np.array_equal(net.forward(X), before)
    net.layers[1].W = 0.0
    net.layers[1].b = 0.0
    np.testing.assert_allclose(net.forward(X), 1 / 3, rtol=1e-6)
    trainer(net).fit(X, Y)
    assert W is not None
    assert np.array_equal(W, net.layers[0].W)
    assert np.shares_memory(W, net.parameters)


def test_callbacks_see_and_may_change_the_numbers():
    net, seen = network(), []
    W = net.layers[0].W

    def look(state):
        seen.append(W.copy())
        W[...] = 7.0

    trainer(net).fit(X, Y, epochs=2, callbacks=[look])
    assert not np.array_equal(seen[0], seen[1])
    assert abs(seen[1] - 7.0).max() < 0.5  # one epoch of small steps away


def test_copies_pickles_and_files(tmp_path):
    net = network()
    run = trainer(net)
    run.fit(X, Y)
    wanted = net.forward(X)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.device == "cuda"
        assert np.array_equal(other.forward(X), wanted)
    twin = pickle.loads(pickle.dumps(run))
    run.fit(X, Y)
    twin.fit(X, Y)
    assert np.array_equal(twin.network.parameters, net.parameters)
    net.save(tmp_path / "net.safetensors")
    loaded = Network.load(tmp_path / "net.safetensors")
    assert loaded.device == "cpu"
    assert np.array_equal(loaded.parameters, net.parameters)


def test_a_resumed_fit_ends_with_the_same_bits(tmp_path):
    whole = trainer(network())
    whole.fit(X, Y, epochs=3)
    path = tmp_path / "run.safetensors"

    class Cut(Exception):
        pass

    def cut(state):
        if state.epoch == 1:
            raise Cut

    first = trainer(network(), checkpoint=path, every=1)
    with pytest.raises(Cut):
        first.fit(X, Y, epochs=3, callbacks=[cut])
    second = trainer(network(), checkpoint=path, every=1)
    assert second.resume() > 0
    second.fit(X, Y, epochs=3)
    assert np.array_equal(second.network.parameters, whole.network.parameters)
    assert np.array_equal(second.state, whole.state)


def test_rules_restarts_streams_and_rates():
    history = trainer(network(), early_stopping=EarlyStopping(patience=1), restarts=2).fit(
        X, Y, epochs=4, validation=0.25
    )
    assert len(history) <= 4
    batches = [(X[i : i + 6], Y[i : i + 6]) for i in range(0, 24, 6)]
    streamed = trainer(network()).fit_stream(batches, steps_per_epoch=2)
    assert len(streamed) == 2
    found = trainer(network()).find_rate(X, Y, low=1e-3, high=1e-1, steps=6)
    assert 1e-3 <= found.rate <= 1e-1


def test_evaluate_predict_and_trace():
    cpu, card = network("cpu"), network()
    given = {"metrics": ("accuracy",)}
    ours, theirs = card.evaluate(X, Y, **given), cpu.evaluate(X, Y, **given)
    assert ours["accuracy"] == theirs["accuracy"]
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert np.array_equal(card.predict(X), cpu.predict(X))
    one, other = card.trace(X, Y), cpu.trace(X, Y)
    np.testing.assert_allclose(one["dL/dW"][0], other["dL/dW"][0], rtol=1e-4, atol=1e-6)


def test_data_on_the_card_are_taken_as_they_lie():
    net = network()
    there = memory.upload(X, "X").reshape(X.shape)
    wanted = net.forward(X)
    assert np.array_equal(net.forward(there), wanted)
    one, other = trainer(network()), trainer(network())
    one.fit(there, Y, epochs=2, validation=0.25)
    other.fit(X, Y, epochs=2, validation=0.25)
    assert np.array_equal(one.network.parameters, other.network.parameters)
    doubles = memory.upload(X.astype(np.float64), "X").reshape(X.shape)
    assert np.array_equal(net.forward(doubles), wanted)


def test_bad_data_on_the_card_get_the_hosts_words():
    net = network()
    bad = X.copy()
    bad[3, 1] = np.nan
    for given in (bad, memory.upload(bad, "X").reshape(X.shape)):
        with pytest.raises(ValueError, match=r"X\[3, 1\]=nan is not finite"):
            net.forward(given)
        with pytest.raises(ValueError, match=r"X\[3, 1\]=nan is not finite"):
            trainer(net).fit(given, Y)
    with pytest.raises(ValueError, match=r"the network has 4 inputs"):
        net.forward(memory.upload(X, "X").reshape(32, 3))


def test_a_thread_of_another_card_is_refused_and_nothing_lost(monkeypatch):
    run = trainer(network())
    run.fit(X, Y)
    wanted = run.network.forward(X)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "current_device", lambda: 1)
        with pytest.raises(ValueError, match=r"the network lies on CUDA device 0, .* on device 1"):
            run.network.forward(X)
    assert np.array_equal(run.network.forward(X), wanted)


def test_out_of_memory_says_what_and_leaves_the_network_usable(monkeypatch):
    net = network()
    wanted = net.forward(X)

    def full(shape, dtype):
        raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY")

    with monkeypatch.context() as patch:
        patch.setattr(memory.cuda, "device_array", full)
        patch.setattr(memory, "free_memory", lambda: (3_000_000, 80_000_000_000))
        with pytest.raises(MemoryError, match=r"needs .* on the card, of which 3.0 MB of 80,000"):
            trainer(net).fit(X, Y)
    assert np.array_equal(net.forward(X), wanted)
    trainer(net).fit(X, Y)


def test_estimators():
    pytest.importorskip("sklearn")
    given = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0, "batch_size": 8}
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for solver in ("adam", "sgd", "lbfgs"):
            cpu, card = (
                fastbp.MLPClassifier(**given, solver=solver, device=device).fit(X, Y)
                for device in ("cpu", "cuda")
            )
            np.testing.assert_allclose(card.coefs_[0], cpu.coefs_[0], rtol=2e-3, atol=2e-4)
            assert np.array_equal(card.predict(X), cpu.predict(X))
        again = pickle.loads(pickle.dumps(card))
        assert np.array_equal(again.predict(X), card.predict(X))
        y = X @ np.arange(4.0)
        model = fastbp.MLPRegressor(**given, device="cuda").fit(X, y)
        other = fastbp.MLPRegressor(**given).fit(X, y)
        np.testing.assert_allclose(model.predict(X), other.predict(X), rtol=2e-3, atol=2e-4)


def test_sparse_rows():
    scipy = pytest.importorskip("scipy.sparse")
    pytest.importorskip("sklearn")
    import warnings

    sparse = scipy.random(24, 6, 0.4, format="csr", random_state=1, dtype=np.float32)
    given = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0, "batch_size": 8}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = fastbp.MLPClassifier(**given, device="cuda").fit(sparse, Y)
        other = fastbp.MLPClassifier(**given, device="cuda").fit(sparse.toarray(), Y)
    assert np.array_equal(one.coefs_[0], other.coefs_[0])
