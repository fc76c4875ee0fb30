"""Properties over shapes, dtypes and layouts, drawn by hypothesis: the kernels against NumPy.

Bounds are of the form (operations) * eps * (what NumPy gives for absolute values), the standard
bound of a sum of products in any order (Higham, Accuracy and Stability, 3.1), doubled because both
sides round. The examples are the same in every run; `--hypothesis-seed=random` draws others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastbp
from fastbp import Dense, Network, Trainer, kernels
from fastbp.kernels import reference
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.kernels.tables import ACTIVATIONS, LOSSES, UPDATES

few = settings(
    max_examples=15 if JIT_DISABLED else 40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
sizes = st.integers(1, 5) | st.integers(6, 20 if JIT_DISABLED else 70)
dtypes = st.sampled_from(["float32", "float64"])
seeds = st.integers(0, 2**32 - 1)


def normal(seed: int, dtype: str, *shape: int) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def close(found: Any, want: Any, size: Any, terms: int) -> None:
    """|found - want| <= 2 (terms + 4) eps size, element by element."""
    bound = 2 * (terms + 4) * np.finfo(found.dtype).eps * (np.abs(size) + np.abs(want))
    wrong = ~(np.abs(found.astype(np.float64) - want) <= bound + np.finfo(found.dtype).tiny)
    assert not wrong.any(), (found[wrong], want[wrong], bound[wrong])


@few
@given(n=sizes, m=sizes, k=sizes, dtype=dtypes, seed=seeds, biased=st.booleans())
def test_the_three_products(n: int, m: int, k: int, dtype: str, seed: int, biased: bool) -> None:
    A, W, D = normal(seed, dtype, n, m), normal(seed, dtype, m, k), normal(seed + 1, dtype, n, k)
    b = normal(seed, dtype, k) if biased else None
    wide = [x.astype(np.float64) for x in (A, W, D)]
    size = [np.abs(x) for x in wide]
    shift = 0.0 if b is None else b.astype(np.float64)
    close(kernels.linear_forward(A, W, b), wide[0] @ wide[1] + shift,
          size[0] @ size[1] + np.abs(shift), m + 1)  # fmt: skip
    dW, db = kernels.weight_gradient(A, D)
    close(dW, wide[0].T @ wide[2], size[0].T @ size[2], n)
    close(db, wide[2].sum(axis=0), size[2].sum(axis=0), n)
    close(kernels.input_gradient(D, W), wide[2] @ wide[1].T, size[2] @ size[1].T, k)


@few
@given(n=sizes, k=sizes, dtype=dtypes, seed=seeds, scale=st.sampled_from([1e-3, 1.0, 30.0]),
       name=st.sampled_from(sorted(ACTIVATIONS)))  # fmt: skip
def test_activations_and_their_slopes(
    n: int, k: int, dtype: str, seed: int, scale: float, name: str
) -> None:
    Z, dA = (scale * normal(seed, dtype, n, k)).astype(dtype), normal(seed + 1, dtype, n, k)
    found, wide = kernels.activate(name, Z), Z.astype(np.float64)
    want = reference.activate(name, wide)
    close(found, want, np.abs(wide) if name in {"silu", "gelu"} else 0.0, 4 + k)
    slope = kernels.apply_derivative(name, dA, found, Z)
    exact = reference.apply_derivative(name, dA.astype(np.float64), want, wide)
    # dA's size, times 1 and times |a|: what the formulas in a and z form on the way.
    size = np.abs(dA) * (1 + np.abs(wide)) + np.abs(dA * want).sum(axis=1, keepdims=True)
    close(slope, exact, size, 8 + k)


@few
@given(n=sizes, k=sizes, dtype=dtypes, seed=seeds, name=st.sampled_from(sorted(LOSSES)))
def test_losses(n: int, k: int, dtype: str, seed: int, name: str) -> None:
    A, Y = normal(seed, dtype, n, k), normal(seed + 1, dtype, n, k)
    if LOSSES[name].high == 1.0:  # away from 0 and 1, where 1 - a would lose a's digits
        A, Y = (0.9 * reference.activate("sigmoid", x).astype(dtype) + 0.05 for x in (A, Y))
        A, Y = A.astype(dtype), Y.astype(dtype)
    elif LOSSES[name].low == 0.0:  # counts and their means
        A, Y = np.abs(A) + A.dtype.type(0.05), np.abs(Y)
    wide = [x.astype(np.float64) for x in (A, Y)]
    want = reference.loss_forward(name, *wide)
    close(kernels.loss_forward(name, A, Y).astype(dtype), want, 4.0 * np.abs(want) + k, k + 8)


@few
@given(n=st.integers(2, 60), k=sizes, dtype=dtypes, seed=seeds,
       form=st.sampled_from(["sqrt", "sigma"]), shift=st.sampled_from([0.0, 1000.0]))  # fmt: skip
def test_batch_norm(n: int, k: int, dtype: str, seed: int, form: str, shift: float) -> None:
    Z = (normal(seed, dtype, n, k) + shift).astype(dtype)
    wide = Z.astype(np.float64)
    mean, variance = kernels.batch_statistics(Z)
    close(mean, wide.mean(axis=0), np.abs(wide).max(axis=0), n)
    # A mean that is off by e shifts the variance by e^2; deviations are exact to eps |Z|.
    spread = np.abs(wide - wide.mean(axis=0)).max(axis=0)
    room = spread**2 + spread * np.finfo(dtype).eps * np.abs(wide).max(axis=0) * 4
    close(variance, wide.var(axis=0), room, n)
    gamma, beta, dU = (normal(seed + i, dtype, *s) for i, s in enumerate([(k,), (k,), (n, k)]))
    out, hat = kernels.batchnorm_forward(Z, mean, variance, gamma, beta, form=form)
    exact, normalized = reference.batchnorm_forward(
        wide, *(x.astype(np.float64) for x in (mean, variance, gamma, beta)), form=form
    )
    scale = np.abs(wide).max(axis=0) / np.sqrt(variance.astype(np.float64) + 1e-5)
    close(hat, normalized, scale, 4)
    close(out, exact, np.abs(gamma) * scale + np.abs(beta), 6)
    found = kernels.batchnorm_backward(dU, hat, variance, gamma, form=form)
    parts = [x.astype(np.float64) for x in (dU, hat, variance, gamma)]
    want = reference.batchnorm_backward(*parts, form=form)
    size = np.abs(parts[0]).sum(axis=0)
    heights = np.abs(parts[1]).max(axis=0) + 1
    close(found[1], want[1], size * heights, n)
    close(found[2], want[2], size, n)
    factor = 1 / np.sqrt(parts[2] + 1e-5) if form == "sqrt" else 1 / (np.sqrt(parts[2]) + 1e-5)
    close(found[0], want[0], np.abs(gamma) * factor * size * heights**2, 8)


@few
@given(size=st.integers(1, 200), dtype=dtypes, seed=seeds, name=st.sampled_from(sorted(UPDATES)),
       step=st.integers(1, 1000), l2=st.sampled_from([0.0, 0.1]),
       shrink=st.sampled_from([1.0, 0.9]))  # fmt: skip
def test_updates(
    size: int, dtype: str, seed: int, name: str, step: int, l2: float, shrink: float
) -> None:
    w, g = normal(seed, dtype, size), normal(seed + 1, dtype, size)
    state = np.abs(normal(seed + 2, dtype, len(UPDATES[name].rows), size))
    exact = [x.astype(np.float64) for x in (w, state)]
    common = {"step": step, "lr": 0.01, "l2": l2, "shrink": shrink}
    reference.update(name, exact[0], g.astype(np.float64), exact[1], **common)
    kernels.update(name, w, g, state, **common)
    close(w, exact[0], 1.0 + np.abs(g), 8)
    close(state, exact[1], 1.0 + g.astype(np.float64) ** 2, 8)


layouts = st.sampled_from(["C", "F", "strided", "reversed", "read-only", "list", "object"])


def laid_out(x: np.ndarray, layout: str) -> Any:
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "strided":
        return np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3]
    if layout == "reversed":
        return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    if layout == "read-only":
        x = x.copy()
        x.flags.writeable = False
    return {"list": x.tolist(), "object": x.astype(object)}.get(layout, x)


networks = st.lists(
    st.tuples(
        st.integers(1, 20), st.sampled_from(sorted(ACTIVATIONS)),
        st.sampled_from([False, "before", "after"]), st.sampled_from([0.0, 0.3]),
    ),
    min_size=0, max_size=3,
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*step")
@few
@given(n=st.integers(2, 40), m=sizes, hidden=networks, dtype=dtypes, seed=seeds, layout=layouts)
def test_a_network_is_its_layers_one_by_one(
    n: int, m: int, hidden: Any, dtype: str, seed: int, layout: str
) -> None:
    layers = [Dense(u, f, batch_norm=b, dropout=p, bias_init="normal") for u, f, b, p in hidden]
    net = Network(m, [*layers, Dense(3, "softmax")], dtype=dtype, seed=1)
    X = normal(seed, dtype, n, m)
    A, size = X.astype(np.float64), 1.0
    for layer in net.layers:
        W, norm = layer.W.astype(np.float64), layer.batch_norm
        Z = A @ W + (0 if layer.b is None else layer.b)
        if norm and norm.position == "before":
            Z = layer.gamma * Z / np.sqrt(1 + norm.eps) + layer.beta
        A = reference.activate(layer.activation, Z)
        if norm and norm.position == "after":
            A = layer.gamma * A / np.sqrt(1 + norm.eps) + layer.beta
        size = size * max(1.0, np.abs(W).sum(axis=0).max()) * layer.inputs
    found = net.forward(laid_out(X, layout))
    assert found.dtype == dtype
    assert found.tobytes() == net.forward(X).tobytes()
    if all(f != "step" for _, f, _, _ in hidden):  # no continuity, no bound
        error = np.abs(found - A).max()
        assert error <= 16 * np.finfo(dtype).eps * size * (np.abs(X).max() + 1)
    y = np.arange(n) % 3
    trainer = Trainer(net, "sgd", batch_size=max(2, n // 3), n_threads=1 + seed % 3)
    before = net.parameters.copy()
    trainer.fit(laid_out(X, layout), y)
    other = Network(m, [*layers, Dense(3, "softmax")], dtype=dtype, seed=1)
    assert other.parameters.tobytes() == before.tobytes()
    Trainer(other, "sgd", batch_size=max(2, n // 3), n_threads=1).fit(X, y)
    assert other.parameters.tobytes() == net.parameters.tobytes()


@few
@given(n=st.integers(2, 30), m=st.integers(1, 12), dtype=st.just("float64"), seed=seeds,
       f=st.sampled_from(["tanh", "sigmoid", "softplus", "silu", "gelu", "elu"]),
       norm=st.booleans(), loss=st.sampled_from(["squared_error", "cross_entropy"]))  # fmt: skip
def test_gradients_are_slopes_of_the_loss(
    n: int, m: int, dtype: str, seed: int, f: str, norm: bool, loss: str
) -> None:
    last = Dense(3, "softmax" if loss == "cross_entropy" else "identity")
    net = Network(m, [Dense(4, f, batch_norm=norm), last], loss=loss, dtype=dtype, seed=seed)
    report = fastbp.check_gradients(net, normal(seed, dtype, n, m), np.arange(n) % 3)
    assert report, report
