"""What bad arguments get, at every public door: one clear error that names argument and value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from refusal_support import check_message, network

import fastbp
from fastbp import BatchNorm, Dense, Network, Trainer, kernels

Call = Callable[[], Any]

DENSE: dict[str, tuple[Call, type[Exception], str]] = {
    "no units": (lambda: Dense(0), ValueError, "units=0 must be an integer of at least 1"),
    "units a float": (lambda: Dense(2.0), TypeError, "units=2.0 is of type float"),
    "units a bool": (lambda: Dense(True), TypeError, "units=True is of type bool"),
    "activation misspelt": (
        lambda: Dense(2, "rellu"),
        ValueError,
        "activation='rellu' is not known; did you mean 'relu'?",
    ),
    "activation a function": (lambda: Dense(2, np.tanh), TypeError, "activation=<ufunc 'tanh'>"),
    "dropout of 1": (
        lambda: Dense(2, dropout=1.0),
        ValueError,
        "dropout=1.0 must be 0 or more and below 1",
    ),
    "dropout below 0": (
        lambda: Dense(2, dropout=-0.1),
        ValueError,
        "dropout=-0.1 must be 0 or more",
    ),
    "dropout NaN": (
        lambda: Dense(2, dropout=np.nan),
        ValueError,
        "dropout=nan must be a finite number",
    ),
    "dropout text": (lambda: Dense(2, dropout="0.5"), TypeError, "dropout='0.5' is of type str"),
    "init misspelt": (lambda: Dense(2, init="he"), ValueError, "did you mean 'he_"),
    "bias_init misspelt": (lambda: Dense(2, bias_init="zero"), ValueError, "did you mean 'zeros'"),
    "init_scale below 0": (
        lambda: Dense(2, init_scale=-1.0),
        ValueError,
        "init_scale=-1.0 must be 0 or more",
    ),
    "batch_norm a number": (
        lambda: Dense(2, batch_norm=1),
        TypeError,
        "batch_norm=1 must be True, False",
    ),
    "batch_norm misspelt": (
        lambda: Dense(2, batch_norm="befor"),
        ValueError,
        "batch_norm='befor' is not known; did you mean 'before'",
    ),
    "eps of 0": (lambda: BatchNorm(eps=0.0), ValueError, "eps=0.0 must be a number above 0"),
    "momentum above 1": (
        lambda: BatchNorm(momentum=1.5),
        ValueError,
        "momentum=1.5 must be above 0 and at most 1",
    ),
    "form misspelt": (
        lambda: BatchNorm(form="sigmas"),
        ValueError,
        "form='sigmas' is not known; did you mean 'sigma'",
    ),
}

_LAST = [Dense(2, "softmax")]
NETWORK: dict[str, tuple[Call, type[Exception], str]] = {
    "no inputs": (
        lambda: Network(0, _LAST),
        ValueError,
        "inputs=0 must be an integer of at least 1",
    ),
    "inputs text": (lambda: Network("4", _LAST), TypeError, "inputs='4' is of type str"),
    "no layers": (lambda: Network(4, []), ValueError, "layers is empty; give at least one Dense"),
    "layers a number": (
        lambda: Network(4, 3),
        TypeError,
        "layers=3 is of type int; it must be a sequence of fastbp.Dense",
    ),
    "a layer that is none": (
        lambda: Network(4, [2]),
        TypeError,
        "layers[0]=2 must be a fastbp.Dense",
    ),
    "loss misspelt": (
        lambda: Network(4, _LAST, loss="crossentropy"),
        ValueError,
        "did you mean 'cross_entropy'",
    ),
    "dtype half": (
        lambda: Network(4, _LAST, dtype="float16"),
        ValueError,
        "dtype='float16' must be 'float32' or 'float64'",
    ),
    "dtype nonsense": (
        lambda: Network(4, _LAST, dtype="floaty"),
        ValueError,
        "dtype='floaty' must be",
    ),
    "seed below 0": (
        lambda: Network(4, _LAST, seed=-1),
        ValueError,
        "seed=-1 must be an integer, 0 to",
    ),
    "seed too large": (
        lambda: Network(4, _LAST, seed=2**63),
        ValueError,
        "seed=9223372036854775808 must be",
    ),
    "reduction misspelt": (
        lambda: Network(4, _LAST, reduction="avg"),
        ValueError,
        "reduction='avg' is not known",
    ),
    "device unknown": (
        lambda: Network(4, _LAST, device="gpu0"),
        ValueError,
        "device='gpu0' is not known",
    ),
    "precision": (
        lambda: Network(4, _LAST, precision="bf16"),
        ValueError,
        "precision='bf16' must be None, products in dtype, or 'bfloat16'",
    ),
    "precision beside float64": (
        lambda: Network(4, _LAST, dtype="float64", precision="bfloat16"),
        ValueError,
        "precision='bfloat16' needs float32 beside, of parameters and sums, not float64",
    ),
    "log loss on tanh": (
        lambda: Network(4, [Dense(1, "tanh")], loss="nll"),
        ValueError,
        "loss='binary_cross_entropy' needs outputs in [0, 1]",
    ),
    "log loss after dropout": (
        lambda: Network(4, [Dense(2, "softmax", dropout=0.5)]),
        ValueError,
        "without dropout or batch norm after it",
    ),
}


DESCRIPTIONS = DENSE | NETWORK


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_descriptions(case: str) -> None:
    call, kind, words = DESCRIPTIONS[case]
    with pytest.raises(kind) as caught:
        call()
    check_message(caught, kind, words)


TRAINER: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "optimizer misspelt": (
        {"optimizer": "adm"},
        ValueError,
        "optimizer='adm' is not known; did you mean 'adam'",
    ),
    "optimizer a number": ({"optimizer": 0.1}, TypeError, "optimizer=0.1 is of type float"),
    "batch of 0": ({"batch_size": 0}, ValueError, "batch_size=0 must be an integer of at least 1"),
    "batch a float": ({"batch_size": 32.0}, TypeError, "batch_size=32.0 is of type float"),
    "batch of 1 with batch norm": (
        {"batch_size": 1},
        ValueError,
        "batch norm needs at least 2 samples in a batch",
    ),
    "sampling misspelt": ({"sampling": "shuffel"}, ValueError, "did you mean 'shuffle'"),
    "decay below 0": (
        {"weight_decay": -1e-4},
        ValueError,
        "weight_decay=-0.0001 must be 0 or more",
    ),
    "decay NaN": ({"weight_decay": np.nan}, ValueError, "weight_decay=nan must be a finite number"),
    "noise below 0": ({"perturbation": -1.0}, ValueError, "perturbation=-1.0 must be 0 or more"),
    "clip_norm of 0": ({"clip_norm": 0.0}, ValueError, "clip_norm=0.0 must be a number above 0"),
    "clip_value below 0": (
        {"clip_value": -1.0},
        ValueError,
        "clip_value=-1.0 must be a number above 0",
    ),
    "early_stopping a number": (
        {"early_stopping": 5},
        TypeError,
        "early_stopping=5 must be True, None or",
    ),
    "stopping a number": (
        {"stopping": 5},
        TypeError,
        "stopping=5 is of type int; it must be a stopping rule",
    ),
    "stopping several numbers": ({"stopping": [5]}, TypeError, "stopping: 5 must be a rule"),
    "metric misspelt": ({"metrics": "acuracy"}, ValueError, "did you mean 'accuracy'"),
    "callback a number": ({"callbacks": [3]}, TypeError, "callbacks=3 is of type int"),
    "restarts of 0": ({"restarts": 0}, ValueError, "restarts=0 must be an integer of at least 1"),
    "on_divergence misspelt": ({"on_divergence": "rise"}, ValueError, "did you mean 'raise'"),
    "seed below 0": ({"seed": -1}, ValueError, "seed=-1 must be an integer"),
    "seed too large": ({"seed": 2**64}, ValueError, "seed=18446744073709551616 must be"),
    "no threads": ({"n_threads": 0}, ValueError, "n_threads=0 must be an integer, 1 to 1024"),
    "progress a number": ({"progress": 2}, TypeError, "progress=2 is of type int"),
}


@pytest.mark.parametrize("case", TRAINER)
def test_trainer(case: str) -> None:
    arguments, kind, words = TRAINER[case]
    with pytest.raises(kind) as caught:
        Trainer(network(), **arguments)
    check_message(caught, kind, words)


def test_a_trainer_needs_a_network() -> None:
    with pytest.raises(TypeError, match=r"must be a fastbp\.Network"):
        Trainer(Network)


OPTIMIZER: dict[str, tuple[Call, type[Exception], str]] = {
    "rate below 0": (lambda: fastbp.SGD(-0.1), ValueError, "lr=-0.1 must be 0 or more"),
    "rate NaN": (lambda: fastbp.Adam(np.nan), ValueError, "lr=nan must be a finite number"),
    "rate text": (lambda: fastbp.Adam("fast"), TypeError, "lr='fast' is of type str"),
    "schedule a class": (lambda: fastbp.SGD(fastbp.Cosine), TypeError, "lr=Cosine is the class"),
    "momentum of 1": (
        lambda: fastbp.SGD(momentum=1.0),
        ValueError,
        "momentum=1.0 must be 0 or more and below 1",
    ),
    "nesterov alone": (
        lambda: fastbp.SGD(nesterov=True),
        ValueError,
        "nesterov=True needs momentum above 0",
    ),
    "beta of 1": (
        lambda: fastbp.Adam(beta2=1.0),
        ValueError,
        "beta2=1.0 must be 0 or more and below 1",
    ),
    "eps of 0": (lambda: fastbp.RMSprop(eps=0.0), ValueError, "eps=0.0 must be a number above 0"),
    "rho below 0": (lambda: fastbp.Adadelta(rho=-0.1), ValueError, "rho=-0.1 must be 0 or more"),
    "decay below 0": (
        lambda: fastbp.AdamW(weight_decay=-1.0),
        ValueError,
        "weight_decay=-1.0 must be 0 or more",
    ),
}


@pytest.mark.parametrize("case", OPTIMIZER)
def test_optimizers(case: str) -> None:
    call, kind, words = OPTIMIZER[case]
    with pytest.raises(kind) as caught:
        call()
    check_message(caught, kind, words)


A = np.ones((4, 3), np.float32)
W = np.ones((3, 2), np.float32)
KERNELS: dict[str, tuple[Call, type[Exception], str]] = {
    "a list": (
        lambda: kernels.linear_forward(A.tolist(), W),
        TypeError,
        "A: expected a NumPy array, got list",
    ),
    "integers": (
        lambda: kernels.linear_forward(A.astype(int), W),
        TypeError,
        "A: expected float32 or float64",
    ),
    "mixed dtypes": (
        lambda: kernels.linear_forward(A, W.astype(np.float64)),
        TypeError,
        "W: expected float32 like the other arrays",
    ),
    "sizes that do not meet": (
        lambda: kernels.linear_forward(A, W[:2].copy()),
        ValueError,
        "W: expected shape (3, any)",
    ),
    "strided": (
        lambda: kernels.linear_forward(np.ones((4, 6), np.float32)[:, ::2], W),
        ValueError,
        "A: expected a C-contiguous array",
    ),
    "out too small": (
        lambda: kernels.linear_forward(A, W, out=np.ones((1, 2), np.float32)),
        ValueError,
        "out: expected shape (4, 2)",
    ),
    "unknown activation": (lambda: kernels.activate("reLUU", A), ValueError, "did you mean 'relu'"),
    "Z missing": (lambda: kernels.apply_derivative("gelu", A, A), ValueError, "Z: gelu"),
    "unknown loss": (
        lambda: kernels.loss_forward("squarederror", A, A),
        ValueError,
        "did you mean 'squared_error'",
    ),
    "no short pair": (
        lambda: kernels.loss_and_delta("cross_entropy", "relu", A, A),
        ValueError,
        "activation: relu with cross_entropy",
    ),
    "p of 1": (
        lambda: kernels.dropout(A, 1.0, seed=0),
        ValueError,
        "p: expected a probability of dropping in [0, 1), got 1.0",
    ),
    "gradient of other rows": (
        lambda: kernels.weight_gradient(A, np.ones((5, 2), np.float32)),
        ValueError,
        "dZ: expected shape (4, any)",
    ),
}


@pytest.mark.parametrize("case", KERNELS)
def test_kernels(case: str) -> None:
    call, kind, words = KERNELS[case]
    with pytest.raises(kind) as caught:
        call()
    check_message(caught, kind, words)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (None, TypeError, "dtypes=None is of type NoneType; it must be"),
        (32, TypeError, "dtypes=32 is of type int; it must be"),
        ((), ValueError, "dtypes=() is empty; give 'float32', 'float64' or a sequence"),
        ("float16", ValueError, "dtypes: dtype='float16' must be 'float32' or 'float64'"),
    ],
)
def test_warmup(given: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        fastbp.warmup(given)
    check_message(caught, kind, words)


def test_there_are_enough_kinds() -> None:
    assert sum(len(table) for table in (DENSE, NETWORK, TRAINER, OPTIMIZER, KERNELS)) >= 70
