"""Back-propagation by hand: every quantity of the notes for one sample, and where it comes from."""

import numpy as np

import fastbp
from fastbp import notes

net = fastbp.Network(3, [fastbp.Dense(4, "tanh"), fastbp.Dense(2, "softmax")], dtype="float64")
x, y = np.array([[0.5, -1.0, 2.0]]), np.array([1])
trace = net.trace(x, y)
for name in ("Z", "A", "dL/dA", "dL/dZ", "dL/dW", "dL/dW0"):
    print(f"{name} of the last layer: {np.round(trace[name][-1], 4).tolist()}")

# The same by the notes' explicit Jacobians: column vectors, one sample.
layers = [(layer.W, notes.column(layer.b), layer.activation) for layer in net.layers]
by_hand = notes.trace(layers, x[0], np.eye(2)[y[0]], "cross_entropy")
difference = abs(by_hand[1]["dL/dW"] - trace["dL/dW"][0]).max()
print("largest difference between notes and kernels:", difference)
assert difference < 1e-14
print("gradient check:", fastbp.check_gradients(net, x, y))
