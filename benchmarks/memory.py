"""Peak memory of the whole process while training; the data are part of it."""

from .common import NAMES, SHAPES, Suite, make_task, network, trainer


class Peak(Suite):
    """One epoch of each named shape."""

    params = NAMES
    param_names = ["shape"]

    def setup(self, name):
        self.task = make_task(SHAPES[name])

    def peakmem_data(self, name):
        """The process with its data, before anything is trained: the base line."""

    def peakmem_fit(self, name):
        shape = SHAPES[name]
        trainer(shape, network(shape)).fit(self.task.X, self.task.y, epochs=1)
