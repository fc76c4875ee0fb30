"""Callbacks: what counts as one, that each is called, and what stops the training."""

from __future__ import annotations

from typing import Any

import pytest

from fastbp.callbacks import Callback, State, as_callbacks, run_callbacks


def _state(epoch: int = 0) -> State:
    return State(epoch, history=None, network=None, trainer=None)  # type: ignore[arg-type]


class Recorder:
    def __init__(self, answer: object = None) -> None:
        self.epochs: list[int] = []
        self.answer = answer

    def on_epoch_end(self, state: State) -> object:
        self.epochs.append(state.epoch)
        return self.answer


def test_an_object_with_the_method_is_a_callback() -> None:
    assert isinstance(Recorder(), Callback)
    assert as_callbacks(None) == []
    assert [name for name, _ in as_callbacks([Recorder(), print])] == ["Recorder", "print"]
    assert [name for name, _ in as_callbacks((Recorder(),))] == ["Recorder"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(None, None), (False, None), (0, None), ("", None),
     (True, "the callback Recorder asked for it"), (1, "the callback Recorder asked for it"),
     ("cold", "cold")],
)  # fmt: skip
def test_what_stops(answer: object, reason: str | None) -> None:
    assert run_callbacks(as_callbacks(Recorder(answer)), _state()) == reason


def test_all_are_called_and_the_first_reason_counts() -> None:
    first, second, third = Recorder(), Recorder("one"), Recorder("two")
    hooks = as_callbacks([first, second, third])
    assert run_callbacks(hooks, _state(7)) == "one"
    assert first.epochs == second.epochs == third.epochs == [7]


def test_an_exception_is_the_users() -> None:
    def broken(state: State) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_callbacks(as_callbacks(broken), _state())


@pytest.mark.parametrize("value", [3, "print", [3], ["print"], [None], Recorder, [Recorder]])
def test_all_else_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"callbacks.*(on_epoch_end\(state\)|is a class)"):
        as_callbacks(value)
