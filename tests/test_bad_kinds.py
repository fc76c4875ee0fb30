"""Everything that is no good, to every argument of every public door.

Each argument of a door meets each of `VALUES`. What it takes is written down in a table; all else
gets one error that names the argument, in one line that is not Numba's, and nothing has changed.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import tempfile
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from refusal_support import network

import fastbp
from fastbp import BatchNorm, Dense, Network, Trainer


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None, "True": lambda: True, "False": lambda: False, "0": lambda: 0,
    "-1": lambda: -1, "1.5": lambda: 1.5, "-0.5": lambda: -0.5, "nan": lambda: float("nan"),
    "inf": lambda: float("inf"), "-inf": lambda: float("-inf"), "10**400": lambda: 10**400,
    "10**5000": lambda: 10**5000, "2**63": lambda: 2**63, "-2**64": lambda: -(2**64),
    "'4'": lambda: "4", "''": lambda: "", "'é\\n'": lambda: "é\n", "'\\0'": lambda: "\0",
    "long text": lambda: "x" * 5000, "bytes": lambda: b"4", "bytearray": lambda: bytearray(b"4"),
    "[]": list, "[4]": lambda: [4], "['a']": lambda: ["a"], "[None]": lambda: [None],
    "(4,)": lambda: (4,), "{}": dict, "{4: 4}": lambda: {4: 4}, "{4}": lambda: {4},
    "frozenset": frozenset, "range": lambda: range(3), "slice": lambda: slice(1),
    "iterator": lambda: iter([1]), "memoryview": lambda: memoryview(b"4"),
    "array([4])": lambda: np.array([4]), "array(4)": lambda: np.array(4),
    "array(4.0)": lambda: np.array(4.0), "array(nan)": lambda: np.array(np.nan),
    "array([])": lambda: np.array([]), "array of objects": lambda: np.array([None, "a"]),
    "array of texts": lambda: np.array(["a"]), "float32(4)": lambda: np.float32(4),
    "float16(inf)": lambda: np.float16(np.inf), "int8(4)": lambda: np.int8(4),
    "uint64(2**64-1)": lambda: np.uint64(2**64 - 1), "bool_": lambda: np.True_,
    "datetime64": lambda: np.datetime64("2020"), "1j": lambda: 1j,
    "complex64": lambda: np.complex64(1), "Fraction": lambda: Fraction(3, 2),
    "Fraction(10**400)": lambda: Fraction(10**400), "Decimal": lambda: Decimal(3),
    "Decimal('NaN')": lambda: Decimal("NaN"), "date": lambda: dt.date(2020, 1, 1),
    "object": object, "no repr": NoRepr, "class": lambda: int, "function": lambda: len,
    "lambda": lambda: lambda: 3, "...": lambda: ..., "NotImplemented": lambda: NotImplemented,
    "module": lambda: np, "exception": lambda: ValueError("4"), "dtype": lambda: np.dtype("int8"),
    "a network": lambda: Network(1, [Dense(1)]), "Dense": lambda: Dense,
}  # fmt: skip

# Sets of values by what takes them.
COUNT = {"2**63", "10**400", "10**5000", "array(4)", "int8(4)", "uint64(2**64-1)"}
SMALL_COUNT = {"array(4)", "int8(4)"}
REAL = {"1.5", "array(4.0)", "float32(4)", "Fraction", "2**63", "array(4)", "int8(4)",
        "uint64(2**64-1)"}  # fmt: skip
NOT_NEGATIVE = REAL | {"0"}
FLAG = {"True", "False", "bool_"}
CALLABLE = {"class", "function", "lambda", "Dense"}
NOTHING = {"[]", "{}", "frozenset", "array([])"}

X = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
Y = np.arange(10) % 3
LAST = [Dense(2, "softmax")]


@functools.cache
def stored() -> str:
    path = f"{tempfile.mkdtemp()}/network"
    network().save(path)
    return path


# door: its call with arguments by name, the arguments, and what each takes.
Door = tuple[Callable[..., Any], dict[str, set[str]]]
DOORS: dict[str, Door] = {
    "Network": (
        lambda inputs=4, layers=LAST, **other: Network(inputs, layers, **other),
        {"inputs": SMALL_COUNT, "layers": set(), "loss": {"None"},
         "dtype": {"float32(4)", "a network"}, "seed": {"0", *SMALL_COUNT}, "reduction": set(),
         "device": set(), "precision": {"None"}},
    ),
    "Dense": (
        lambda units=2, **other: Dense(units, **other),
        {"units": COUNT, "activation": set(), "dropout": {"0"}, "batch_norm": FLAG,
         "init": {"None"}, "bias_init": set(), "init_scale": {"None", *NOT_NEGATIVE}},
    ),
    "BatchNorm": (
        BatchNorm,
        {"position": set(), "eps": REAL, "momentum": set(), "form": set()},
    ),
    "Trainer": (
        lambda network_=None, **other: Trainer(network_ or network(), **other),
        {"optimizer": set(), "batch_size": {"None", *COUNT}, "sampling": set(),
         "weight_decay": NOT_NEGATIVE, "perturbation": NOT_NEGATIVE, "clip_norm": {"None", *REAL},
         "clip_value": {"None", *REAL}, "early_stopping": {"None", "True", "False"},
         "stopping": NOTHING, "metrics": NOTHING | CALLABLE,
         "callbacks": {"None", "function", "lambda", *NOTHING}, "restarts": COUNT,
         "on_divergence": set(),
         "seed": {"None", "0", *SMALL_COUNT}, "n_threads": {"None", *SMALL_COUNT},
         "progress": FLAG | {"None"}, "every": COUNT},
    ),
    "SGD": (fastbp.SGD, {"lr": NOT_NEGATIVE | CALLABLE, "momentum": {"0"}, "nesterov": {"False"}}),
    "Adam": (fastbp.Adam, {"lr": NOT_NEGATIVE | CALLABLE, "beta1": {"0"}, "eps": REAL}),
    "AdamW": (fastbp.AdamW, {"weight_decay": NOT_NEGATIVE, "beta2": {"0"}}),
    "RMSprop": (fastbp.RMSprop, {"alpha": {"0"}, "eps": REAL}),
    "Adadelta": (fastbp.Adadelta, {"rho": {"0"}, "eps": REAL}),
    "fit": (
        lambda X=X, y=Y, **other: Trainer(network(), batch_size=4).fit(X, y, **other),
        {"X": set(), "y": set(), "epochs": SMALL_COUNT, "validation": {"None"},
         "sample_weight": {"None"}},
    ),
    "forward": (
        lambda X=X, **other: network().forward(X, **other),
        {"X": set(), "training": FLAG, "seed": {"None", "0", *SMALL_COUNT}},
    ),
    "gradients": (
        lambda X=X, y=Y, **other: network().gradients(X, y, **other),
        {"X": set(), "y": set(), "training": FLAG, "seed": {"None", "0", *SMALL_COUNT},
         "sample_weight": {"None"}},
    ),
    "load": (Network.load, {"path": set()}),
    "load as": (
        lambda **other: Network.load(stored(), **other), {"precision": {"None"}},
    ),
    "save": (lambda path: network().save(path), {"path": set()}),
    "checkpoint": (
        lambda checkpoint: Trainer(network(), checkpoint=checkpoint), {"checkpoint": {"None"}},
    ),
    "trainer.save": (lambda path: Trainer(network()).save(path), {"path": set()}),
    "resume": (lambda path: Trainer(network()).resume(path), {"path": set()}),
    "evaluate": (
        lambda X=X, y=Y, **other: network().evaluate(X, y, **other),
        {"X": set(), "y": set(), "sample_weight": {"None"}},
    ),
}  # fmt: skip
NAMES = {"'4'", "'é\\n'", "long text"}
LEFT_OUT = {
    ("fit", "epochs"): {"2**63", "10**400", "10**5000", "uint64(2**64-1)"},  # train for ever
    ("load", "path"): NAMES,  # paths, if of no file; what the system says of them comes through
    ("resume", "path"): {"None", *NAMES},
    ("save", "path"): NAMES,
    ("trainer.save", "path"): NAMES,
    ("checkpoint", "checkpoint"): NAMES,
}
"""What is not tried."""


def outcome(call: Callable[..., Any], argument: str, value: Any) -> str | None:
    """None where it was taken, or the complaint; anything but a clear one fails the test."""
    try:
        call(**{argument: value})
    except (ValueError, TypeError, MemoryError) as error:
        message = str(error)
    else:
        return None
    named = message.replace("layers: this machine", "inputs: this machine")
    assert argument.partition("_")[0].rstrip("s") in named
    assert "\n" not in message
    assert len(message) < 500
    assert "numba" not in message.lower()
    return message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("door", "argument"), [(door, name) for door, (_, takes) in DOORS.items() for name in takes]
)
def test_each_value(door: str, argument: str) -> None:
    call, takes = DOORS[door]
    tried = VALUES.keys() - LEFT_OUT.get((door, argument), set())
    taken = {name for name in tried if outcome(call, argument, VALUES[name]()) is None}
    assert taken == takes[argument] - LEFT_OUT.get((door, argument), set())


def test_every_argument_of_the_fixed_doors_is_in_the_table() -> None:
    for door, kind in (("Network", Network), ("Dense", Dense), ("BatchNorm", BatchNorm)):
        assert set(inspect.signature(kind).parameters) == set(DOORS[door][1])


def test_nothing_has_changed() -> None:
    """The arrays that came with the bad value, and the network, are what they were."""
    net, before = network(), (X.copy(), Y.copy())
    numbers = net.parameters.copy()
    trainer = Trainer(net, batch_size=4)
    for make in VALUES.values():
        for call in (
            lambda bad: trainer.fit(bad, Y), lambda bad: trainer.fit(X, bad),
            lambda bad: net.forward(bad), lambda bad: net.gradients(X, bad),
        ):  # fmt: skip
            with pytest.raises((ValueError, TypeError)):
                call(make())
    assert np.array_equal(X, before[0])
    assert np.array_equal(Y, before[1])
    assert np.array_equal(net.parameters, numbers)
    assert trainer.epoch == trainer.step == 0


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.filterwarnings("ignore")
def test_estimators(name: str) -> None:
    """Parameters are checked by scikit-learn's rules, which name them; ours add theirs."""
    pytest.importorskip("sklearn")
    cls = getattr(fastbp, name)
    y = Y if name == "MLPClassifier" else X[:, 0]
    kinds = 0
    for parameter in inspect.signature(cls).parameters:
        for label, make in VALUES.items():
            if parameter in {"max_iter", "max_fun"} and label in COUNT:
                continue  # would train for long
            if label == "no repr":
                continue  # scikit-learn shows it
            given = {"max_iter": 1, "hidden_layer_sizes": (2,), "random_state": 0}
            model = cls(**{**given, parameter: make()})
            try:
                model.fit(X, y)
            except (ValueError, TypeError, MemoryError) as error:
                message = str(error)
                assert "numba" not in message.lower()
                assert not hasattr(model, "coefs_") or "too small" in message or label in CALLABLE
                kinds += 1
    assert kinds > 60
    sample = cls(hidden_layer_sizes=(2,), max_iter=1)
    for label, make in VALUES.items():
        if label == "no repr":
            continue
        for bad in ({"X": make(), "y": y}, {"X": X, "y": make()}):
            with pytest.raises((ValueError, TypeError, OverflowError)) as caught:
                sample.fit(**bad)
            assert "numba" not in str(caught.value).lower(), label
    assert not hasattr(sample, "coefs_")


def test_there_are_enough_kinds() -> None:
    assert len(VALUES) >= 60
