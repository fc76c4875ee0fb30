"""Inference: one row at a time, and many."""

from .common import DEVICES, NAMES, SHAPES, Suite, make_task, network, on


class Forward(Suite):
    """`net.forward` and `net.predict` of each named shape."""

    params = [NAMES, [1, 1024], DEVICES]
    param_names = ["shape", "rows", "device"]

    def setup(self, name, rows, device):
        self.net = on(network(SHAPES[name]), device)
        self.X = make_task(SHAPES[name]).X[:rows].copy()
        self.time_forward(name, rows, device)
        self.time_predict(name, rows, device)

    def time_forward(self, name, rows, device):
        self.net.forward(self.X)

    def time_predict(self, name, rows, device):
        self.net.predict(self.X)
