"""Writes fastbp/datasets/digits.npz from scikit-learn's copy of the UCI hand-written digits.

python tools/make_digits.py        # needs the extra `sklearn`; the result is the same file
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TARGET = Path(__file__).resolve().parent.parent / "fastbp" / "datasets" / "digits.npz"


def main() -> None:
    """Store images (1797, 64) and labels (1797,) as uint8, compressed."""
    digits = load_digits()
    images, labels = digits.data.astype(np.uint8), digits.target.astype(np.uint8)
    assert np.array_equal(images, digits.data)
    np.savez_compressed(TARGET, images=images, labels=labels)
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
