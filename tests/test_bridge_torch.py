"""PyTorch: modules compute what the network computes, train as it trains, and come back."""

import itertools

import numpy as np
import pytest

import fastbp
from fastbp import BatchNorm, Dense, Network
from fastbp.kernels.tables import ACTIVATIONS

torch = pytest.importorskip("torch")
nn = torch.nn

NORMS = [
    False,
    "before",
    "after",
    BatchNorm("before", "sigma", 1e-3, 0.3),
    BatchNorm("after", "sigma"),
]


def network(activation="tanh", batch_norm=False, dropout=0.0, dtype="float64", last="softmax"):
    """Two layers, every number of which is drawn: nothing agrees because it is 0 or 1."""
    layers = [Dense(6, activation, batch_norm=batch_norm, dropout=dropout), Dense(3, last)]
    net = Network(4, layers, dtype=dtype, seed=3)
    rng = np.random.default_rng(5)
    for view in net.tensors().values():
        view[...] = rng.uniform(0.3, 1.5, view.shape) * rng.choice([-1, 1], view.shape)
    for layer in net.layers:
        if layer.running_variance is not None:
            layer.running_variance = np.abs(layer.running_variance)
    return net


def data(dtype="float64", rows=9):
    return np.random.default_rng(1).standard_normal((rows, 4)).astype(dtype)


def same_numbers(one, other):
    mine, theirs = one.tensors(), other.tensors()
    assert mine.keys() == theirs.keys()
    return all(np.array_equal(mine[name], theirs[name]) for name in mine)


def descriptions(net):
    return [(la.units, la.activation, la.batch_norm, la.dropout) for la in net.layers]


@pytest.mark.parametrize("batch_norm", NORMS, ids=str)
@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a != "identity"])
def test_out_and_back(activation, batch_norm):
    net = network(activation, batch_norm, dropout=0.25)
    module, X = net.to_torch(), data()
    with torch.no_grad():
        outputs = module(torch.from_numpy(X)).numpy()
    # Sums of at most 6 terms of order 1 to 10, and a softmax: some hundred roundings.
    assert outputs == pytest.approx(net.forward(X), abs=1e-13)
    again = Network.from_torch(module)
    assert descriptions(again) == descriptions(net)
    assert same_numbers(again, net)
    state = Network.from_torch(module.state_dict(), [layer.description for layer in net.layers])
    assert same_numbers(state, net)
    module[0].weight.data.zero_()  # a copy: the network does not feel it
    assert np.any(net.layers[0].W)


@pytest.mark.parametrize("batch_norm", NORMS, ids=str)
def test_the_module_trains_as_the_network(batch_norm):
    net = network("tanh", batch_norm)
    module, X = net.to_torch(logits=True).train(), data()
    y = np.arange(9) % 3
    loss = nn.CrossEntropyLoss()(module(torch.from_numpy(X)), torch.from_numpy(y))
    loss.backward()
    assert loss.item() == pytest.approx(net.loss(X, y, training=True), rel=1e-12)
    gradient = Network.from_torch(net.to_torch())
    gradient.parameters[:] = net.gradients(X, y)
    assert pytest.approx(gradient.layers[0].W, abs=1e-13) == module[0].weight.grad.numpy().T
    assert pytest.approx(gradient.layers[1].W, abs=1e-13) == module[-1].weight.grad.numpy().T
    if batch_norm:  # the running statistics move alike, too
        fastbp.Trainer(net, fastbp.SGD(0.0), None).fit(X, y)
        norm = next(m for m in module if isinstance(m, nn.BatchNorm1d))
        assert norm.running_mean.numpy() == pytest.approx(net.layers[0].running_mean, abs=1e-13)
        assert norm.running_var.numpy() == pytest.approx(net.layers[0].running_variance, abs=1e-13)
        assert norm.weight.grad.numpy() == pytest.approx(gradient.layers[0].gamma, abs=1e-13)


def test_sigma_norm_of_a_constant_column_has_finite_gradients():
    module = network(batch_norm=BatchNorm(form="sigma")).to_torch().train()
    module(torch.ones(5, 4, dtype=torch.float64)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_dtypes():
    for dtype, theirs in (("float32", torch.float32), ("float64", torch.float64)):
        net = network(dtype=dtype)
        assert {p.dtype for p in net.to_torch().parameters()} == {theirs}
        assert Network.from_torch(net.to_torch()).dtype == dtype
    assert Network.from_torch(nn.Linear(2, 3).half()).dtype == "float32"
    assert Network.from_torch(nn.Linear(2, 3), dtype="float64").dtype == "float64"


def test_what_people_write():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(),
        nn.Identity(),
        nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.ReLU()),
        nn.Sequential(nn.Linear(8, 6), nn.Dropout(0.1), nn.LeakyReLU(), nn.Identity()),
        nn.Linear(6, 3),
    ).double()
    module(torch.from_numpy(data()))  # moves the running statistics off 0 and 1
    X = data()
    net = Network.from_torch(module, output="softmax", loss="cross_entropy", seed=7)
    expected = torch.softmax(module.eval()(torch.from_numpy(X)), 1).detach().numpy()
    assert net.forward(X) == pytest.approx(expected, abs=1e-14)
    assert (net.seed, net.loss_name) == (7, "cross_entropy")
    assert [la.dropout for la in net.layers] == [0.0, 0.1, 0.0]


def test_a_bias_before_batch_norm_is_taken_off_the_mean():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1)).double()
    X = torch.from_numpy(data())
    module(X)
    net = Network.from_torch(module)
    assert net.forward(X.numpy()) == pytest.approx(module.eval()(X).detach().numpy(), abs=1e-14)
    state = Network.from_torch(module.state_dict(), ["tanh", "identity"])
    assert same_numbers(net, state)
    y = X[:, :1]
    module.train()
    expected = ((module(X) - y) ** 2).sum(1).mean().item()
    assert net.loss(X.numpy(), y.numpy(), training=True) == pytest.approx(expected, rel=1e-12)


def test_a_state_dict_of_any_module():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)

        def forward(self, x):
            return self.second(self.norm(torch.relu(self.first(x))))

    module = Model().eval()
    module.norm.running_mean += 0.5
    layers = [Dense(5, "relu", batch_norm="after"), "identity"]
    net = Network.from_torch(module.state_dict(), layers)
    X = data("float32")
    # float32: sums of 5 products of order 1.
    assert net.forward(X) == pytest.approx(module(torch.from_numpy(X)).detach().numpy(), abs=1e-5)
    with pytest.raises(TypeError, match=r"source is a Model.*give an nn.Sequential, or"):
        Network.from_torch(module)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.LogSoftmax(1)), "give output='softmax'"),
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.Conv1d(1, 1, 1)), "Conv1d 1 has no counterpart"),
        (
            lambda: nn.Sequential(nn.Linear(4, 2), nn.LeakyReLU(0.2)),
            "negative_slope=0.2; a network",
        ),
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.GELU("tanh")), "approximate='tanh'"),
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.Softmax(0)), "Softmax 1 has dim=0"),
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Tanh()), "Tanh 2 stands where"),
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5), nn.Tanh()), "Tanh 2 stands where"),
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.Linear(3, 2)), "has 3 inputs, but Linear 0"),
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(3)), "normalises 3 units"),
        (lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2, momentum=None)), "momentum=None"),
        (
            lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2, track_running_stats=False)),
            "track_running_stats",
        ),
        (lambda: nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 2)), r"Trainer\(perturbation"),
        (lambda: nn.Sequential(nn.ReLU()), "ReLU 0 comes before the first Linear"),
        (lambda: nn.Sequential(), "no nn.Linear"),
        (dict, "empty state dict"),
        (lambda: "net.pt", r"source='net.pt' must be .*; give torch.load\('net.pt'\)"),
        (lambda: [1], r"source=\[1\] must be an nn.Sequential or a state dict"),
        (lambda: {"a.weight": torch.zeros(3)}, "a holds weight: neither"),
        (
            lambda: nn.Linear(4, 2).state_dict(),
            r"does not say its activations; give layers=\[Dense\(2, ...\)\]",
        ),
    ],
)
def test_what_a_network_has_not_is_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Network.from_torch(make())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Dense(3), "relu"], "must describe 1 layer"),
        ([Dense(3)], r"layers\[0\]=Dense\(units=3.* does not fit source\['weight'\]"),
        ([Dense(2, batch_norm=True)], "does not fit"),
        (["rellu"], "did you mean 'relu'"),
        ([2], r"layers\[0\]=2 must be a Dense"),
        ("relu", "must describe 1 layer"),
    ],
)
def test_layers_that_do_not_fit_a_state_dict(layers, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Network.from_torch(nn.Linear(4, 2).state_dict(), layers)


def test_output_and_logits_need_a_bare_end():
    with pytest.raises(ValueError, match="output='softmax', but Linear 0 has an activation"):
        Network.from_torch(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), output="softmax")
    net = Network(2, [Dense(1, "identity", dropout=0.5)])
    with pytest.raises(
        ValueError, match="logits=True: layer 0, the last, has batch norm or dropout"
    ):
        net.to_torch(logits=True)
    assert [type(m) for m in Network(2, [Dense(1, "sigmoid")]).to_torch(logits=True)] == [nn.Linear]


def test_a_module_that_comes_twice_is_there_twice():
    act, square = nn.ReLU(), nn.Linear(8, 8)
    module = nn.Sequential(nn.Linear(4, 8), act, square, act, square, act, nn.Linear(8, 2))
    net = Network.from_torch(module)
    X = np.random.default_rng(0).standard_normal((9, 4)).astype("float32")
    want = module(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(net.forward(X), want, rtol=0, atol=1e-6)


def test_what_a_module_does_by_itself_is_refused():
    class Doubled(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    for module, message in (
        (Doubled(nn.Linear(2, 2)), "Doubled, whose forward can do anything"),
        (nn.Sequential(nn.Linear(2, 2), Doubled(nn.Linear(2, 2))), "Doubled, whose forward can"),
        (Shifted(2, 2), "Shifted, whose forward can do anything"),
    ):
        with pytest.raises(TypeError, match=message):
            Network.from_torch(module)
    with pytest.raises(ValueError, match="Shifted 1 has no counterpart"):
        Network.from_torch(nn.Sequential(nn.Linear(2, 2), Shifted(2, 2)))
    hooked = nn.Sequential(nn.Linear(2, 2))
    hooked[0].register_forward_hook(lambda module, given, out: 2 * out)
    with pytest.raises(ValueError, match="Linear 0 has forward hooks"):
        Network.from_torch(hooked)
    with pytest.raises(ValueError, match=r"has threshold=0.1; a network's softplus has 20"):
        Network.from_torch(nn.Sequential(nn.Linear(2, 2), nn.Softplus(threshold=0.1)))


def test_parts_that_do_something_else_are_refused_and_pruned_ones_are_taken():
    class Norm(nn.BatchNorm1d):
        def forward(self, x):
            return 2 * x

    class Drop(nn.Dropout):
        def forward(self, x):
            return 2 * x

    patched = nn.ReLU()
    patched.forward = lambda x: 2 * x
    for part in (Norm(4), Drop(0.5), patched):
        with pytest.raises(ValueError, match="has no counterpart in a network"):
            Network.from_torch(nn.Sequential(nn.Linear(4, 4), part))
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    prune = pytest.importorskip("torch.nn.utils.prune")
    prune.l1_unstructured(module[0], "weight", amount=0.5)
    X = np.random.default_rng(0).standard_normal((5, 4)).astype("float32")
    want = module(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(Network.from_torch(module).forward(X), want, rtol=0, atol=1e-6)


def test_batch_norm_behind_no_activation_keeps_its_side() -> None:
    net = Network(3, [Dense(2, batch_norm="after"), Dense(1)], loss="squared_error", seed=0)
    net.layers[0].b = np.array([0.5, -1.0])
    back = Network.from_torch(net.to_torch())
    assert back.layers[0].batch_norm.position == "after"
    np.testing.assert_array_equal(back.parameters, net.parameters)
    placeholder = nn.Sequential(nn.Linear(3, 2), nn.Identity(), nn.BatchNorm1d(2), nn.ReLU())
    found = Network.from_torch(placeholder.eval()).layers[0]
    assert (found.batch_norm.position, found.activation) == ("before", "relu")


@pytest.mark.parametrize(
    ("modules", "words"),
    [([nn.Linear(2, 2), nn.BatchNorm1d(2, momentum=0.0)], "BatchNorm1d 1: momentum=0.0"),
     ([nn.Linear(2, 2), nn.BatchNorm1d(2, eps=0.0)], "BatchNorm1d 1: eps=0.0"),
     ([nn.Linear(2, 2), nn.Dropout(1.0)], "Dropout 1: dropout=1.0"),
     ([nn.Linear(2, 2, device="meta")], "Linear 0 is on the meta device")],
)  # fmt: skip
def test_what_a_network_refuses_names_the_module(modules, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Network.from_torch(nn.Sequential(*modules))


def test_a_state_dict_is_read_by_its_numbers():
    """As safetensors hands it out: counters first, and 10 before 2."""
    net = Network(5, [Dense(5, "tanh", batch_norm=True) for _ in range(5)], seed=1)
    state = net.to_torch().state_dict()
    assert "10.weight" in state
    keys = sorted(state, key=lambda key: (state[key].dtype != torch.int64, key))
    back = Network.from_torch({key: state[key] for key in keys}, ["tanh"] * 5)
    same_numbers(back, net)
    # Names that differ otherwise are taken as they come.
    named = nn.Sequential()
    named.add_module("second", nn.Linear(2, 3))
    named.add_module("first", nn.Linear(3, 1))
    assert Network.from_torch(named.state_dict(), ["tanh", "identity"]).inputs == 2


def test_a_dropout_of_nothing_is_no_part():
    plain = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh())
    module = nn.Sequential(plain[0], nn.Dropout(0.0), plain[1], nn.Dropout(0.0), plain[2])
    assert same_numbers(Network.from_torch(module), Network.from_torch(plain))


def as_in_a_file(module):
    """Its numbers as safetensors hands them out."""
    return dict(sorted(module.state_dict().items()))


def chain(names, widths, bias=True):
    """Linear layers by name, in this order."""
    module, pairs = nn.Sequential(), itertools.pairwise(widths)
    for name, (inputs, outputs) in zip(names, pairs, strict=True):
        parent, _, own = name.rpartition(".")
        if parent:
            module.add_module(parent, nn.Sequential())
        module.get_submodule(parent).add_module(own, nn.Linear(inputs, outputs, bias))
    return module


@pytest.mark.parametrize("name", ["fc{}", "{}.0", "block{}.linear"])
def test_layers_of_a_file_are_in_the_order_of_their_numbers(name):
    module = chain(list(map(name.format, range(1, 13))), [4] * 13)
    net = Network.from_torch(as_in_a_file(module), ["identity"] * 12)
    X = data("float32")
    # float32: 12 layers of sums of 4 products of order 1.
    assert net.forward(X) == pytest.approx(module(torch.from_numpy(X)).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("widths", [[4, 4, 4, 4], [4, 8, 8, 4], [8, 4, 8], [2, 3, 4, 3, 2, 3]])
def test_a_file_whose_layers_fit_in_several_orders_is_refused(widths):
    names = ["inp", "hidden", "out", "rest", "tail"][: len(widths) - 1]
    state = as_in_a_file(chain(sorted(names), widths))
    with pytest.raises(ValueError, match=r"order of the alphabet.*name the layers by their places"):
        Network.from_torch(state, ["identity"] * len(names))
    places = {name: place for place, name in enumerate(sorted(names))}
    numbered = {f"{places[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in state.items()}
    assert Network.from_torch(numbered, ["identity"] * len(names)).inputs == widths[0]


@pytest.mark.parametrize("bias", [True, False])
def test_a_module_s_own_order_and_one_that_alone_fits_are_taken(bias):
    module = chain(["inp", "out", "zero"], [4, 4, 4, 4], bias)
    net = Network.from_torch(module.state_dict(), ["identity"] * 3)
    assert np.array_equal(net.layers[1].W, module.out.weight.detach().numpy().T)
    alone = as_in_a_file(chain(["a", "b", "c"], [4, 8, 8, 2], bias))
    assert Network.from_torch(alone, ["identity"] * 3).inputs == 4


@pytest.mark.parametrize("how", ["pruned", "spectral"])
def test_weights_that_hooks_form_are_those_of_the_next_pass(how):
    """Right after a step of the optimizer the module still holds those of the pass before."""
    prune = pytest.importorskip("torch.nn.utils.prune")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    if how == "pruned":
        prune.l1_unstructured(module[0], "weight", 0.3)
    else:
        torch.nn.utils.spectral_norm(module[0])
    x = torch.from_numpy(data("float32"))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    net = Network.from_torch(module)
    assert module.training
    assert module[0].weight.grad_fn is not None  # as after a pass: a penalty on it has a gradient
    module.eval()
    wanted = module(x).detach().numpy()
    assert np.abs(net.forward(x.numpy()) - wanted).max() < 1e-6
