"""Regression of a wave: which step size, then a training that stops by itself."""

import numpy as np

import fastbp

rng = np.random.default_rng(0)
X = rng.uniform(-3, 3, (600, 1))
y = np.sin(2 * X[:, 0]) + 0.1 * rng.standard_normal(600)


def network() -> fastbp.Network:
    """Two hidden layers of 32."""
    return fastbp.Network(1, [fastbp.Dense(32, "tanh"), fastbp.Dense(32, "tanh"), fastbp.Dense(1)])


found = fastbp.Trainer(network(), "adam").find_rate(X, y, steps=100)
print(found)

net = network()
stop = fastbp.EarlyStopping(patience=10)
trainer = fastbp.Trainer(net, optimizer=fastbp.Adam(found.rate), early_stopping=stop)
history = trainer.fit(X, y, epochs=200, validation=0.2)
print(history)
print(f"root mean squared error {net.loss(X, y) ** 0.5:.3f}; the noise alone has 0.1")
