"""What the tests of refusals share: a network, and what every message must be."""

from __future__ import annotations

import pytest

from fastbp import Dense, Network


def check_message(
    caught: pytest.ExceptionInfo[Exception], kind: type[Exception], words: str
) -> None:
    """One line of this kind, in words that are ours."""
    message = str(caught.value)
    assert type(caught.value) is kind, caught.value
    assert words in message, message
    assert "numba" not in message.lower()
    assert "\n" not in message


def network() -> Network:
    return Network(4, [Dense(5, "relu", batch_norm=True), Dense(3, "softmax")], seed=1)
