"""Where a network computes: the names of devices, and what is said where one cannot be had.

Nothing of CUDA is imported before a network is asked onto a card.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .errors import check_name
from .kernels.values import check_card_precision

DEVICES: Final = ("cpu", "cuda")


def check_device(device: Any) -> str:
    """The device's name, if it is one and can be used here.

    Raises:
        ValueError, TypeError: no such name.
        ImportError: no CUDA target of Numba is installed; the message says how to get one.
        RuntimeError: no driver or no card; the message says which.

    >>> check_device("cpu")
    'cpu'
    """
    name = check_name("device", device, DEVICES)
    if name == "cuda":
        problem = cuda_problem()
        if problem:
            raise RuntimeError(f"device='cuda' cannot be used: {problem}; device='cpu' needs none.")
    return name


def check_place(device: str, precision: Any) -> None:
    """Refuse a precision that the device does not have.

    Raises:
        ValueError: products of bfloat16 on a card.

    >>> check_place("cpu", "bfloat16")
    """
    if device != "cpu":
        check_card_precision(precision)


def cuda_problem() -> str:
    """Why no kernel can run on a card here; nothing where one can.

    Raises:
        ImportError: no CUDA target of Numba is installed.
    """
    from .kernels.cuda.shim import problem

    return str(problem())


def is_on_card(value: Any) -> bool:
    """Whether an array lies on a CUDA device, by its own word (DLPack, or its interface).

    >>> is_on_card(np.zeros(3)), is_on_card([1, 2])
    (False, False)
    """
    if isinstance(value, np.ndarray | list | tuple | int | float):
        return False
    from .kernels.cuda.dlpack import lies_on_card  # which imports nothing of CUDA

    return lies_on_card(value)
