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

from .callbacks import Callback, State
from .gradcheck import check_gradients
from .history import History
from .layers import BatchNorm, Dense, Layer
from .network import Network
from .optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop
from .run import DivergenceError
from .schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseTime,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
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
    "check_gradients", "warmup",
]  # fmt: skip
