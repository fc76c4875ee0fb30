"""fastbp: back-propagation, compiled.

The fastest way to train a multilayer perceptron from Python, with the mathematics of the
back-propagation lecture notes visible in the code.

>>> import fastbp
>>> net = fastbp.Network(2, [fastbp.Dense(8, "tanh"), fastbp.Dense(1, "sigmoid")], seed=1)
>>> trainer = fastbp.Trainer(net, optimizer=fastbp.Adam(0.05), batch_size=4)
>>> history = trainer.fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], epochs=200)
>>> net.predict([[0, 1], [1, 1]]).tolist()
[1, 0]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _requirements as _requirements
from .callbacks import Callback, State
from .divergence import DivergenceError
from .gradcheck import check_gradients
from .history import History
from .layers import BatchNorm, Dense, Layer
from .many import fit_many
from .network import Network
from .optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop
from .plateau import ReduceOnPlateau
from .rates import Constant, Schedule
from .schedules import (
    Cosine,
    Exponential,
    InverseTime,
    OneCycle,
    StepDecay,
    Warmup,
)
from .stopping import EarlyStopping, NoChange, SmallGradient, Stopping, TimeBudget
from .trainer import Trainer
from .warmup import warmup

__version__ = "0.1.0"

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "BatchNorm", "Callback", "Constant", "Cosine",
    "Dense", "DivergenceError", "EarlyStopping", "Exponential", "History", "InverseTime", "Layer",
    "Network", "NoChange", "OneCycle", "Optimizer", "RMSprop", "ReduceOnPlateau", "Schedule",
    "SmallGradient", "State", "StepDecay", "Stopping", "TimeBudget", "Trainer", "Warmup",
    "check_gradients", "fit_many", "warmup",
]  # fmt: skip

_ESTIMATORS = ("MLPClassifier", "MLPRegressor")
_WHEN_ASKED_FOR = ("bench", "datasets", "distributed", "notes", "trace")

if TYPE_CHECKING:
    from . import bench as bench
    from . import datasets as datasets
    from . import distributed as distributed
    from . import notes as notes
    from . import trace as trace
    from .sklearn_api import MLPClassifier as MLPClassifier
    from .sklearn_api import MLPRegressor as MLPRegressor
else:

    def __getattr__(name: str) -> Any:
        """What is imported when it is first asked for.

        Parts of the package, and the estimators, which need the extra fastbp[sklearn].
        """
        if name in _WHEN_ASKED_FOR:
            return import_module(f"{__name__}.{name}")
        if name not in _ESTIMATORS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from . import sklearn_api
        except ImportError as error:
            raise ImportError(
                f"fastbp.{name} needs scikit-learn 1.6 or later: pip install 'fastbp[sklearn]' "
                f"({error})"
            ) from error
        return getattr(sklearn_api, name)


def __dir__() -> list[str]:
    """The estimators among the names only where they can be had: whoever lists also looks."""
    from importlib.util import find_spec

    return sorted({*globals(), *_WHEN_ASKED_FOR, *(_ESTIMATORS if find_spec("sklearn") else ())})
