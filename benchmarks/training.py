"""Training: an epoch of each named shape, its variations, and what an epoch buys."""

import fastbp
from fastbp.datasets import load_digits, stratified_split

from .common import DEVICES, NAMES, SHAPES, Suite, make_task, network, on, trainer


class Step(Suite):
    """One epoch of `Shape.steps` steps of each named shape, momentum SGD: the headline."""

    params = [NAMES, [1, None], DEVICES]
    param_names = ["shape", "n_threads", "device"]

    def setup(self, name, n_threads, device):
        if device != "cpu" and n_threads is not None:
            raise NotImplementedError("threads are the CPU's")
        self.task = make_task(SHAPES[name])
        net = on(network(SHAPES[name]), device)
        self.trainer = trainer(SHAPES[name], net, n_threads=n_threads)
        self.time_epoch(name, n_threads, device)

    def time_epoch(self, name, n_threads, device):
        self.trainer.fit(self.task.X, self.task.y, epochs=1)


class Variations(Suite):
    """`mnist` with one thing changed: what each feature costs beside the plain step."""

    params = ["plain", "tanh", "sigmoid", "batch_norm", "dropout", "weight_decay", "float64"]
    param_names = ["change"]
    shape = SHAPES["mnist"]

    def setup(self, change):
        fields = {
            "tanh": {"activation": "tanh"},
            "sigmoid": {"activation": "sigmoid"},
            "batch_norm": {"batch_norm": True},
            "dropout": {"dropout": 0.2},
        }.get(change, {})
        task = make_task(self.shape)
        net = network(self.shape, "float64" if change == "float64" else "float32", **fields)
        self.X, self.y = task.X.astype(net.parameters.dtype), task.y
        options = {"weight_decay": 1e-4} if change == "weight_decay" else {}
        self.trainer = trainer(self.shape, net, **options)
        self.time_epoch(change)

    def time_epoch(self, change):
        self.trainer.fit(self.X, self.y, epochs=1)


class Optimizers(Suite):
    """`mnist` under each optimizer."""

    params = ["SGD", "Momentum", "Nesterov", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW"]
    param_names = ["optimizer"]
    shape = SHAPES["mnist"]

    def setup(self, name):
        momentum = {"Momentum": {"momentum": 0.9}, "Nesterov": {"momentum": 0.9, "nesterov": True}}
        kind = fastbp.SGD if name in momentum else getattr(fastbp, name)
        self.task = make_task(self.shape)
        optimizer = kind(1e-3, **momentum.get(name, {}))
        self.trainer = trainer(self.shape, network(self.shape), optimizer)
        self.time_epoch(name)

    def time_epoch(self, name):
        self.trainer.fit(self.task.X, self.task.y, epochs=1)


class Digits(Suite):
    """A fixed budget on the digits, and the accuracy that it buys: watched side by side."""

    def setup(self):
        self.split = stratified_split(*load_digits())
        self.fit()

    def fit(self):
        layers = [fastbp.Dense(64, "relu"), fastbp.Dense(10, "softmax")]
        net = fastbp.Network(64, layers, loss="cross_entropy", seed=0)
        work = fastbp.Trainer(net, optimizer=fastbp.Adam(3e-3), batch_size=32, progress=False)
        work.fit(self.split.X_train, self.split.y_train, epochs=20)
        return net

    def time_fit(self):
        self.fit()

    def peakmem_fit(self):
        self.fit()

    def track_accuracy(self):
        """Per cent of the held-out digits."""
        split = self.split
        return 100.0 * float((self.fit().predict(split.X_test) == split.y_test).mean())

    track_accuracy.unit = "%"
