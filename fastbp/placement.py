"""Where a network's numbers are: in the host's memory, and on a card as well where it is asked to.

`device="cuda"` keeps the host's arrays as the network's face, so that all that is done with them on
the CPU is done in the same words; what computes is the card (`cuda/card.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .data import as_matrix
from .devices import check_device, check_place, is_on_card
from .exclusive import is_training
from .sparse import Sparse, as_sparse, is_sparse

if TYPE_CHECKING:
    from .cuda.card import Card
    from .engine import Array


class Placement:
    """What a `Network` knows of its device."""

    device: str
    inputs: int
    dtype: np.dtype[Any]
    _precision: str | None
    _parameters: Array
    _running: Array
    _workspaces: list[Any]
    _card_made: Card | None
    _rows_lent: bool = False  # an optimizer's rows have been handed out

    def to(self, device: str) -> Self:
        """Move the network to a device, "cpu" or "cuda", where it computes from now on.

        Its parameters stay what they are, and views of them stay valid.

        Args:
            device: the name.

        Returns:
            The network itself.

        Raises:
            ValueError, TypeError: no such device, or not with this precision.
            ImportError, RuntimeError: "cuda", and a package, a driver or a card is missing; the
                message says which, and how to get it. Or the network is being trained.
            MemoryError: the card has no room for the network.

        >>> import fastbp
        >>> fastbp.Network(2, [fastbp.Dense(1)]).to("cpu").device
        'cpu'
        """
        name = check_device(device)
        if name == self.device:
            return self
        check_place(name, self._precision)
        if is_training(self):
            raise RuntimeError(
                "this network is being trained: it can be moved to another device when the fit "
                "has ended, or move a copy (copy.deepcopy)."
            )
        self._settle()
        placed: dict[str, Any] = {"device": name, "_card_made": None, "_workspaces": []}
        before = {field: vars(self)[field] for field in placed}
        vars(self).update(placed)
        try:
            _ = self._card
        except BaseException:
            vars(self).update(before)
            raise
        return self

    @property
    def _card(self) -> Card | None:
        """The numbers on the card; None on the CPU."""
        if self.device == "cpu":
            return None
        if self._card_made is None:
            from .cuda.card import Card

            check_device(self.device)  # a network that was unpickled on another machine
            self._card_made = Card(self._parameters, self._running, lent=self._rows_lent)
        return self._card_made

    def _settle(self) -> None:
        """The host's arrays hold the network's numbers."""
        if self._card_made is not None:
            self._card_made.settle()

    def _hand_out(self, *, rows: bool = False) -> None:
        """The host's arrays hold the numbers, and may be written to from now on.

        rows: the optimizer's are handed out.
        """
        self._rows_lent = self._rows_lent or rows
        if self._card_made is not None:
            self._card_made.touch(rows=rows)

    @contextmanager
    def _data_kept(self) -> Iterator[None]:
        """A training: what it keeps stays on the card meanwhile; the host has its numbers after."""
        card = self._card
        if card is None:
            yield
            return
        card.hold()
        try:
            yield
        finally:
            card.release()

    def _keep(self, *fitted: Any) -> None:
        """The data of the training under way, to be copied to the card once; None is none."""
        if self._card_made is None:
            return
        nothing = np.empty(0, np.int64)
        for batch in (data.batch(nothing, nothing) for data in fitted if data is not None):
            arrays = (batch.X, batch.labels, batch.targets, batch.weights)
            self._card_made.keep(*arrays, batch.columns, batch.starts)

    def _as_matrix(
        self, X: Any, name: str = "X", *, finite: bool = True, sparse: bool = False
    ) -> Any:
        """X in canonical form, (n, inputs): the host's, or on the card as it lies there.

        With `sparse` a sparse matrix may come and remains one, on the host.
        """
        if sparse and self.device == "cpu":
            if isinstance(X, Sparse):
                return X
            if is_sparse(X):
                return as_sparse(X, self.inputs, self.dtype, name)
        if self.device != "cpu" and (type(X).__name__ == "CardMatrix" or is_on_card(X)):
            from .cuda.matrix import CardMatrix, card_matrix

            if isinstance(X, CardMatrix):
                return X
            return card_matrix(X, self.inputs, self.dtype, name, finite)
        return as_matrix(X, self.inputs, self.dtype, name, finite=finite)

    def _on_host(self, y: Any) -> Any:
        """Targets or weights of a card, copied to be looked at; anything else as it is."""
        if self.device != "cpu" and y is not None and is_on_card(y):
            from .kernels.cuda import memory

            return memory.view(y).copy_to_host()
        return y
