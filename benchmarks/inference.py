"""Inference: one row at a time, and many."""

from .common import NAMES, SHAPES, Suite, make_task, network


class Forward(Suite):
    """`net.forward` and `net.predict` of each named shape."""

    params = [NAMES, [1, 1024]]
    param_names = ["shape", "rows"]

    def setup(self, name, rows):
        self.net = network(SHAPES[name])
        self.X = make_task(SHAPES[name]).X[:rows].copy()
        self.time_forward(name, rows)
        self.time_predict(name, rows)

    def time_forward(self, name, rows):
        self.net.forward(self.X)

    def time_predict(self, name, rows):
        self.net.predict(self.X)
