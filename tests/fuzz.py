"""Mutated files for `Network.load` and `Trainer.resume`: a refusal or a network, nothing else.

    python tests/fuzz.py --count 1000000

A mutation knows the format: it edits the header's JSON (types, numbers near limits, names, offsets,
shapes, nesting, duplicate keys), the description within it, the lengths and the bytes, several at
once, and repairs the length of the header more often than not, so that most files reach the deeper
checks. Every file must give a ValueError within a second, or load; and Python's own memory must
stay under twice the file and 64 MB.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import fastbp

NUMBERS = (
    0, 1, -1, 2, 7, 8, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**30,
    0.5, 1.0, 1e308, -0.0, True, False,
)  # fmt: skip
TEXTS = (
    "", "F32", "F64", "F16", "U8", "layers.0.W", "training.x", "__class__", "os.system", "relu",
    "softmax", "\x00", "\ud800", "a" * 300, "../../etc/passwd", "1e999", "NaN", "é", "$tensor",
)  # fmt: skip
RAW = (
    b"NaN",
    b"Infinity",
    b"-1",
    b"1e999",
    b"[[[[[[",
    b"}}",
    b'"a":',
    b"\\u0000",
    b"\xff",
    b"9" * 5000,
)
LIMIT = 64 << 20


def network() -> fastbp.Network:
    """A small network with every kind of tensor."""
    layers = [
        fastbp.Dense(3, "relu", batch_norm=True, dropout=0.1),
        fastbp.Dense(2, "gelu", batch_norm="after"),
        fastbp.Dense(2, "softmax"),
    ]
    return fastbp.Network(4, layers, seed=1)


def trainer() -> fastbp.Trainer:
    """One with rows, a schedule with memory and a rule."""
    rate = fastbp.ReduceOnPlateau(0.01, monitor="loss")
    rule = fastbp.EarlyStopping("loss")
    return fastbp.Trainer(
        network(), fastbp.Adam(rate), batch_size=4, early_stopping=rule, progress=False
    )


def originals(folder: Path) -> list[bytes]:
    """A network's file, and a checkpoint within a fit."""
    network().save(folder / "net")
    path = folder / "run"

    def save(state: fastbp.State) -> None:
        state.trainer.save(path)

    X = np.random.default_rng(0).normal(size=(12, 4))
    trainer().fit(X, np.arange(12) % 2, epochs=2, callbacks=[save])
    return [(folder / "net").read_bytes(), path.read_bytes()]


class Mutator:
    """Draws mutations of files from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def value(self) -> Any:
        """Something to put in the place of a value."""
        kind = self.rng.randrange(6)
        if kind == 0:
            return self.rng.choice(TEXTS)
        if kind == 1:
            return [self.rng.choice(NUMBERS) for _ in range(self.rng.randrange(4))]
        if kind == 2:
            return {self.rng.choice(TEXTS): self.rng.choice(NUMBERS)}
        if kind == 3:
            return None
        return self.rng.choice(NUMBERS)

    def tree(self, value: Any) -> Any:
        """Change one place of nested JSON, in place where it can be."""
        holder: Any = value
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                return value
            key = self.rng.choice(keys)
            inner = holder[key]
            if isinstance(inner, dict | list) and inner and self.rng.random() < 0.8:
                holder = inner
                continue
            break
        act = self.rng.randrange(8)
        if act == 0 and isinstance(holder, dict):
            del holder[key]
        elif act == 1 and isinstance(holder, dict):
            holder[self.rng.choice(TEXTS)] = inner
        elif act == 2 and isinstance(holder, dict):
            other = self.rng.choice(keys)
            holder[key], holder[other] = holder[other], holder[key]
        elif act == 3 and isinstance(inner, int | float) and not isinstance(inner, bool):
            holder[key] = inner + self.rng.choice((-8, -4, -1, 1, 4, 8, 0.5))
        elif act == 4 and isinstance(holder, list):
            holder.insert(self.rng.randrange(len(holder) + 1), self.value())
        else:
            holder[key] = self.value()
        return value

    def file(self, blob: bytes) -> bytes:
        """A mutated file."""
        (length,) = struct.unpack("<Q", blob[:8])
        text, data = blob[8 : 8 + length], bytearray(blob[8 + length :])
        header = json.loads(text)
        act = self.rng.random()
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            if act < 0.35:
                self.tree(header)
            elif act < 0.8:
                self.describe(header)
        text = json.dumps(header).encode("utf-8", "surrogatepass")
        if act >= 0.8 or self.rng.random() < 0.05:
            text = self.raw(text)
        if self.rng.random() < 0.1:
            data = data[: self.rng.randrange(len(data) + 1)] + bytes(self.rng.randrange(3))
        if data and self.rng.random() < 0.2:
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        length = len(text)
        if self.rng.random() < 0.03:
            length = self.rng.choice((0, 1, 7, length - 1, length + 1, 2**32, 2**62, 2**64 - 1))
        return struct.pack("<Q", length % 2**64) + text + bytes(data)

    def describe(self, header: Any) -> None:
        """Change the description within the header's metadata."""
        try:
            description = json.loads(header["__metadata__"]["fastbp"])
            header["__metadata__"]["fastbp"] = json.dumps(self.tree(description))
        except (KeyError, TypeError, ValueError):
            pass  # an earlier mutation has taken it away

    def raw(self, text: bytes) -> bytes:
        """Change bytes of the JSON itself."""
        changed = bytearray(text)
        place = self.rng.randrange(len(changed))
        if self.rng.random() < 0.5:
            changed[place] = self.rng.randrange(256)
        elif self.rng.random() < 0.5:
            changed[place:place] = self.rng.choice(RAW)
        else:
            del changed[place : place + self.rng.randrange(1, 40)]
        return bytes(changed)


def run(count: int, seed: int, folder: Path, report: int = 0) -> Counter[str]:
    """Load so many mutated files; what came of them. Anything unexpected is raised."""
    blobs, mutator, path = originals(folder), Mutator(seed), folder / "mutated"
    mine, found = trainer(), Counter[str]()
    tracemalloc.start(1)
    try:
        for i in range(count):
            which = i % 8 == 7  # a checkpoint's header is several times as long
            blob = mutator.file(blobs[which])
            path.write_bytes(blob)
            if i % 64 == 0:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
            began = time.process_time()
            try:
                if which and i % 16 == 7:
                    mine.resume(path)
                else:
                    fastbp.Network.load(path)
                found["loaded"] += 1
            except ValueError as error:
                words = str(error).partition(": ")[2] or str(error)
                found[" ".join(word for word in words.split()[:4] if word.isalpha())] += 1
            except Warning:
                found["other settings"] += 1
            except BaseException:
                (folder / "culprit").write_bytes(blob)
                print(f"file {i} of seed {seed} is kept as {folder / 'culprit'}")
                raise
            assert time.process_time() - began < 1.0, f"file {i} took over a second"
            if i % 64 == 0:
                peak = tracemalloc.get_traced_memory()[1] - before
                assert peak < 2 * len(blob) + LIMIT, f"file {i} took {peak} bytes"
                tracemalloc.stop()  # it slows down what it watches: one file of 64
            elif i % 64 == 63:
                tracemalloc.start(1)
            if report and i % report == report - 1:
                print(f"{i + 1} files", flush=True)
    finally:
        tracemalloc.stop()
    return found


def main() -> int:
    """Run as described above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        import warnings

        warnings.simplefilter("error")
        found = run(asked.count, asked.seed, Path(name), report=100_000)
    rate = asked.count / (time.perf_counter() - began)
    print(f"{asked.count} files, {rate:.0f} a second, {len(found)} outcomes:")
    for words, times in found.most_common(25):
        print(f"{times:8} {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
