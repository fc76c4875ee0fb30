"""Batches that come one by one: the same steps as `fit`, and what a stream alone can meet."""

import itertools

import numpy as np
import pytest

import fastbp
from fastbp import Adam, Dense, Network, Trainer, checkpoint

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 4)).astype("float32")
Y = np.arange(90) % 3


def trainer(batch=10, **options):
    layers = [Dense(8, "relu", batch_norm=True, dropout=0.2), Dense(3, "softmax")]
    options = {"sampling": "order", "perturbation": 0.1, "progress": False, **options}
    return Trainer(Network(4, layers, seed=2), Adam(1e-2), batch, **options)


def batches(size=10):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, 90, size)]


def test_the_bits_of_fit():
    whole, stream = trainer(), trainer(batch=77)
    whole.fit(X, Y, epochs=2, validation=(X, Y))
    history = stream.fit_stream(iter(batches() * 2), steps_per_epoch=9, validation=(X, Y))
    assert np.array_equal(stream.network.parameters, whole.network.parameters)
    assert np.array_equal(stream.state, whole.state)
    assert history.loss == whole.history.loss
    assert history.validation_loss == whole.history.validation_loss
    assert history.gradient_norm == whole.history.gradient_norm
    assert (stream.step, stream.epoch, history.stopped) == (18, 2, "the batches ended")


def test_it_goes_on_and_threads_do_not_matter():
    once, twice = trainer(n_threads=1), trainer(n_threads=2)
    once.fit_stream(batches() * 2, steps_per_epoch=9)
    for _ in range(2):
        twice.fit_stream(batches(), steps_per_epoch=9)
    assert np.array_equal(once.network.parameters, twice.network.parameters)


def test_batches_may_differ_in_size_and_weight():
    items = [(X[:3], Y[:3]), (X[3:40], Y[3:40], np.linspace(0.5, 2, 37)), (X[40:42], Y[40:42])]
    training = trainer()
    history = training.fit_stream(items)
    assert (len(history), training.step) == (1, 3)
    # The mean of the losses met, weighted as the samples: by hand, batch by batch.
    other, total, weight = trainer(perturbation=0.0), 0.0, 0.0
    plain = trainer(perturbation=0.0)
    for step, item in enumerate(items):
        weights = np.ones(len(item[0])) if len(item) == 2 else item[2]
        values = plain.fit_stream([item])
        total, weight = total + values.loss[0] * weights.sum(), weight + weights.sum()
        assert plain.step == step + 1
    # Dropout masks are addressed by epoch and step: here every item was an epoch of its own.
    history = other.fit_stream(items, steps_per_epoch=1)
    sizes = [3.0, np.linspace(0.5, 2, 37).sum(), 2.0]
    assert np.dot(history.loss, sizes) / sum(sizes) == pytest.approx(total / weight, rel=1e-12)


def test_an_epochs_loss_is_the_weighted_mean_of_its_batches():
    # A rate of 0: every batch meets the same network. Sizes grow, and with them the workspace.
    net = Network(4, [Dense(3, "softmax")], dtype="float64", seed=2)
    items = [(X[:3], Y[:3]), (X[3:40], Y[3:40], np.linspace(0.5, 2, 37)), (X[40:90], Y[40:90])]
    weights = np.concatenate([np.ones(3), items[1][2], np.ones(50)])
    history = Trainer(net, fastbp.SGD(0.0), progress=False).fit_stream(items)
    assert history.loss[0] == pytest.approx(net.loss(X, Y, sample_weight=weights), rel=1e-12)


def test_data_without_an_end():
    seen = []

    def endless():
        for number in itertools.count():
            seen.append(number)
            yield batches()[number % 9]

    training = trainer()
    history = training.fit_stream(endless(), epochs=3, steps_per_epoch=4)
    assert (len(history), training.step, history.stopped) == (3, 12, "")
    assert seen == list(range(12))  # no more is taken than was asked for
    stopped = trainer(stopping=fastbp.TimeBudget(1e-9)).fit_stream(endless())
    assert "time budget" in stopped.stopped


def test_rules_callbacks_and_schedules_are_asked_each_epoch():
    epochs = []
    training = trainer(early_stopping=fastbp.EarlyStopping(patience=1, min_delta=1e9))
    history = training.fit_stream(
        itertools.cycle(batches()),
        steps_per_epoch=2,
        validation=(X, Y),
        callbacks=[lambda state: epochs.append(state.epoch)],
    )
    assert epochs == [0, 1]
    assert history.best_epoch == 0
    cosine = trainer()
    cosine.schedule = fastbp.Cosine(1e-2)
    with pytest.raises(ValueError, match="Cosine"):
        cosine.fit_stream(itertools.cycle(batches()))
    assert len(cosine.fit_stream(itertools.cycle(batches()), epochs=2, steps_per_epoch=3)) == 2


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((np.full((3, 4), np.nan), [0, 1, 2]), r"batches\[1\]\[0\]\[0, 0\]=nan is not finite"),
        ((X[:3, :2], Y[:3]), r"batches\[1\]\[0\] has 2 columns but the network has 4 inputs"),
        ((X[:3], [0, 1, 7]), r"batches\[1\]\[1\]\[2\]=7 is not a class"),
        ((X[:3], [0, 1]), r"batches\[1\]\[1\] has 2 rows"),
        ((X[:1], Y[:1]), "batch norm needs at least 2 samples"),
        (X[:3], r"batches\[1\]=.* is a ndarray; give \(X, y\) or"),
        ((X[:3],), "is a tuple of 1 part; give"),
    ],
)
def test_a_bad_item_keeps_the_steps_before_it(item, message):
    training, alone = trainer(), trainer()
    with pytest.raises((ValueError, TypeError), match=message):
        training.fit_stream([batches()[0], item])
    alone.fit_stream(batches()[:1])
    assert np.array_equal(training.network.parameters, alone.network.parameters)
    assert training.step == 1


def test_a_bad_row_of_a_memory_map_is_named(tmp_path):
    stored = X.copy()
    stored[4, 2] = np.nan
    np.save(tmp_path / "X.npy", stored)
    memory = np.load(tmp_path / "X.npy", mmap_mode="r")
    training = trainer()
    with pytest.raises(ValueError, match=r"X\[4, 2\]=nan is not finite"):
        training.fit_stream([batches()[0], (memory[:10], Y[:10])])
    assert training.step == 1


def test_an_iterator_that_fails_keeps_the_steps_before_it():
    def failing():
        yield batches()[0]
        raise OSError("the line is dead")

    training = trainer()
    with pytest.raises(OSError, match="the line is dead"):
        training.fit_stream(failing())
    assert training.step == 1


def test_divergence_goes_back_to_the_last_finite_step():
    net = Network(4, [Dense(3)], seed=1)
    training = Trainer(net, fastbp.SGD(1.0), progress=False)
    with pytest.raises(fastbp.DivergenceError, match="diverged in epoch 0, batch 1"):
        training.fit_stream([(X[:3], X[:3, :3]), (X[:3] * 1e30, X[:3, :3])])
    assert np.isfinite(net.parameters).all()


def test_what_a_stream_cannot_do():
    for wrong in (5, X):
        with pytest.raises(TypeError, match=r"batches=.* for arrays in memory use trainer.fit"):
            trainer().fit_stream(wrong)
    with pytest.raises(ValueError, match="batches gave nothing"):
        trainer().fit_stream([])
    with pytest.raises(ValueError, match=r"validation=0.1 must be \(X, y\)"):
        trainer().fit_stream(batches(), validation=0.1)
    with pytest.raises(ValueError, match=r"metrics=.* are measured on held-out data"):
        trainer(metrics="accuracy").fit_stream(batches())
    with pytest.raises(ValueError, match="steps_per_epoch=0"):
        trainer().fit_stream(batches(), steps_per_epoch=0)


def test_a_checkpoint_that_falls_within_an_epoch_is_written_at_its_end(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(checkpoint, "write", lambda trainer, path: written.append(trainer.step))
    keeper = trainer(checkpoint=tmp_path / "run", every="7 steps")
    keeper.fit_stream(batches() * 5, steps_per_epoch=4)  # 45 steps
    assert written == [8, 16, 24, 28, 36, 44, 45]  # behind 7, 14, 21, 28, 35, 42; the end


def test_an_iterator_may_fill_the_same_arrays_anew():
    """The next item is fetched before the step that takes the one before."""

    def filled(dtype, weighted):
        into = np.empty((10, 4), dtype), np.empty(10, int), np.empty(10, np.float32)
        for x, y in batches():
            for array, values in zip(into, (x, y, 1 + y), strict=True):
                array[...] = values
            yield into if weighted else into[:2]

    for dtype in ("float32", "float64"):
        for weighted in (False, True):
            one, two = trainer(), trainer()
            one.fit_stream(filled(dtype, weighted))
            two.fit_stream([(x, y, 1.0 + y) if weighted else (x, y) for x, y in batches()])
            assert np.array_equal(one.network.parameters, two.network.parameters)


def test_views_and_objects_that_hand_out_their_array_are_copied_too():
    class Box:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array

    for wrap in (Box, lambda array: array[:], np.asarray):
        into = np.empty((10, 4), "f4"), np.empty(10, int)

        def filled(into=into, wrap=wrap):
            for x, y in batches():
                into[0][...], into[1][...] = x, y
                yield wrap(into[0]), into[1]

        one, two = trainer(), trainer()
        one.fit_stream(filled())
        two.fit_stream(batches())
        assert np.array_equal(one.network.parameters, two.network.parameters)


def test_divergence_within_a_later_epoch_keeps_the_items_before_it():
    wide = X.astype("float64")
    items = [(wide[i : i + 10], wide[i : i + 10, 0] * (1e300 if i == 70 else 1.0))
             for i in range(0, 90, 10)]  # fmt: skip

    def fit(items):
        net = Network(4, [Dense(8, "tanh"), Dense(1)], dtype="float64", seed=2)
        training = Trainer(net, Adam(1e-2), on_divergence="warn", progress=False)
        training.fit_stream(items, steps_per_epoch=5)
        return training

    with pytest.warns(RuntimeWarning, match="diverged in epoch 1, batch 2"):
        one = fit(items)
    two = fit(items[:7])
    assert one.step == two.step == 7
    assert np.array_equal(one.network.parameters, two.network.parameters)


def test_a_bad_item_is_named_by_its_number(tmp_path):
    bad = np.array(X)
    bad[25, 1] = np.nan
    np.save(tmp_path / "x.npy", bad)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    items = [(mapped[i : i + 10], Y[i : i + 10]) for i in range(0, 90, 10)]
    with pytest.raises(ValueError, match=r"batches\[2\]: X\[5, 1\]=nan"):
        trainer().fit_stream(items, steps_per_epoch=9)
