"""Sparse X in `Network` and `Trainer`: the bits of the same matrix made dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp.kernels.cpu.jit import JIT_DISABLED
from fastbp.sparse import Sparse

scipy_sparse = pytest.importorskip("scipy.sparse")

ROWS = 60 if JIT_DISABLED else 700
INPUTS = 13
FORMS = {
    "csr_matrix": scipy_sparse.csr_matrix,
    "csr_array": scipy_sparse.csr_array,
    "csc_array": scipy_sparse.csc_array,
    "coo_matrix": scipy_sparse.coo_matrix,
    "lil_array": scipy_sparse.lil_array,
}


def table(dtype: str = "float32") -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(ROWS, INPUTS)) * (rng.random((ROWS, INPUTS)) < 0.3)
    X[5] = 0  # a row without values
    return X.astype(dtype), (X[:, 0] > X[:, 1]).astype(np.int64)


def network(dtype: str = "float32", **layer: Any) -> fastbp.Network:
    layers = [fastbp.Dense(9, "relu", **layer), fastbp.Dense(2, "softmax")]
    return fastbp.Network(INPUTS, layers, loss="cross_entropy", dtype=dtype, seed=1)


def fitted(X: Any, y: Any, dtype: str = "float32", **settings: Any) -> tuple[Any, Any]:
    net = network(dtype, batch_norm=True, dropout=0.1)
    trainer = fastbp.Trainer(
        net, fastbp.Adam(0.01), batch_size=16, seed=2, progress=False, metrics=["accuracy"],
        perturbation=0.01, **settings,
    )  # fmt: skip
    return net, trainer.fit(X, y, epochs=3, validation=0.2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fit_has_the_bits_of_the_dense_one(form: str, dtype: str) -> None:
    X, y = table(dtype)
    dense, history = fitted(X, y, dtype)
    other, found = fitted(FORMS[form](X), y, dtype, n_threads=2)
    assert other.parameters.tobytes() == dense.parameters.tobytes()
    assert found.loss == history.loss
    assert found.validation_loss == history.validation_loss
    assert found.validation_accuracy == history.validation_accuracy
    assert found.outcome == history.outcome


@pytest.mark.parametrize("form", FORMS)
def test_passes_have_the_bits_of_dense_ones(form: str) -> None:
    X, y = table()
    net, S = network(), FORMS[form](X)
    assert (net.forward(S) == net.forward(X)).all()
    assert (net.forward(S, training=True) == net.forward(X, training=True)).all()
    assert (net.predict(S) == net.predict(X)).all()
    assert net.evaluate(S, y, ["accuracy"]) == net.evaluate(X, y, ["accuracy"])
    assert net.loss(S, y) == net.loss(X, y)
    assert (net.gradients(S, y) == net.gradients(X, y)).all()


def test_many_rows_go_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = table()
    net = network()
    monkeypatch.setattr("fastbp.passes.INFERENCE_ROWS", 16)
    monkeypatch.setattr(net, "_piece", lambda: 32)
    wanted = net.forward(X)
    assert (net.forward(scipy_sparse.csr_array(X)) == wanted).all()


def test_other_ways_to_train(tmp_path: Any) -> None:
    """fit_many, fit_stream, validation data of one's own, weights, and a fit taken up again."""
    X, y = table()
    S, weights = scipy_sparse.csr_array(X), np.linspace(0.5, 1.5, ROWS)
    for given in (X, S):
        nets = [network() for _ in range(2)]
        fastbp.fit_many(nets, given, y, epochs=2, batch_size=16, progress=False)
        other = network()
        trainer = fastbp.Trainer(
            other, batch_size=16, progress=False, checkpoint=tmp_path / "c", every=1
        )
        trainer.fit(given, y, epochs=2, sample_weight=weights, validation=(given[:20], y[:20]))
        stream = network()
        fastbp.Trainer(stream, progress=False).fit_stream(
            [(given[i : i + 20], y[i : i + 20]) for i in range(0, 40, 20)], epochs=1
        )
        trained = [net.parameters.tobytes() for net in (*nets, other, stream)]
        if given is X:
            wanted = trained
    assert trained == wanted


def test_a_checkpoint_knows_its_sparse_data(tmp_path: Any) -> None:
    X, y = table()
    S = scipy_sparse.csr_array(X)
    settings: Any = {"batch_size": 16, "progress": False, "checkpoint": tmp_path / "c", "every": 1}
    whole = network()
    fastbp.Trainer(whole, **settings).fit(S, y, epochs=4)
    half = network()
    fastbp.Trainer(half, **settings).fit(S, y, epochs=2)
    trainer = fastbp.Trainer(network(), **settings)
    trainer.resume(tmp_path / "c")
    trainer.fit(S, y, epochs=2)
    assert trainer.network.parameters.tobytes() == whole.parameters.tobytes()


def test_values_are_not_copied_where_they_have_the_form() -> None:
    X, _ = table()
    S = scipy_sparse.csr_array(X)
    assert np.shares_memory(Sparse.of(S, np.dtype("float32")).values, S.data)
    S.data.flags.writeable = False
    network().predict(S)


def broken(field: str, value: Any) -> Any:
    S = scipy_sparse.csr_array(table()[0])
    getattr(S, field)[3] = value
    return S


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "nan": (lambda: broken("data", np.nan), ValueError, r"X\[\d+, \d+\]=nan is not finite"),
    "column": (lambda: broken("indices", 99), ValueError, "indices or indptr do not fit"),
    "negative": (lambda: broken("indices", -1), ValueError, "indices or indptr do not fit"),
    "starts": (lambda: broken("indptr", 10**6), ValueError, "indices or indptr do not fit"),
    "columns": (
        lambda: scipy_sparse.csr_array((4, 5)), ValueError, "X has 5 columns but the net",
    ),
    "rows": (lambda: scipy_sparse.csr_array((0, INPUTS)), ValueError, "X is empty"),
    "one dimension": (
        lambda: scipy_sparse.coo_array(np.ones(INPUTS)), ValueError, "give two dimensions",
    ),
    "complex": (
        lambda: scipy_sparse.csr_array(1j * np.ones((9, INPUTS))), TypeError, "X.data is complex",
    ),
    "too large": (
        lambda: scipy_sparse.csr_array(np.full((ROWS, INPUTS), 1e300)), ValueError, "is too large",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_matrices_are_refused(kind: str) -> None:
    make, error, message = BAD[kind]
    net, y = network(), np.zeros(ROWS, np.int64)
    before = net.parameters.tobytes()
    for door in (
        lambda X: fastbp.Trainer(net, progress=False).fit(X, y, epochs=1),
        lambda X: net.evaluate(X, y),
        net.predict,
    ):
        with pytest.raises(error, match=message):
            door(make())
    assert net.parameters.tobytes() == before


def test_the_row_that_is_not_finite_is_named() -> None:
    X, _ = table()
    X[5], X[7] = 0, 0
    X[6] = 0
    X[7, 4] = np.inf
    with pytest.raises(ValueError, match=r"X\[7, 4\]=inf"):
        network().predict(scipy_sparse.csr_array(X))


def test_a_matrix_of_zeros_is_one() -> None:
    net = network()
    zeros = scipy_sparse.csr_array((4, INPUTS), dtype=np.float32)
    assert (net.forward(zeros) == net.forward(np.zeros((4, INPUTS)))).all()


def test_where_a_dense_matrix_is_needed_it_is_said() -> None:
    X, y = table()
    S = scipy_sparse.csr_array(X)
    net = network()
    for door in (lambda: net.trace(S, y), lambda: fastbp.check_gradients(net, S, y)):
        with pytest.raises(TypeError, match=r"X is sparse .* give X\.toarray\(\)"):
            door()


def test_values_of_one_place_add_up() -> None:
    scipy = pytest.importorskip("scipy.sparse")
    rows, columns, values = [0, 0, 1, 1], [2, 2, 0, 5], [1.0, 2.5, -1.0, 4.0]
    starts, places = np.array([0, 2, 4]), np.array(columns)
    twice = scipy.csr_array((np.array(values, "f4"), places, starts), shape=(2, 13))
    net = network()
    dense = np.zeros((2, 13), "f4")
    np.add.at(dense, (rows, columns), values)
    assert np.array_equal(net.forward(twice), net.forward(dense))


@pytest.mark.parametrize("place", [45, 99_999_999, -5])
@pytest.mark.parametrize("form", ["csc", "coo", "bsr"])
def test_places_that_lie_are_refused_before_scipy_writes_there(form: str, place: int) -> None:
    matrix = scipy_sparse.random(40, 4, 0.5, random_state=0, format=form)
    y = np.arange(40) % 2
    pytest.importorskip("sklearn")
    model = fastbp.MLPClassifier((3,), solver="lbfgs", max_iter=1, tol=1e9).fit(matrix, y)
    (matrix.row if form == "coo" else matrix.indices)[3] = place
    net = fastbp.Network(4, [fastbp.Dense(2)], seed=0)
    words = "(row or col|indices or indptr) do not fit its shape"
    for call in (net.forward, model.predict, lambda X: model.fit(X, y)):
        with pytest.raises(ValueError, match=words):
            call(matrix)


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize(
    ("starts", "kind"),
    [
        ([0, 2**30, 2, 3, 4], np.uint32),
        ([0, 200, 2, 3, 4], np.uint8),
        ([0, 2**63 + 1, 2, 3, 4], np.uint64),
        ([0, 1, 2, 3, 2**63 + 4], np.uint64),
        ([0, 123, -128, 3, 4], np.int8),  # -128 - 123 is 5 there
    ],
)
def test_starts_that_lie_are_refused_in_every_dtype(form: str, starts: Any, kind: Any) -> None:
    matrix = getattr(scipy_sparse, f"{form}_matrix")(np.eye(4))
    matrix.indptr = np.array(starts, kind)
    net = fastbp.Network(4, [fastbp.Dense(2)], seed=0)
    for call in (net.forward, lambda X: fastbp.Trainer(net).fit(X, np.zeros((4, 2)))):
        with pytest.raises(ValueError, match="indices or indptr do not fit its shape"):
            call(matrix)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64])
def test_starts_of_every_dtype_are_read(kind: Any) -> None:
    X = np.diag(np.arange(1.0, 6.0))
    matrix = scipy_sparse.csr_matrix(X)
    matrix.indptr, matrix.indices = matrix.indptr.astype(kind), matrix.indices.astype(kind)
    net = fastbp.Network(5, [fastbp.Dense(2)], seed=0)
    np.testing.assert_array_equal(net.forward(matrix), net.forward(X))


def test_lists_that_differ_in_length_are_refused() -> None:
    matrix = scipy_sparse.lil_matrix(np.eye(4))
    net = fastbp.Network(4, [fastbp.Dense(2)], seed=0)
    np.testing.assert_array_equal(net.forward(matrix), net.forward(np.eye(4)))
    matrix.data[2] = [1.0] * 40
    with pytest.raises(ValueError, match="rows and data differ in length; build it anew"):
        net.forward(matrix)


def test_blocks_of_values_are_taken() -> None:
    X = np.zeros((6, 4), np.float32)
    X[2:4, :2] = [[1, 2], [0, 3]]
    net = fastbp.Network(4, [fastbp.Dense(2, "tanh")], seed=0)
    blocks = scipy_sparse.bsr_array(X, blocksize=(2, 2))
    assert net.forward(blocks).tobytes() == net.forward(X).tobytes()
