"""One training at a time: of a network, and by a stopping rule."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from .errors import shown

if TYPE_CHECKING:
    from .network import Network

_MARK: Final = "_trained_by"


@contextmanager
def exclusively(network: Network) -> Iterator[None]:
    """Let nobody else train `network` meanwhile.

    Raises:
        RuntimeError: somebody does.
        TypeError: it is none.
    """
    if not hasattr(network, "_parameters"):
        raise TypeError(f"trainer.network={shown(network)} must be a fastbp.Network")
    token, marks, name = object(), vars(network), _mark()
    try:
        if marks.setdefault(name, token) is not token:  # one step, so safe between threads
            raise RuntimeError(
                "this network is being trained already, by another thread or by the fit that "
                "called back; wait for its end, or train a copy (copy.deepcopy)."
            )
        with network._data_kept():
            yield
    finally:
        if marks.get(name) is token:
            del marks[name]


def _mark() -> str:
    """The name of this process' mark: one that a fork has copied says nothing in the child."""
    return f"{_MARK}_{os.getpid()}"


_RULES_IN_USE: Final[dict[tuple[int, int], object]] = {}
"""By process and id."""


@contextmanager
def rules_apart(rules: Iterable[Any]) -> Iterator[None]:
    """Let no other fit use these stopping rules meanwhile: they remember what they saw.

    Raises:
        RuntimeError: one does.
    """
    token, held = object(), [(os.getpid(), id(rule)) for rule in rules]
    try:
        for rule in held:
            if _RULES_IN_USE.setdefault(rule, token) is not token:  # one step, as above
                raise RuntimeError(
                    "a stopping rule of this fit is in use by another one, of another thread or of "
                    "the fit that called back; give each trainer rules of its own (copy.deepcopy)."
                )
        yield
    finally:
        for rule in held:
            if _RULES_IN_USE.get(rule) is token:
                del _RULES_IN_USE[rule]


def is_training(network: Any) -> bool:
    """Somebody trains it now."""
    return _mark() in vars(network)


def unmarked(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a copy, which whoever trains this network does not train."""
    return {name: value for name, value in state.items() if not name.startswith(_MARK)}
