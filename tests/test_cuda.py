"""CUDA: what is said without a card, what is compiled; the card's own tests where there is one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp

HERE = Path(__file__).parent
WAY_OUT = "pip install --upgrade 'fastbp[cuda12]' or 'fastbp[cuda13]'"
MEASURES = HERE.parent / "benchmarks" / "cuda.py"


def has_card() -> bool:
    from fastbp.devices import cuda_problem

    return not cuda_problem()


@pytest.mark.slow
@pytest.mark.skipif(not MEASURES.is_file(), reason="the tests run outside the source tree")
def test_what_measures_a_card_is_rehearsed(tmp_path, python):
    """In the simulator, `fastbp bench --device cuda` and its check of the losses included."""
    file = tmp_path / "card.json"
    given = "-m", "benchmarks.cuda", "--rehearse", "--json", str(file)
    done = python(*given, NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["same bits"] is True
    assert found["seconds of a fit"] > 0
    assert all(us > 0 for us in found["blocks"]["5-4-3:4"].values())
    assert {row["product"] for row in found["products"]} == {"A W", "dZ W^T", "A^T dZ"}
    # A difference of two times, which noise may make negative: its sign says nothing here.
    assert isinstance(found["a meeting, us"]["1"], float)
    assert found["peers"]["device"] == "cuda"
    (entry,) = found["peers"]["shapes"]
    losses = {row["peer"]: row["loss"] for row in entry["rows"]}
    # float32, two steps: as for every peer (`bench.peers.Spec.tolerance`).
    assert losses == {"fastbp": pytest.approx(entry["expected"], rel=1e-4)}
    assert {out["peer"] for out in entry["left_out"]} <= {"torch", "torch.compile", "jax"}
    assert "roof (cuBLAS, 2048 x 2048 x 2048, float32; threads): " in done.stdout


@pytest.mark.gpu
def test_on_a_card(python):
    if not has_card():
        pytest.skip("there is no CUDA device; the simulator's run stands for it")
    done = python("-m", "pytest", "-q", str(HERE / "card"), FASTBP_TEST_CARD="1")
    assert done.returncode == 0, done.stdout[-4000:]


def test_import_brings_nothing_of_cuda(python):
    code = "import sys, fastbp; print([m for m in sys.modules if 'cuda' in m])"
    found = python("-c", code).stdout.strip()
    assert found == "[]"


def test_without_a_driver_one_line_says_so(python):
    if has_card():
        pytest.skip("there is a card")
    net = fastbp.Network(2, [fastbp.Dense(1)])
    for ask in (
        lambda: net.to("cuda"),
        lambda: fastbp.Network(2, [fastbp.Dense(1)], device="cuda"),
    ):
        with pytest.raises(RuntimeError, match=r"device='cuda' cannot be used: .*nvidia-smi"):
            ask()
    assert net.device == "cpu"
    assert net.to("cpu") is net


@pytest.mark.parametrize("has,fits", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_card_too_old_for_the_kernels_is_refused(has, fits, monkeypatch):
    from fastbp.kernels.cuda import shim

    device = SimpleNamespace(compute_capability=has)
    card = SimpleNamespace(is_available=lambda: True, get_current_device=lambda: device)
    monkeypatch.setattr(shim, "cuda", card)
    found = shim.problem()
    assert found == "" if fits else "7.5, and the kernels need 8.0" in found


def test_a_default_stream_for_each_thread_is_refused(monkeypatch):
    from fastbp.kernels.cuda import shim

    device = SimpleNamespace(compute_capability=(9, 0))
    card = SimpleNamespace(is_available=lambda: True, get_current_device=lambda: device)
    monkeypatch.setattr(shim, "cuda", card)
    for name in shim.PER_THREAD:
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert shim.problem().startswith(f"{name} is set")
        assert shim.problem() == ""


def test_unknown_devices_are_refused():
    with pytest.raises(ValueError, match=r"device='gpu'.*cuda"):
        fastbp.Network(2, [fastbp.Dense(1)], device="gpu")


class OnCard:
    """An array that says it lies on a card."""

    @property
    def __cuda_array_interface__(self):
        return {"shape": (2, 2), "typestr": "<f4", "data": (0, False), "version": 3}


def test_a_cards_array_on_the_cpu_is_refused_with_the_way_out():
    net = fastbp.Network(2, [fastbp.Dense(1)])
    with pytest.raises(TypeError, match=r"X \(OnCard\) lies on a CUDA device.*to\('cuda'\)"):
        net.forward(OnCard())


class Differentiated:
    """A tensor on a card of which torch lends nothing before it is detached."""

    def __dlpack_device__(self):
        return 2, 0

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")


def test_a_tensor_that_requires_a_gradient_gets_the_same_line():
    net = fastbp.Network(2, [fastbp.Dense(1)])
    with pytest.raises(TypeError, match=r"X \(Differentiated\) lies on a CUDA device"):
        net.forward(Differentiated())


def test_missing_target_names_the_extra(python):
    code = (
        "import sys; sys.modules['numba.cuda'] = None\n"
        "import fastbp\n"
        "try: fastbp.Network(2, [fastbp.Dense(1)], device='cuda')\n"
        "except ImportError as error: print(error)"
    )
    assert WAY_OUT in python("-c", code).stdout


def test_a_target_that_does_not_go_with_numba_is_named(python, tmp_path):
    """As numba-cuda 0.24.0 fails beside Numba 0.68: with an AttributeError."""
    (tmp_path / "older.py").write_text(
        "import sys\n"
        "from importlib import metadata\n"
        "class Older:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'numba.cuda': raise AttributeError('no NPDatetime')\n"
        "sys.meta_path.insert(0, Older())\n"
        "version = metadata.version\n"
        "metadata.version = lambda name: '0.24.0' if name == 'numba-cuda' else version(name)\n"
        "import fastbp\n"
        "try: fastbp.Network(2, [fastbp.Dense(1)], device='cuda')\n"
        "except ImportError as error: print(error)\n"
    )
    said = python(str(tmp_path / "older.py")).stdout
    assert "numba-cuda 0.24.0 fails with Numba 0." in said
    assert WAY_OUT in said
    assert "no NPDatetime" in said


def test_products_compile_for_hopper(python):
    """The main product to PTX: the tensor cores', copies of 16 bytes, nothing in memory."""
    done = python(str(HERE / "ptx.py"), "--only", "linear")
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_the_hosts_part_without_a_card(python):
    """What the simulator cannot find: a helper of kernels called by the host."""
    done = python(str(HERE / "dry_card.py"))
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "run_steps" in done.stdout


def test_shapes_of_the_simulator_do_not_leak():
    """Tiles on a card and in the simulator are other numbers; this process has the card's."""
    from fastbp.kernels.cuda.tiles import LARGE, SMALL, THREADS, TILES

    tiles = TILES[np.float32]
    assert (THREADS, tiles[SMALL].rows, tiles[LARGE].rows) == (256, 32, 64)
