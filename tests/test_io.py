"""Stored networks: what is saved comes back, and a hostile file gets a clear refusal, cheaply."""

import importlib
import json
import os
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fastbp
from fastbp import io
from fastbp._header import MAX_HEADER


class Stored:
    """The three methods of a network that storing it needs, and nothing else."""

    def __init__(self, inputs, layers, dtype="float32"):
        self.description = {"inputs": inputs, "layers": layers, "dtype": dtype, "loss": "nllm"}
        self.arrays = {}
        for index, layer in enumerate(layers):
            if layer["activation"] not in {"relu", "softmax"}:
                raise ValueError(f"activation {layer['activation']!r} is not known")
            shapes = {"W": (inputs, layer["units"]), "b": (layer["units"],)}
            for name, shape in shapes.items():
                self.arrays[f"layers.{index}.{name}"] = np.zeros(shape, dtype)
            inputs = layer["units"]

    def architecture(self):
        return self.description

    def tensors(self):
        return self.arrays

    @classmethod
    def from_architecture(cls, architecture):
        return cls(architecture["inputs"], architecture["layers"], architecture["dtype"])


LAYERS = [{"units": 4, "activation": "relu"}, {"units": 2, "activation": "softmax"}]


def filled(dtype="float32"):
    net, rng = Stored(3, LAYERS, dtype), np.random.default_rng(0)
    for view in net.tensors().values():
        view[...] = rng.standard_normal(view.shape)
    return net


@pytest.fixture
def good(tmp_path):
    """A stored network as (header, data), to be spoiled by a test."""
    path = tmp_path / "good.safetensors"
    io.save(filled(), path)
    blob = path.read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    return json.loads(blob[8 : 8 + length]), blob[8 + length :]


def assemble(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def described(**architecture):
    """The metadata of a good file with some fields of the architecture replaced."""
    fields = {**filled().architecture(), **architecture}
    text = json.dumps({"format": 1, "version": "0.1.0", "architecture": fields})
    return {"fastbp": text}


def refused(tmp_path, blob, message):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(blob)
    with pytest.raises(ValueError, match=message) as caught:
        io.load(path, Stored)
    assert "bad.safetensors' cannot be loaded as a network: " in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 400


# --- what is saved comes back --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_to_the_last_bit(tmp_path, dtype):
    net = filled(dtype)
    net.arrays["layers.0.b"][:] = [np.nan, -0.0, np.inf, np.finfo(dtype).smallest_subnormal]
    io.save(net, tmp_path / "net.safetensors")
    again = io.load(tmp_path / "net.safetensors", Stored)
    assert again.architecture()["layers"] == LAYERS
    for name, view in net.tensors().items():
        assert again.arrays[name].dtype == dtype
        assert again.arrays[name].tobytes() == view.tobytes()


def test_strided_views_are_stored_and_filled(tmp_path):
    net = filled()
    padded = np.full((3, 16), 7, np.float32)
    padded[:, :4] = net.arrays["layers.0.W"]
    net.arrays["layers.0.W"] = padded[:, :4]
    io.save(net, tmp_path / "net")

    class Padded(Stored):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.arrays["layers.0.W"] = np.zeros((3, 16), np.float32)[:, :4]

    again = io.load(tmp_path / "net", Padded).arrays["layers.0.W"]
    assert np.array_equal(again, padded[:, :4])
    assert not again.base[:, 4:].any()


def test_other_programs_read_the_file(tmp_path):
    io.save(filled(), tmp_path / "net.safetensors")
    theirs = load_file(tmp_path / "net.safetensors")
    assert theirs.keys() == filled().tensors().keys()
    assert all(np.array_equal(theirs[name], view) for name, view in filled().tensors().items())


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in "ab":
        io.save(filled(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# --- writing is all or nothing -------------------------------------------------------------------


def test_a_failed_save_keeps_the_old_file_and_leaves_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_text("what was there")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as refused:
        io.save(filled(), path)
    assert refused.value.filename == str(path)
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    io.save(filled(), tmp_path / "net")
    assert (tmp_path / "net").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_unwritable_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a directory: make it first"):
        io.save(filled(), tmp_path / "nowhere" / "net")
    with pytest.raises(IsADirectoryError, match="name a file to write"):
        io.save(filled(), tmp_path)


def test_architecture_without_json_is_refused_before_writing(tmp_path):
    net = filled()
    net.description["loss"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.save(net, tmp_path / "net")
    assert not list(tmp_path.iterdir())


# --- reading distrusts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", r"not a safetensors file, or was cut off \(0 bytes\)"),
        (b"PK\x03\x04", "not a safetensors file"),
        (b"\x80\x04\x95" + b"\x00" * 40, "not a safetensors file|not valid JSON"),  # a pickle
        (b"\xff" * 64, "not a safetensors file"),
        (struct.pack("<Q", 1 << 62) + b"{}", "not a safetensors file"),
        (assemble(b"[]", b""), "header is not a JSON object"),
        (assemble(b"{}", b""), "no fastbp network"),
        (assemble(b"{" * 100, b""), "not valid JSON"),
        (assemble(b"[" * 100_000, b""), "not valid JSON"),
        (assemble(b'{"a": NaN}', b""), "NaN is not a number of JSON"),
        (assemble(b'{"a": 1' + b"0" * 5000 + b"}", b""), "not valid JSON"),
        (assemble(b'{"a": {}, "a": {}}', b""), "a name occurs twice"),
        (assemble(b'{"\xff": 1}', b""), "not valid JSON"),
    ],
)
def test_files_that_are_no_network(tmp_path, blob, message):
    refused(tmp_path, blob, message)


def test_an_overlong_header_is_not_read(tmp_path):
    path = tmp_path / "bad.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER + 1))
        file.truncate(MAX_HEADER + 100)  # sparse
    with pytest.raises(ValueError, match=r"header of .* bytes is longer"):
        io.load(path, Stored)


def test_truncated_at_every_length(tmp_path, good):
    blob = assemble(*good)
    for length in range(0, len(blob), 7):
        refused(tmp_path, blob[:length], "cut off|follow the header|not valid JSON")


def test_trailing_bytes(tmp_path, good):
    refused(tmp_path, assemble(good[0], good[1] + b"\x00"), "take 104 bytes, but 105 follow")


def offsets(begin, end):
    return {"data_offsets": [begin, end]}


# The good file holds b (16 bytes), W (48), b (8), W (32) in the order of its data_offsets.
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "F16"}, "dtype 'F16', not one of"),
        ({"dtype": ["F32"]}, r"dtype \['F32'\], not one of"),
        ({"dtype": "F64"}, "takes 48 bytes"),
        ({"shape": [3, 5]}, "takes 48 bytes"),
        ({"shape": [4, 3]}, "needs \\(3, 4\\)"),
        ({"shape": [12]}, "needs \\(3, 4\\)"),
        ({"shape": [-3, -4]}, "not one or two sizes"),
        ({"shape": [True, 12]}, "not one or two sizes"),
        ({"shape": [3.0, 4.0]}, "not one or two sizes"),
        ({"shape": [1 << 62, 1 << 62]}, "takes 48 bytes"),
        ({"shape": [1 << 63, 0]}, "not one or two sizes"),
        ({"shape": []}, "not one or two sizes"),
        ({"shape": [1, 3, 4]}, "not one or two sizes"),
        ({"data_offsets": [0, 48, 96]}, "not two bytes"),
        ({"data_offsets": [48, 0]}, "takes -48 bytes"),
        ({"data_offsets": [-48, 0]}, "not two bytes"),
        ({"data_offsets": ["0", "48"]}, "not two bytes"),
        ({"data_offsets": [1 << 40, (1 << 40) + 48]}, "begins at byte"),
        ({"strides": [1]}, "not described by dtype, shape, data_offsets"),
    ],
)
def test_a_spoiled_tensor(tmp_path, good, change, message):
    header, data = good
    header["layers.0.W"].update(change)
    refused(tmp_path, assemble(header, data), message)


def test_overlapping_tensors(tmp_path, good):
    header, data = good
    header["layers.1.W"]["data_offsets"] = header["layers.0.W"]["data_offsets"][0] + np.array(
        [0, 32]
    )
    header["layers.1.W"]["data_offsets"] = header["layers.1.W"]["data_offsets"].tolist()
    refused(tmp_path, assemble(header, data), "begins at byte")


@pytest.mark.parametrize("name", ["layers.0.W", "layers.1.b"])
def test_a_missing_tensor(tmp_path, good, name):
    header, data = good
    begin, end = header.pop(name)["data_offsets"]
    for entry in header.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= end:
            entry["data_offsets"] = [offset - (end - begin) for offset in entry["data_offsets"]]
    data = data[:begin] + data[end:]
    refused(tmp_path, assemble(header, data), f"lacks the tensor '{name}'")


def test_an_extra_tensor(tmp_path, good):
    header, data = good
    header["x" * 1000] = {"dtype": "F32", "shape": [1], "data_offsets": [104, 108]}
    refused(tmp_path, assemble(header, data + bytes(4)), r"tensor 'xxx.*\.\.\. has no place")


def test_a_tensor_of_another_dtype(tmp_path, good):
    header, data = good
    header["layers.1.b"].update(dtype="F64", shape=[1])
    refused(tmp_path, assemble(header, data), r"'layers.1.b' is float64 \(1,\), but .* \(2,\)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": 0}, "width of 0"),
        ({"inputs": -3}, "width of -3"),
        ({"inputs": True}, "width of True"),
        ({"inputs": 3.0}, "width of 3.0"),
        ({"inputs": None}, "width of None"),
        ({"inputs": 1 << 40}, r"needs \(1099511627776, 4\)"),
        ({"layers": []}, "no list of layers"),
        ({"layers": {}}, "no list of layers"),
        ({"layers": [4]}, "width of None"),
        ({"layers": [{"units": 10**12, "activation": "relu"}]}, "needs"),
        ({"layers": [*LAYERS, LAYERS[1]]}, "lacks the tensor 'layers.2.W'"),
        ({"layers": LAYERS * 20_000}, "shape|lacks"),
        ({"layers": [{"units": 4}, LAYERS[1]]}, "architecture is not valid: 'activation'"),
        ({"layers": [{"units": 4, "activation": "os.system"}, LAYERS[1]]}, "'os.system' is not kn"),
        ({"dtype": "float16"}, "dtype 'float16' is none of"),
        ({"dtype": "float64"}, "is not of dtype float64"),
        ({"dtype": ["float32"]}, "is none of"),
        ({"seed": 1 << 64}, "over 64 bits"),
        ({"loss": "x" * 201}, "string of over 200 characters"),
        ({"extra": [[[[[[[[1]]]]]]]]}, "nested too deeply"),
    ],
)
def test_an_absurd_architecture(tmp_path, good, change, message):
    header, data = good
    header["__metadata__"] = described(**change)
    refused(tmp_path, assemble(header, data), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "description is not valid JSON"),
        ("3", "description is not a JSON object"),
        (
            '{"format": 2, "version": "9.1"}',
            "format 2 is newer than the 1 .* fastbp '9.1' or later",
        ),
        ('{"format": 0}', "format 0 is not known"),
        ('{"format": "1"}', "format '1' is not known"),
        ('{"format": 1}', "description has no architecture"),
        ('{"format": 1, "architecture": {"lr": 1e999}}', "infinite number"),
        ('{"format": 1, "architecture": {}}', "no list of layers"),
    ],
)
def test_a_spoiled_description(tmp_path, good, text, message):
    header, data = good
    header["__metadata__"] = {"fastbp": text}
    refused(tmp_path, assemble(header, data), message)


@pytest.mark.parametrize("metadata", [None, [], "fastbp", {}, {"fastbp": 1}, {"other": "{}"}])
def test_tensors_of_another_program(tmp_path, good, metadata):
    header, data = good
    header["__metadata__"] = metadata
    refused(tmp_path, assemble(header, data), "no fastbp network")


def test_absurd_claims_cost_no_memory(tmp_path, good):
    header, data = good
    header["__metadata__"] = described(inputs=1 << 30, layers=[{**LAYERS[0], "units": 1 << 20}])
    header["layers.0.W"].update(shape=[1 << 30, 1 << 20], data_offsets=[0, 1 << 52])
    path = tmp_path / "bad.safetensors"
    path.write_bytes(assemble(header, data))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"begins at byte|follow the header"):
            io.load(path, Stored)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_loading_takes_at_most_twice_the_file(tmp_path):
    path = tmp_path / "net"
    io.save(Stored(1000, [{"units": 2000, "activation": "relu"}]), path)
    tracemalloc.start()
    try:
        io.load(path, Stored)
        assert tracemalloc.get_traced_memory()[1] <= 2 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(ValueError, match="is not a regular file"):
            io.load(path, Stored)
    with pytest.raises(FileNotFoundError):
        io.load(tmp_path / "nowhere", Stored)


def test_random_damage_is_a_value_error_or_another_network(tmp_path, good):
    """Flip bytes of the header: never a crash, never anything but ValueError."""
    blob, rng = assemble(*good), np.random.default_rng(0)
    path, refusals = tmp_path / "bad.safetensors", 0
    for _ in range(500):
        spoiled = bytearray(blob)
        for position in rng.integers(0, len(blob) - len(good[1]), rng.integers(1, 4)):
            spoiled[position] = rng.integers(256)
        path.write_bytes(spoiled)
        try:
            io.load(path, Stored)
        except ValueError:
            refusals += 1
    assert refusals > 400


# --- the real network ----------------------------------------------------------------------------


def real(**fields):
    layers = [
        fastbp.Dense(5, "relu", batch_norm=True, dropout=0.25),
        fastbp.Dense(4, "gelu", batch_norm=fastbp.BatchNorm("after", "sigma", 1e-3, 0.2)),
        fastbp.Dense(3, "softmax", init="normal", init_scale=0.1),
    ]
    return fastbp.Network(7, layers, loss="nllm", reduction="sum", seed=5, **fields)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_comes_back_whole(tmp_path, dtype):
    net, rng = real(dtype=dtype), np.random.default_rng(1)
    for view in net.tensors().values():
        view[...] = rng.random(view.shape) + 0.5
    net.save(tmp_path / "net.safetensors")
    again = fastbp.Network.load(tmp_path / "net.safetensors")
    assert again.architecture() == net.architecture()
    assert again.parameters.tobytes() == net.parameters.tobytes()
    assert again.tensors().keys() == net.tensors().keys()
    X = rng.random((6, 7))
    assert again.forward(X).tobytes() == net.forward(X).tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "rellu"}, "architecture is not valid: .*did you mean 'relu'"),
        ({"dropout": 1.5}, "architecture is not valid: dropout"),
        ({"dropout": "a"}, "architecture is not valid: dropout"),
        ({"batch_norm": {"eps": 0}}, "architecture is not valid: eps"),
        ({"batch_norm": {"nonsense": 1}}, "architecture is not valid"),
        ({"batch_norm": False}, "has no place|lacks"),
        ({"hook": "import os"}, "architecture is not valid"),
        ({"init": "exec"}, "architecture is not valid: init"),
    ],
)
def test_a_spoiled_layer_of_a_network(tmp_path, change, message):
    net = real()
    net.save(tmp_path / "net")
    blob = (tmp_path / "net").read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + length])
    description = json.loads(header["__metadata__"]["fastbp"])
    description["architecture"]["layers"][0].update(change)
    header["__metadata__"] = {"fastbp": json.dumps(description)}
    (tmp_path / "bad").write_bytes(assemble(header, blob[8 + length :]))
    with pytest.raises(ValueError, match=message):
        fastbp.Network.load(tmp_path / "bad")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loading_a_network_takes_at_most_twice_the_file(tmp_path, dtype):
    path = tmp_path / "net"
    fastbp.Network(1000, [fastbp.Dense(2000, "relu"), fastbp.Dense(2)], dtype=dtype).save(path)
    tracemalloc.start()
    try:
        fastbp.Network.load(path)
        assert tracemalloc.get_traced_memory()[1] <= 2 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_mutated_files_are_refused_or_are_another_network(tmp_path):
    """A few thousand; `python tests/fuzz.py` loads a million."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        fuzz = importlib.import_module("fuzz")
    finally:
        del sys.path[0]
    found = fuzz.run(3000, 1, tmp_path)
    assert sum(found.values()) == 3000
    assert 0 < found["loaded"] < 1000
    assert len(found) > 20  # many different reasons: the mutations reach them
