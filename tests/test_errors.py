"""The checks at the door: what passes, and what each message names."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastbp import errors

NAMES = ["relu", "leaky_relu", "tanh", "cross_entropy"]


@pytest.mark.parametrize(
    ("value", "guess"),
    [("ReLU", "relu"), ("leakyrelu", "leaky_relu"), ("crossentropy", "cross_entropy"),
     ("cross-entropy", "cross_entropy"), ("Tanh", "tanh"), ("tan", "tanh"), ("le", "leaky_relu")],
)  # fmt: skip
def test_unknown_name_suggests_the_nearest(value: str, guess: str) -> None:
    error = errors.unknown_name("activation", value, NAMES)
    assert isinstance(error, ValueError)
    assert f"activation={value!r}" in str(error)
    assert f"did you mean {guess!r}?" in str(error)
    assert all(repr(name) in str(error) for name in NAMES)


def test_unknown_name_without_a_likely_one_lists_them() -> None:
    message = str(errors.unknown_name("activation", "zzzz", NAMES))
    assert "did you mean" not in message
    assert "'relu'" in message


def test_a_name_that_is_no_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="activation=3 is of type int"):
        errors.check_name("activation", 3, NAMES)
    with pytest.raises(TypeError, match="of type list"):
        errors.check_name("activation", ["relu"], NAMES)
    assert errors.check_name("activation", "tanh", NAMES) == "tanh"


GOOD: list[tuple[Callable[..., Any], Any, Any]] = [
    (errors.check_real, np.float32(0.5), 0.5),
    (errors.check_real, np.array(2), 2.0),
    (errors.check_real, Fraction(1, 4), 0.25),
    (errors.check_positive, 1e-300, 1e-300),
    (errors.check_not_negative, 0, 0.0),
    (errors.check_probability, 0.0, 0.0),
    (errors.check_probability, math.nextafter(1.0, 0.0), math.nextafter(1.0, 0.0)),
    (errors.check_fraction, 0.5, 0.5),
    (errors.check_integer, np.int64(3), 3),
    (errors.check_integer, -3, -3),
    (errors.check_flag, np.True_, True),
]


@pytest.mark.parametrize(("check", "value", "expected"), GOOD)
def test_good_values_come_back_plain(check: Callable[..., Any], value: Any, expected: Any) -> None:
    result = check("x", value)
    assert result == expected
    assert type(result) is type(expected)


BAD: list[tuple[Callable[..., Any], Any, type[Exception], str]] = [
    (errors.check_real, float("nan"), ValueError, "a finite number"),
    (errors.check_real, np.float32("inf"), ValueError, "a finite number"),
    (errors.check_real, True, TypeError, "a number"),
    (errors.check_real, "0.1", TypeError, "a number"),
    (errors.check_real, None, TypeError, "a number"),
    (errors.check_real, 1j, TypeError, "a number"),
    (errors.check_real, [0.1], TypeError, "a number"),
    (errors.check_real, np.array([0.1]), TypeError, "a number"),
    (errors.check_positive, 0.0, ValueError, "a number above 0"),
    (errors.check_positive, -1, ValueError, "a number above 0"),
    (errors.check_not_negative, -1e-9, ValueError, "0 or more"),
    (errors.check_probability, 1.0, ValueError, "0 or more and below 1"),
    (errors.check_probability, -0.1, ValueError, "0 or more and below 1"),
    (errors.check_fraction, 0.0, ValueError, "above 0 and below 1"),
    (errors.check_fraction, 1.0, ValueError, "above 0 and below 1"),
    (errors.check_integer, 3.0, TypeError, "an integer"),
    (errors.check_integer, True, TypeError, "an integer"),
    (errors.check_integer, "3", TypeError, "an integer"),
    (errors.check_flag, 1, TypeError, "True or False"),
    (errors.check_flag, "yes", TypeError, "True or False"),
]


@pytest.mark.parametrize(("check", "value", "kind", "allowed"), BAD)
def test_bad_values_are_named(
    check: Callable[..., Any], value: Any, kind: type[Exception], allowed: str
) -> None:
    with pytest.raises(kind) as caught:
        check("rate", value)
    message = str(caught.value)
    assert message.startswith(f"rate={errors.shown(value)}")
    assert message.endswith(f"must be {allowed}.")


@pytest.mark.parametrize(
    ("least", "most", "value", "allowed"),
    [(1, None, 0, "an integer of at least 1"), (None, 5, 6, "an integer of at most 5"),
     (1, 5, 6, "an integer, 1 to 5")],
)  # fmt: skip
def test_integer_bounds(least: int | None, most: int | None, value: int, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"epochs={value} must be {allowed}"):
        errors.check_integer("epochs", value, least, most)


def test_the_way_out_ends_the_message() -> None:
    with pytest.raises(ValueError, match=r"above 0\. Try 1e-3\.$"):
        errors.check_positive("lr", 0, "Try 1e-3.")


def test_long_values_are_cut_to_one_line() -> None:
    text = errors.shown(np.zeros((50, 50)))
    assert len(text) == 60
    assert "\n" not in text
