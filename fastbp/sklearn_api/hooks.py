"""Callbacks of both kinds, once an epoch: fastbp's functions of a `State`, scikit-learn's objects.

fastbp's are the estimator's parameter `callbacks`. scikit-learn's (from 1.9 on) are set by
`set_callbacks`; they see a task for the fit and one within it for each epoch, and may ask for a
`fitted_estimator` as if the fit had stopped there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ..callbacks import State, as_callbacks, run_callbacks
from ..history import History
from ..network import Network
from .architecture import coefficients

__all__ = ["CallbackSupportMixin", "Hooks", "with_callbacks"]

try:  # scikit-learn >= 1.9
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for scikit-learn's, which has no callbacks before 1.9."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Leave the method as it is."""
        return method


class Hooks:
    """The callbacks of one fit.

    Args:
        estimator: the estimator under way.
        net: its network.
        given: what scikit-learn's hooks may ask for: X, y, metadata.
        tasks: epochs at most; 0: scikit-learn's callbacks are not called.
        anew: nothing was trained before; else the history of earlier fits with callbacks goes on.
    """

    def __init__(
        self, estimator: Any, net: Network, given: dict[str, Any], tasks: int, *, anew: bool
    ) -> None:
        self.estimator, self.net, self.given = estimator, net, given
        self.own = as_callbacks(estimator.callbacks)
        before = None if anew else vars(estimator).get("_history")
        self.history: History = before or History()
        if self.own:
            estimator._history = self.history
        self.context: Any = None
        self.root: Any = None
        if tasks and getattr(estimator, "_skl_callbacks", None):
            self.root = estimator._init_callback_context(max_subtasks=tasks)
            self.root.call_on_fit_task_begin(estimator=estimator, **given)

    @property
    def active(self) -> bool:
        """There is somebody to call."""
        return self.root is not None or bool(self.own)

    def begin(self) -> None:
        """An epoch begins."""
        if self.root is not None:
            self.context = self.root.subcontext(task_name="epoch")
            self._tell(self.context.call_on_fit_task_begin)

    def end(self, values: dict[str, Any]) -> bool:
        """An epoch is over, with these values by name; whether someone asks to stop."""
        stop = False
        if self.context is not None:
            stop = bool(self._tell(self.context.call_on_fit_task_end))
            self.context = None
        if self.own:
            self.history.append_epoch(**values)
            record = self.history.record()
            place = len(self.history) - 1
            state = State(place, self.history, self.net, self.estimator, record)
            stop = run_callbacks(self.own, state) is not None or stop
        return stop

    def finish(self) -> None:
        """The fit is over."""
        if self.context is not None:  # an epoch that was begun and never run
            self.context.call_on_fit_task_end(estimator=self.estimator)
        if self.root is not None:
            self._tell(self.root.call_on_fit_task_end)

    def _tell(self, hook: Callable[..., Any]) -> Any:
        reconstruction = {"reconstruction_attributes": self._fitted}
        return hook(estimator=self.estimator, **self.given, **reconstruction)

    def _fitted(self) -> dict[str, Any]:
        """What a copy of the estimator needs to predict as the network does now."""
        net = copy.deepcopy(self.net)
        coefs, intercepts = coefficients(net)
        return {
            "_network": net, "coefs_": coefs, "intercepts_": intercepts,
            "_bound": [*coefs, *intercepts],
        }  # fmt: skip
