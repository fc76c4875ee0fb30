"""One training at a time: of a network, and by a stopping rule."""

from __future__ import annotations

import copy

import pytest
from small_fits import make_net

import fastbp
from fastbp import exclusive


def test_a_mark_of_the_process_that_this_one_was_forked_from_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child that is forked while a thread trains could never train that network."""
    net, rule = make_net(), fastbp.TimeBudget(9)
    with exclusive.exclusively(net), exclusive.rules_apart([rule]):
        assert exclusive.is_training(net)
        monkeypatch.setattr(exclusive.os, "getpid", lambda: -1)
        assert not exclusive.is_training(net)
        with exclusive.exclusively(net), exclusive.rules_apart([rule]):
            assert exclusive.is_training(net)
        monkeypatch.undo()
        assert exclusive.is_training(net)
        assert not exclusive.is_training(copy.deepcopy(net))
    assert not exclusive.is_training(net)
