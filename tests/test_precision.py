"""`Network(..., precision="bfloat16")`: what it computes, keeps, stores, and where it cannot be."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import SGD, Adam, Dense, Network, Trainer
from fastbp.commands.info import collect
from fastbp.kernels.cpu import bf16
from fastbp.kernels.cpu.jit import JIT_DISABLED

here = pytest.mark.skipif(not bf16.instructions(), reason=f"no bfloat16: {bf16.missing()}")
RNG = np.random.default_rng(0)
X, y = RNG.normal(size=(330, 50)).astype("f4"), RNG.integers(0, 5, 330)


def network(precision: str | None = "bfloat16", **fields: Any) -> Network:
    layers = [Dense(70, "relu", **fields), Dense(40, "tanh"), Dense(5, "softmax")]
    return Network(50, layers, seed=1, precision=precision)


def fitted(threads: int, optimizer: Any, batch: int = 100, net: Any = None, **options: Any) -> Any:
    net = net or network()
    trainer = Trainer(
        net, optimizer, batch_size=batch, n_threads=threads, progress=False, **options
    )
    history = trainer.fit(X, y, epochs=2)
    return net.parameters.tobytes() + np.array(history.loss).tobytes() + net.forward(X).tobytes()


@here
def test_forward_is_the_layers_products_one_by_one() -> None:
    net = network()
    A = X
    for layer in net.layers:
        A = fastbp.kernels.linear_forward(
            A, layer.W, layer.b, layer.activation, precision="bfloat16"
        )
    assert np.array_equal(net.forward(X), A)
    assert np.array_equal(net.forward(X[:1]), A[:1])
    assert np.array_equal(net.predict(X), A.argmax(axis=1))
    assert not np.array_equal(net.forward(X), network(None).forward(X))


@here
def test_gradients_are_those_of_the_trace_and_near_float32s() -> None:
    """Some roundings of 2^-9 move a gradient by about 2^-8 of its size; 2^-5 is far off."""
    net, plain = network(), network(None)
    gradient, trace = net.gradients(X, y), net.trace(X, y)
    at = 0
    for layer, dW, db in zip(net.layers, trace["dL/dW"], trace["dL/dW0"], strict=True):
        for part in (dW, db):
            assert np.allclose(gradient[at : at + part.size], part.ravel(), atol=1e-7, rtol=1e-5)
            at += part.size
        assert layer.W.dtype == np.float32
    wanted = plain.gradients(X, y)
    assert gradient.dtype == np.float32
    assert 0 < np.linalg.norm(gradient - wanted) < 2**-5 * np.linalg.norm(wanted)
    assert net.loss(X, y) == pytest.approx(plain.loss(X, y), rel=2**-7)
    assert net.evaluate(X, y)["loss"] == net.loss(X, y)
    assert fastbp.check_gradients(net, X[:5], y[:5], parameters=20).error < 1e-6


@here
@pytest.mark.parametrize("batch", [1, 7, 100, 330])
def test_same_bits_on_any_number_of_threads(batch: int) -> None:
    if batch == 1:
        assert len({fitted(t, SGD(0.01), 1) for t in (1, 2)}) == 1
        return
    for optimizer, options in [
        (SGD(0.05, momentum=0.9), {}),
        (Adam(1e-3), {"weight_decay": 1e-4, "clip_value": 0.01}),
        (SGD(0.05), {"clip_norm": 0.5}),
    ]:
        found = {fitted(t, optimizer, batch, **options) for t in (1, 2, 4, 8)}
        assert len(found) == 1


@here
def test_many_columns_and_samples_leave_the_same_bits() -> None:
    """Wider than a panel of kept columns, deeper than a stretch of the depth."""
    rng = np.random.default_rng(3)
    inputs, labels = rng.normal(size=(1300, 130)).astype("f4"), rng.integers(0, 3, 1300)
    found = set()
    for threads, clip in [(1, None), (2, None), (4, None), (2, 1e30)]:
        net = Network(130, [Dense(600, "relu"), Dense(3, "softmax")], precision="bfloat16")
        options = {"clip_norm": clip, "n_threads": threads, "progress": False}
        Trainer(net, SGD(0.1, momentum=0.9), 650, **options).fit(inputs, labels, epochs=2)
        found.add(net.parameters.tobytes())
    # A bound that is never met completes the gradient before it is applied: the same sums.
    assert len(found) == 1


@here
def test_dropout_and_batch_norm_train_too() -> None:
    for fields in ({"dropout": 0.2}, {"batch_norm": True}):
        found = {fitted(t, Adam(1e-3), net=network(**fields)) for t in (1, 2, 4)}
        assert len(found) == 1


@here
def test_precision_is_kept_by_copies_and_files(tmp_path: Path) -> None:
    net = network()
    path = tmp_path / "net.safetensors"
    net.save(path)
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net)),
                  Network.load(path)):  # fmt: skip
        assert other.precision == "bfloat16"
        assert np.array_equal(other.forward(X), net.forward(X))
    plain = Network.load(path, precision=None)
    assert plain.precision is None
    assert np.array_equal(plain.forward(X), network(None).forward(X))
    assert "float32, products of bfloat16" in str(net.summary())
    plain.precision = "bfloat16"
    assert np.array_equal(plain.forward(X), net.forward(X))
    with pytest.raises(ValueError, match="precision='double' must be None"):
        plain.precision = "double"
    assert plain.precision == "bfloat16"


@here
def test_a_training_goes_on_from_a_checkpoint_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    whole = Trainer(network(), Adam(1e-3), 64, progress=False)
    whole.fit(X, y, epochs=4)
    Trainer(network(), Adam(1e-3), 64, progress=False, checkpoint=path).fit(X, y, epochs=2)
    again = Trainer(network(), Adam(1e-3), 64, progress=False, checkpoint=path)
    again.resume()
    again.fit(X, y, epochs=2)
    assert np.array_equal(again.network.parameters, whole.network.parameters)
    other = Trainer(network(None), Adam(1e-3), 64, progress=False)
    with pytest.raises(ValueError, match="its network has precision='bfloat16', and this one None"):
        other.resume(path)


@here
def test_without_an_instruction_there_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, path = network(), tmp_path / "net.safetensors"
    net.save(path)
    monkeypatch.setattr(bf16, "instructions", lambda: ())
    monkeypatch.setattr(bf16, "missing", lambda: "this processor has no AVX512_BF16")
    for make in (network, lambda: Network.load(path)):
        with pytest.raises(RuntimeError, match="no AVX512_BF16") as caught:
            make()
        assert "Network.load(path, precision=None)" in str(caught.value)
    assert Network.load(path, precision=None).precision is None
    assert collect()["bfloat16"] == "no products: this processor has no AVX512_BF16"


@here
def test_info_names_the_instruction() -> None:
    assert collect()["bfloat16"].startswith(f"products by {bf16.instructions()[0]}")


def run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_the_compiler_may_not_use_is_not_used() -> None:
    script = "from fastbp.kernels.cpu import bf16; print(bf16.instructions(), bf16.missing())"
    found = run(script, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+avx2,+fma")
    assert found.startswith("()")
    assert run(script, NUMBA_DISABLE_JIT="1") == "() NUMBA_DISABLE_JIT is set"


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_float32_compiles_nothing_of_it() -> None:
    script = """
import fastbp
from fastbp.kernels.cpu import bf16_product, table
fastbp.warmup()
assert bf16_product._compiled.cache_info().currsize == 0
assert all(table._TABLE[entry.slot] == 0 for entry in table._bodies if entry.bf16)
assert sum(entry.bf16 for entry in table._bodies) == 1
"""
    run(script)


@here
def test_another_architecture_compiles_nothing() -> None:
    from fastbp.kernels.cpu import table
    from fastbp.kernels.cpu.bf16_product import _compiled

    fitted(1, SGD(0.1))
    before = _compiled.cache_info().misses, [len(e.dispatcher.overloads) for e in table._bodies]
    net = Network(50, [Dense(9, "gelu"), Dense(5, "softmax")], precision="bfloat16")
    fitted(2, Adam(1e-3), 33, net)
    after = _compiled.cache_info().misses, [len(e.dispatcher.overloads) for e in table._bodies]
    assert after == before
