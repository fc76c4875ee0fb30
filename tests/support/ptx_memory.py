"""The memory of `ptx_machine.py`: what was allocated, and who touched what of a block's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from ptx_instructions import GLOBAL

Array = np.ndarray[Any, Any]


class Memory:
    """The card's global memory: allocations with gaps, every access checked."""

    def __init__(self, size: int = 1 << 26) -> None:
        self.bytes = np.zeros(size, np.uint8)
        self.owned = np.zeros(size >> 2, np.bool_)  # by words
        self.free = 256

    def allocate(self, size: int) -> int:
        """The address of so many bytes."""
        start = self.free
        self.free += -(-size // 256) * 256 + 256
        if self.free > self.bytes.size:
            raise MemoryError("the machine's memory is full: make it larger")
        self.owned[start >> 2 : (start + size + 3) >> 2] = True
        return GLOBAL + start


class Watch:
    """Who wrote and read a block's shared memory since its threads last met, by words.

    Two threads must not touch a word in between, unless both read it or write it by one
    instruction.
    """

    MANY = -2

    def __init__(self, size: int) -> None:
        words = -(-size // 4)
        self.meeting = 1
        self.writer, self.wrote = np.full(words, -1), np.zeros(words, np.int64)
        self.reader, self.looked = np.full(words, -1), np.zeros(words, np.int64)

    def read(self, at: Array, size: int, g: Array, text: str) -> None:
        """The threads g read so many bytes each."""
        for word, thread in self._words(at, size, g):
            if ((self.wrote[word] == self.meeting) & (self.writer[word] != thread)).any():
                raise RuntimeError(f"read of what another thread may be writing: {text}")
            again = (self.looked[word] == self.meeting) & (self.reader[word] != thread)
            self.reader[word] = np.where(again, self.MANY, thread)
            several = np.bincount(word, minlength=self.reader.size)[word] > 1
            self.reader[word[several]] = self.MANY
            self.looked[word] = self.meeting

    def write(self, at: Array, size: int, g: Array, text: str) -> None:
        """The threads g write so many bytes each."""
        for word, thread in self._words(at, size, g):
            wrote = (self.wrote[word] == self.meeting) & (self.writer[word] != thread)
            looked = (self.looked[word] == self.meeting) & (self.reader[word] != thread)
            if (wrote | looked).any():
                raise RuntimeError(f"write to what another thread may be using: {text}")
            self.writer[word], self.wrote[word] = thread, self.meeting

    @staticmethod
    def _words(at: Array, size: int, g: Array) -> Any:
        return [(at // 4 + k, g) for k in range(max(1, size // 4))]
