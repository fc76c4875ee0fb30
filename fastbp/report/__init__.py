"""One page about a training: curves, results, the network, the diagnosis; nothing from the net."""

from .page import notebook, report

__all__ = ["notebook", "report"]
