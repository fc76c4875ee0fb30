"""Stub."""
from contextlib import contextmanager


class Lifeline:
    def __init__(self, comm): pass
    @contextmanager
    def watching(self): yield
    def excuse(self): pass
