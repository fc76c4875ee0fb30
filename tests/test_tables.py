"""Whatever lists the activations, losses, optimizers and metrics lists all of them."""

import re
from pathlib import Path

import pytest

import fastbp
from fastbp import Dense, Network, check_gradients, complexstep, notes
from fastbp.kernels.tables import ACTIVATIONS, LOSSES
from fastbp.optimizers import OPTIMIZERS
from fastbp.scores import METRICS

README = Path(__file__).resolve().parent.parent / "README.md"


def readme_row(name):
    """The words of a row of README's table of what there is."""
    if not README.is_file():
        pytest.skip("the tests run outside the source tree")
    (row,) = re.findall(rf"^\| {name} \| (.*) \|$", README.read_text(), re.MULTILINE)
    return re.split(r"[,;] ", row)


@pytest.mark.parametrize(
    ("row", "names"), [("activations", ACTIVATIONS), ("losses", LOSSES), ("metrics", METRICS)]
)
def test_readme_lists(row, names):
    assert readme_row(row)[: len(names)] == [*names]


def test_readme_lists_the_optimizers():
    assert [word.lower() for word in readme_row("optimizers")][: len(OPTIMIZERS)] == [*OPTIMIZERS]


def test_optimizers_are_public():
    assert {type(make()).__name__ for make in OPTIMIZERS.values()} <= {*fastbp.__all__}


def test_the_notes_have_every_activation_and_loss():
    assert [*notes.ACTIVATIONS] == [*ACTIVATIONS]
    assert {*notes.LOSSES} >= {*LOSSES}
    assert {*ACTIVATIONS, *LOSSES} <= {*notes.__all__}


def test_the_complex_step_has_every_activation_and_loss():
    assert [*complexstep.ACTIVATIONS] == [*ACTIVATIONS]
    assert [*complexstep.TERMS] == [*LOSSES]


def test_pytorch_has_a_module_for_every_activation():
    pytest.importorskip("torch")
    from fastbp.bridges.torch_modules import MODULES

    assert [*MODULES] == [*ACTIVATIONS]


def test_onnx_has_operators_for_every_activation():
    pytest.importorskip("onnx")
    from fastbp.bridges.onnx_graph import ACTIVATIONS as OPERATORS

    assert [*OPERATORS] == [*ACTIVATIONS]


def lacking(monkeypatch, table):
    """A network whose activation a table has no more."""
    monkeypatch.delitem(table, "gelu")
    return Network(2, [Dense(2, "gelu")], seed=0), "activation='gelu' has no "


def test_what_the_complex_step_lacks_is_named(monkeypatch):
    net, words = lacking(monkeypatch, complexstep.ACTIVATIONS)
    with pytest.raises(NotImplementedError, match=words + "form for complex numbers"):
        check_gradients(net, [[1, 2]], [[1, 2]], method="complex")


def test_what_pytorch_lacks_is_named(monkeypatch):
    pytest.importorskip("torch")
    from fastbp.bridges.torch_modules import MODULES

    net, words = lacking(monkeypatch, MODULES)
    with pytest.raises(NotImplementedError, match=words + "PyTorch module"):
        net.to_torch()


def test_what_onnx_lacks_is_named(monkeypatch):
    pytest.importorskip("onnx")
    from fastbp.bridges.onnx_graph import ACTIVATIONS as OPERATORS

    net, words = lacking(monkeypatch, OPERATORS)
    with pytest.raises(NotImplementedError, match=words + "ONNX operators"):
        net.to_onnx()
