"""What bad input gets: errors that name the argument, the value, what is allowed and the way out.

Every `check_*` returns the value in its plain Python type, so that a NumPy scalar or a 0-d array
never travels further in.
"""

from __future__ import annotations

import difflib
import math
import numbers
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
_LONGEST = 60
LARGEST_SEED: Final = 2**63 - 1
"""The largest seed."""


def shown(value: object) -> str:
    """`repr(value)` for a message: one line, cut where it grows long; NumPy's scalars as Python's.

    >>> shown("relu"), len(shown(list(range(1000))))
    ("'relu'", 60)
    """
    plain: Any = value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        plain = plain.item()
    try:
        text = " ".join(repr(plain).split())
    except Exception:  # noqa: BLE001 - an int of over 4300 digits, a __repr__ that fails
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def one_line(error: BaseException) -> str:
    r"""What an error of somebody else says, in one line.

    >>> one_line(TypeError("not\n  a number"))
    'not a number'
    """
    return " ".join(str(error).split())


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "row"), plural(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def not_finite(where: str, value: object) -> str:
    """What to say of NaN and inf among data.

    >>> not_finite("X[7, 1]", float("nan"))
    'X[7, 1]=nan is not finite; leave such rows out or fill them first.'
    """
    return f"{where}={value} is not finite; leave such rows out or fill them first."


def wrong_width(name: str, columns: int, inputs: int) -> str:
    """What to say of a matrix with another number of columns than the network has inputs.

    >>> print(wrong_width("X", 1, 2))
    X has 1 column but the network has 2 inputs; X must be of shape (n, 2), one row a sample.
    """
    return (
        f"{name} has {plural(columns, 'column')} but the network has {plural(inputs, 'input')}; "
        f"{name} must be of shape (n, {inputs}), one row a sample."
    )


def too_few_for_norm(way_out: str) -> str:
    """The words for a batch of one sample under batch norm.

    >>> too_few_for_norm("give more")
    'batch norm needs at least 2 samples in a batch, and there is 1; give more'
    """
    return f"batch norm needs at least 2 samples in a batch, and there is 1; {way_out}"


def nearest(value: str, known: Iterable[str]) -> str | None:
    """The known name most like `value`, or None where none is like it.

    >>> nearest("ReLU", ["relu", "elu", "tanh"])
    'relu'
    """
    names = list(known)
    folded = {name.lower().replace("-", "_"): name for name in names}
    wanted = value.strip().lower().replace("-", "_").replace(" ", "_")
    found = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.5)
    if not found and len(wanted) > 1:
        found = [name for name in folded if name.startswith(wanted)]
    return folded[found[0]] if found else None


def unknown_name(argument: str, value: object, known: Iterable[str]) -> ValueError | TypeError:
    """The error for a name that is not in a table; to be raised by the caller.

    Args:
        argument: the argument's name as the user wrote it.
        value: what was given. Anything but a string makes it a TypeError.
        known: the names that are allowed, in the order to print them.

    >>> print(unknown_name("activation", "rellu", ["relu", "tanh"]))
    activation='rellu' is not known; did you mean 'relu'? Allowed: 'relu', 'tanh'.
    """
    names = list(known)
    allowed = ", ".join(repr(name) for name in names)
    if not isinstance(value, str):
        kind = type(value).__name__
        return TypeError(
            f"{argument}={shown(value)} is of type {kind}; give a name, one of {allowed}."
        )
    guess = nearest(value, names)
    hint = f"; did you mean {guess!r}?" if guess else "."
    return ValueError(f"{argument}={shown(value)} is not known{hint} Allowed: {allowed}.")


def entry_for(table: Mapping[str, T], activation: str, what: str) -> T:
    """A table's entry for an activation that is known, but perhaps not yet to this table.

    Args:
        table: by the activations' names.
        activation: one of them.
        what: what the table holds, for the message.

    Raises:
        NotImplementedError: the table lacks it.

    >>> entry_for({"relu": "Relu"}, "relu", "ONNX operator")
    'Relu'
    """
    if activation not in table:
        raise NotImplementedError(
            f"activation={activation!r} has no {what} yet; those that have: {', '.join(table)}"
        )
    return table[activation]


def check_name(argument: str, value: object, known: Iterable[str]) -> str:
    """`value` if it is one of the known names.

    Raises:
        ValueError: an unknown name; the nearest known one is suggested.
        TypeError: not a string.

    >>> check_name("loss", "cross_entropy", ["cross_entropy"])
    'cross_entropy'
    """
    names = list(known)
    if isinstance(value, str) and value in names:
        return value
    raise unknown_name(argument, value, names)


def check_path(argument: str, value: Any) -> Path:
    """`value` as a path: text, or an `os.PathLike` of text.

    >>> check_path("path", "net.safetensors").name
    'net.safetensors'
    """
    if isinstance(value, str | os.PathLike) and isinstance(text := os.fspath(value), str):
        if not text or "\0" in text:
            raise _refuse(argument, value, "a path, not empty and without null characters", "")
        return Path(text)
    raise _refuse(argument, value, "a path, a str or a pathlib.Path", "", TypeError)


def check_real(argument: str, value: Any, way_out: str = "") -> float:
    """`value` as a finite float. Booleans, strings and NaN are refused.

    >>> check_real("eps", 1)
    1.0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        value = _scalar(argument, value, "a number", way_out)
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction beyond 1.8e308
        number = math.inf
    if not math.isfinite(number):
        raise _refuse(argument, value, "a finite number", way_out)
    return number


def check_positive(argument: str, value: Any, way_out: str = "") -> float:
    """`value` as a float above 0.

    >>> check_positive("eps", 1e-8)
    1e-08
    """
    number = check_real(argument, value, way_out)
    if number <= 0.0:
        raise _refuse(argument, value, "a number above 0", way_out)
    return number


def check_not_negative(argument: str, value: Any, way_out: str = "") -> float:
    """`value` as a float of 0 or more.

    >>> check_not_negative("weight_decay", 0)
    0.0
    """
    number = check_real(argument, value, way_out)
    if number < 0.0:
        raise _refuse(argument, value, "0 or more", way_out)
    return number


def check_probability(argument: str, value: Any, way_out: str = "") -> float:
    """`value` as a float in [0, 1): a probability of dropping, a coefficient of a running mean.

    >>> check_probability("dropout", 0.2)
    0.2
    """
    number = check_real(argument, value, way_out)
    if not 0.0 <= number < 1.0:
        raise _refuse(argument, value, "0 or more and below 1", way_out)
    return number


def check_fraction(argument: str, value: Any, way_out: str = "") -> float:
    """`value` as a float strictly between 0 and 1: a share to hold out, a factor that shrinks.

    >>> check_fraction("validation", 0.1)
    0.1
    """
    number = check_real(argument, value, way_out)
    if not 0.0 < number < 1.0:
        raise _refuse(argument, value, "above 0 and below 1", way_out)
    return number


def check_integer(
    argument: str, value: Any, least: int | None = None, most: int | None = None, way_out: str = ""
) -> int:
    """`value` as an int within [least, most]. 3.0, True and "3" are refused.

    >>> check_integer("epochs", 20, least=1)
    20
    """
    allowed = _integers(least, most)
    if type(value).__name__ in {"bool", "bool_"}:  # NumPy 1 takes its own for 0 and 1
        raise _refuse(argument, value, allowed, way_out, TypeError)
    try:
        number = operator.index(value)
    except TypeError:
        raise _refuse(argument, value, allowed, way_out, TypeError) from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise _refuse(argument, value, allowed, way_out)
    return number


@contextmanager
def naming(where: str) -> Iterator[None]:
    """What is refused within is said to be about `where`.

    >>> with naming("networks[2]"):
    ...     check_seed(-1)
    Traceback (most recent call last):
    ValueError: networks[2]: seed=-1 must be an integer, 0 to 9223372036854775807.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        raise type(error)(f"{where}: {error}") from None


def check_seed(value: Any) -> int:
    """`value` as a seed.

    >>> check_seed(0)
    0
    """
    return check_integer("seed", value, least=0, most=LARGEST_SEED)


def check_entries(argument: str, value: Any, allowed: str) -> list[Any]:
    """The entries of an iterable that is no text, as a list.

    >>> check_entries("layers", (1, 2), "a sequence")
    [1, 2]
    """
    if not isinstance(value, str | bytes):
        try:
            return list(value)
        except TypeError:  # an array without dimensions says that it can be iterated over
            pass
    raise _refuse(argument, value, allowed, "", TypeError)


def check_flag(argument: str, value: Any) -> bool:
    """`value` as a bool; only True and False (NumPy's too) will do.

    >>> check_flag("nesterov", True)
    True
    """
    if type(value).__name__ not in {"bool", "bool_"}:
        raise _refuse(argument, value, "True or False", "", TypeError)
    return bool(value)


def _integers(least: int | None, most: int | None) -> str:
    if least is None:
        return "an integer" if most is None else f"an integer of at most {most}"
    return f"an integer of at least {least}" if most is None else f"an integer, {least} to {most}"


def _scalar(argument: str, value: Any, allowed: str, way_out: str) -> float:
    """A 0-d array or NumPy scalar as a float; everything else is a TypeError."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind not in {"f", "i", "u"} or getattr(value, "ndim", 1) != 0:
        raise _refuse(argument, value, allowed, way_out, TypeError)
    return float(value)


def _refuse(
    argument: str,
    value: object,
    allowed: str,
    way_out: str,
    kind: type[ValueError | TypeError] = ValueError,
) -> ValueError | TypeError:
    given = f"{argument}={shown(value)}"
    if kind is TypeError:
        given += f" is of type {type(value).__name__}; it"
    return kind(f"{given} must be {allowed}." + (f" {way_out}" if way_out else ""))
