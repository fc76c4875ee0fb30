"""What the estimators have beyond scikit-learn's, each against what it says it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.class_weight import compute_sample_weight

import fastbp
from fastbp import Dense, MLPClassifier, MLPRegressor
from fastbp.kernels.cpu import bf16
from fastbp.kernels.tables import ACTIVATIONS, LOSSES
from fastbp.optimizers import OPTIMIZERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(
    n_samples=120, n_features=8, n_informative=5, n_classes=3, weights=[0.6, 0.3], random_state=0
)
REAL = X[:, 0] * X[:, 1]
SMALL = {"hidden_layer_sizes": (9, 5), "max_iter": 4, "random_state": 0, "batch_size": 30}


def fit(cls: Any = MLPClassifier, y: Any = Y, **parameters: Any) -> Any:
    return cls(**{**SMALL, **parameters}).fit(X, y)


def weights(model: Any) -> np.ndarray:
    return model._network.parameters.copy()


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 5.0, 2: 0.5}])
def test_class_weight_is_a_sample_weight(class_weight: Any) -> None:
    by_class = compute_sample_weight(class_weight, Y)
    mine = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    model = MLPClassifier(**SMALL, class_weight=class_weight)
    for given, total in ((None, by_class), (mine, by_class * mine)):
        np.testing.assert_array_equal(
            weights(model.fit(X, Y, given)), weights(MLPClassifier(**SMALL).fit(X, Y, total))
        )


def test_balanced_weights_are_not_known_from_a_part() -> None:
    with pytest.raises(ValueError, match="class_weight='balanced' is not known from a part"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
    MLPClassifier(class_weight={1: 2.0}).partial_fit(X, Y, classes=[0, 1, 2])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name: str) -> None:
    model = fit(activations=[name, "tanh"], early_stopping=True)
    assert [layer.activation for layer in model._network.layers] == [name, "tanh", "softmax"]
    assert np.isfinite(weights(model)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name: str) -> None:
    """The reported loss of an epoch without learning is the mean of the network's."""
    if LOSSES[name].low == 0.0:
        model, targets = fit(objective=name, optimizer=fastbp.SGD(0.0), alpha=0.0), Y
    else:
        given = {"objective": name, "optimizer": fastbp.SGD(0.0), "alpha": 0.0}
        model, targets = fit(MLPRegressor, REAL, **given), REAL
    net = model._network
    assert net.loss_name == name
    assert model.loss_ == pytest.approx(net.loss(X, targets), rel=1e-12)


def test_the_losses_of_scikit_learn_keep_their_meaning() -> None:
    one = fit(MLPRegressor, REAL)
    assert one._network.loss_name == "half_squared_error"
    assert fit(MLPRegressor, np.abs(REAL), loss="poisson").out_activation_ == "exp"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_trainers_steps(name: str) -> None:
    """One full batch in order, from the same start: `Trainer` and estimator, to the last bit."""
    given = {"optimizer": name, "alpha": 0.0, "shuffle": False, "batch_size": len(X)}
    model = fit(**given, max_iter=3)
    net = fastbp.Network(
        8, [Dense(9, "relu"), Dense(5, "relu"), Dense(3, "softmax")],
        loss="cross_entropy", dtype="float64",
    )  # fmt: skip
    net.parameters = weights(fit(optimizer=fastbp.SGD(0.0), alpha=0.0, max_iter=1))
    trainer = fastbp.Trainer(net, name, batch_size=None, sampling="order", progress=False)
    trainer.fit(X, Y, epochs=3)
    np.testing.assert_array_equal(weights(model), net.parameters)


def test_rates_follow_a_schedule() -> None:
    rates = []
    schedule = fastbp.Cosine(0.1)
    model = fit(
        optimizer=fastbp.SGD(schedule, momentum=0.9),
        callbacks=lambda state: rates.append(state.metrics["lr"]),
    )
    wanted = schedule.rates(0, 16, 16)[3::4]  # 4 epochs of 4 steps: the last of each
    np.testing.assert_allclose(rates, wanted, rtol=1e-14)
    assert model._optimizer.learning_rate == rates[-1]


def test_a_plateau_counts_from_the_end_of_a_warmup() -> None:
    """An epoch is a step, and no epoch's loss is better than the first by nearly all of it."""
    plateau = fastbp.ReduceOnPlateau(0.1, factor=0.5, patience=1, threshold=0.99)
    seen: list[float] = []
    fit(
        optimizer=fastbp.SGD(fastbp.Warmup(plateau, 3)), batch_size=len(X), max_iter=6,
        callbacks=lambda state: seen.append(state.metrics["lr"]),
    )  # fmt: skip
    np.testing.assert_allclose(seen, [0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.05, 0.025], rtol=1e-12)


def test_a_schedule_that_looks_at_the_loss() -> None:
    plateau = fastbp.ReduceOnPlateau(0.01, patience=1, factor=0.5, threshold=0.9)
    model = fit(optimizer=fastbp.SGD(plateau), max_iter=10)
    assert model._optimizer.learning_rate < 0.01


@pytest.mark.parametrize("extra", [
    {"dropout": 0.3}, {"dropout": [0.0, 0.5]}, {"batch_norm": True}, {"perturbation": 0.5},
    {"batch_norm": ["after", False]}, {"clip_norm": 0.01}, {"decoupled_decay": 0.5},
])  # fmt: skip
def test_an_extra_changes_training_and_repeats(extra: dict[str, Any]) -> None:
    plain, one, two = weights(fit()), weights(fit(**extra)), weights(fit(**extra))
    assert one.tobytes() == two.tobytes()
    assert one.size != plain.size or np.abs(one - plain).max() > 1e-6
    assert np.isfinite(one).all()


def test_dropout_draws_on_in_further_calls() -> None:
    """Two calls of partial_fit meet other masks; the shuffles begin anew, as scikit-learn's do."""
    given = {**SMALL, "shuffle": False, "dropout": 0.5, "optimizer": fastbp.SGD(1e-12)}
    model = MLPClassifier(**given)
    losses = []
    for _ in range(3):
        model.partial_fit(X, Y, classes=[0, 1, 2])
        losses.append(model.loss_)
    assert len({round(loss, 6) for loss in losses}) == 3


def test_decoupled_decay_shrinks_the_weights_alone() -> None:
    """A rate of 0.1 and a decay of 0.5: each step multiplies W by 0.95 before its own change."""
    given = {"optimizer": fastbp.SGD(0.1), "max_iter": 1, "batch_size": len(X), "alpha": 0.0}
    plain, decayed = fit(**given), fit(**given, decoupled_decay=0.5)
    start = fit(**{**given, "optimizer": fastbp.SGD(0.0)})
    for a, b, w in zip(plain.coefs_, decayed.coefs_, start.coefs_, strict=True):
        np.testing.assert_allclose(b, a - 0.05 * w, rtol=0, atol=1e-15)
    for a, b in zip(plain.intercepts_, decayed.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_norm_predicts_by_running_statistics_after_a_pickle_too() -> None:
    import pickle

    model = fit(batch_norm=True, dropout=0.1)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    rows = [model.predict_proba(X[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(rows, model.predict_proba(X)[:5], rtol=0, atol=1e-15)
    # beta stands where batch norm takes the bias away.
    assert model.intercepts_[0].base is model._network.layers[0].beta.base


def test_a_batch_of_one_cannot_be_normalised() -> None:
    with pytest.raises(ValueError, match="batch norm needs at least 2 samples in a batch"):
        fit(batch_norm=True, batch_size=1)


def test_the_validation_curve_is_the_loss_of_what_is_held_out() -> None:
    given = {"validation_curve": True, "alpha": 0.0}
    model = MLPClassifier(**SMALL, **given).fit(X[:80], Y[:80], X_val=X[80:], y_val=Y[80:])
    assert len(model.validation_loss_curve_) == model.n_iter_ == 4
    held = model._network.loss(X[80:], Y[80:])
    assert model.validation_loss_curve_[-1] == pytest.approx(held, rel=1e-12)
    np.testing.assert_array_equal(weights(model), weights(MLPClassifier(**SMALL, alpha=0.0)
                                                          .fit(X[:80], Y[:80])))  # fmt: skip
    both = np.stack([REAL, -REAL], axis=1)
    real = fit(MLPRegressor, both, early_stopping=True, validation_curve=True, max_iter=3)
    assert len(real.validation_loss_curve_) == len(real.validation_scores_) == 3


def test_early_stopping_on_data_that_is_given() -> None:
    model = MLPClassifier(**{**SMALL, "max_iter": 40}, early_stopping=True, learning_rate_init=0.02)
    model.fit(X[:80], Y[:80], X_val=X[80:], y_val=Y[80:])
    assert model.t_ == 80 * model.n_iter_  # nothing of X was put aside
    assert model.score(X[80:], Y[80:]) == model.best_validation_score_


@pytest.mark.parametrize(("parameters", "given", "message"), [
    ({"validation_curve": True}, {}, "validation_curve=True needs held-out data"),
    ({}, {"X_val": X, "y_val": Y}, "X_val and y_val are used by early_stopping=True"),
    ({"early_stopping": True}, {"X_val": X}, "X_val and y_val go together"),
    ({"early_stopping": True}, {"X_val": X, "y_val": Y + 1}, "`y` has classes not in"),
    ({"dropout": [0.1]}, {}, "dropout=.* has 1 entries for 2 hidden layers"),
    ({"dropout": 1.0}, {}, "The 'dropout' parameter of MLPClassifier must be"),
    ({"activations": "rellu"}, {}, "activations='rellu'.*'relu'"),
    ({"objective": "cros_entropy"}, {}, "objective='cros_entropy'.*'cross_entropy'"),
    ({"optimizer": "adamm"}, {}, "optimizer='adamm'.*'adam'"),
    ({"batch_norm": "befor"}, {}, "batch_norm='befor'.*'before'"),
    ({"clip_norm": -1.0}, {}, "The 'clip_norm' parameter of MLPClassifier must be"),
    ({"dtype": "float16"}, {}, "The 'dtype' parameter of MLPClassifier must be"),
    ({"callbacks": 3}, {}, "callbacks=3 is of type int"),
    ({"solver": "lbfgs", "dropout": 0.1}, {}, "dropout=0.1 has no meaning for solver='lbfgs'"),
    ({"solver": "lbfgs", "optimizer": "adam"}, {}, "optimizer='adam' has no meaning"),
    ({"solver": "lbfgs", "batch_norm": [True, False]}, {}, "batch_norm=.* has no meaning"),
])  # fmt: skip
def test_what_is_refused(parameters: Any, given: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        MLPClassifier(**{**SMALL, **parameters}).fit(X, Y, **given)


def test_held_out_targets_must_be_as_wide() -> None:
    with pytest.raises(ValueError, match="y_val has 2 outputs, and y has 1"):
        MLPRegressor(**SMALL, early_stopping=True).fit(X, REAL, X_val=X, y_val=np.c_[REAL, REAL])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(dtype: str) -> None:
    for inputs in (X, X.astype(np.float32)):
        assert MLPClassifier(**SMALL, dtype=dtype).fit(inputs, Y).coefs_[0].dtype == dtype


def test_the_number_of_threads_changes_no_bit() -> None:
    found = {weights(fit(n_threads=n, dropout=0.2, alpha=0.1)).tobytes() for n in (1, 2, 3)}
    assert len(found) == 1
    assert len({fit(n_threads=n, solver="lbfgs").loss_ for n in (1, 2)}) == 1


def test_callbacks_see_every_epoch_and_may_stop() -> None:
    seen: list[Any] = []

    def look(state: fastbp.State) -> bool:
        seen.append((state.epoch, state.metrics["loss"], state.trainer.n_iter_))
        return state.epoch == 2

    model = fit(callbacks=[look])
    assert seen == [(i, model.loss_curve_[i], i + 1) for i in range(3)]
    assert model.n_iter_ == 3
    counted: list[float] = []
    model = fit(solver="lbfgs", callbacks=lambda state: counted.append(state.metrics["loss"]))
    assert counted == sorted(counted, reverse=True)
    assert len(counted) == model.n_iter_ == 4


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_callbacks_get_the_rate_of_the_epochs_last_step(solver: str) -> None:
    seen: list[float] = []
    fit(solver=solver, learning_rate="invscaling", max_iter=3, batch_size=50, callbacks=[
        lambda state: seen.append(state.metrics["lr"])
    ])  # fmt: skip
    steps = -(-len(X) // 50) * np.arange(1, 4)
    if solver == "adam":
        expected = 1e-3 * np.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)
    else:
        expected = 1e-3 / (len(X) * np.arange(3) + 1) ** 0.5
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


def test_progress_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    fit(progress=True)
    captured = capsys.readouterr()
    assert "epoch 4/4" in captured.err
    assert captured.out == ""


@pytest.mark.skipif(not bf16.instructions(), reason=f"no bfloat16: {bf16.missing()}")
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_precision_is_the_networks(cls: Any) -> None:
    """Products are of rounded operands: those of the model's own network, and not float32's."""
    y = Y if cls is MLPClassifier else REAL
    given = {**SMALL, "dtype": "float32"}
    plain, rounded = (cls(**given, precision=p).fit(X, y) for p in (None, "bfloat16"))
    assert rounded._network.precision == "bfloat16"
    ratio = np.linalg.norm(weights(rounded) - weights(plain)) / np.linalg.norm(weights(plain))
    assert 1e-6 < ratio < 0.1
    again = cls(**given, precision="bfloat16", n_threads=2).fit(X, y)
    assert weights(again).tobytes() == weights(rounded).tobytes()
    with pytest.raises(ValueError, match="needs float32 beside"):
        cls(**SMALL, precision="bfloat16").fit(X, y)
    with pytest.raises(InvalidParameterError, match="'precision' parameter"):
        cls(**given, precision="half").fit(X, y)


@pytest.mark.parametrize("sizes", [(8, "a"), (8, 2.5), [None]])
def test_widths_that_are_no_whole_numbers_are_named(sizes: Any) -> None:
    with pytest.raises(TypeError, match="hidden_layer_sizes must be whole numbers"):
        fastbp.MLPClassifier(hidden_layer_sizes=sizes).fit(np.eye(4), [0, 1, 0, 1])


def test_a_loss_may_be_called_as_the_notes_call_it() -> None:
    notes, own = (fit(objective=name) for name in ("nllm", "cross_entropy"))
    np.testing.assert_array_equal(notes.coefs_[0], own.coefs_[0])


@pytest.mark.parametrize("kind", ["M8[D]", "m8[s]"])
def test_times_are_no_targets_of_a_regression(kind: str) -> None:
    with pytest.raises(TypeError, match="y holds times"):
        fastbp.MLPRegressor().fit(np.eye(4), np.arange(4).astype(kind))
