"""One training at a time: a network that is being trained carries a mark."""

from __future__ import annotations

from collections.abc import Iterator
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
    token, mark = object(), vars(network)
    try:
        if mark.setdefault(_MARK, token) is not token:  # one step, so safe between threads
            raise RuntimeError(
                "this network is being trained already, by another thread or by the fit that "
                "called back; wait for its end, or train a copy (copy.deepcopy)."
            )
        with network._data_kept():
            yield
    finally:
        if mark.get(_MARK) is token:
            del mark[_MARK]


def is_training(network: Any) -> bool:
    """Somebody trains it now."""
    return _MARK in vars(network)


def unmarked(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a copy, which whoever trains this network does not train."""
    return {name: value for name, value in state.items() if name != _MARK}
