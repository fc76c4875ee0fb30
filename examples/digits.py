"""Handwritten digits: train, judge, look inside, store. About a second."""

import fastbp
from fastbp.datasets import load_digits, stratified_split

data = stratified_split(*load_digits())
net = fastbp.Network(
    64,
    [fastbp.Dense(128, "relu", batch_norm=True, dropout=0.2), fastbp.Dense(10, "softmax")],
    loss="cross_entropy",
    seed=0,
)
trainer = fastbp.Trainer(
    net, optimizer=fastbp.Adam(fastbp.Cosine(3e-3)), batch_size=32, metrics="accuracy"
)
history = trainer.fit(data.X_train, data.y_train, epochs=20, validation=(data.X_test, data.y_test))

print(net.summary())
print(history)
print(history.diagnose())
history.report("digits.html", title="Digits")
net.save("digits.safetensors")
print("written: digits.html, digits.safetensors")
