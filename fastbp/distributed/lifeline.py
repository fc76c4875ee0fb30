"""A rank's connection to the sentinel, which says so should the rank die in the middle of a fit."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from . import sentinel

_MOST_ADDRESSES: Final = 4  # of a host, to be tried one after the other
_PATIENCE: Final = 3.0
"""Seconds to reach the sentinel at one of its addresses."""
_SIOCGIFADDR: Final = 0x8915


def _addresses() -> list[str]:
    """This host's addresses (IPv4, Linux) but its own loop; a name may not be known elsewhere."""
    found = []
    with contextlib.suppress(ImportError, OSError), socket.socket() as any_socket:
        import fcntl

        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address
                asked = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, asked)
                found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")][:_MOST_ADDRESSES]


class Lifeline:
    """Open for as long as the process lives; it is a help, and training goes without, too.

    The first rank starts the sentinel. Within one host it listens to that host alone; over several,
    all ranks must reach the first rank's host by its name or one of its addresses.
    """

    def __init__(self, comm: Any, near: bool) -> None:
        self.comm, self.near = comm, near
        place = comm.bcast(self._start() if comm.Get_rank() == 0 else None, root=0)
        self.socket = self._connect(*place) if place else None
        if not all(comm.allgather(self.socket is not None)):
            self._close()
        if self.socket is not None:
            threading.Thread(target=self._listen, name="fastbp-lifeline", daemon=True).start()

    def _start(self) -> tuple[list[str], int, str] | None:
        """The sentinel: the names of its host, its port, and the word to greet it with."""
        token, host = secrets.token_hex(16), "127.0.0.1" if self.near else "0.0.0.0"  # noqa: S104
        command = [sys.executable, "-S", "-E", str(Path(sentinel.__file__)), host, token]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
                [*command, str(self.comm.Get_size())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert process.stdout is not None
            port = int(process.stdout.readline())
            process.stdout.close()
            process.returncode = 0  # nobody waits for it: it outlives this process
        except (OSError, ValueError):
            return None
        return (["127.0.0.1"] if self.near else [*_addresses(), socket.gethostname()]), port, token

    def _connect(self, names: list[str], port: int, token: str) -> socket.socket | None:
        for name in names:
            with contextlib.suppress(OSError):
                connection = socket.create_connection((name, port), timeout=_PATIENCE)
                connection.settimeout(None)
                who = f"{token} {self.comm.Get_rank()} {os.getpid()} {socket.gethostname()}\n"
                connection.sendall(who.encode())
                return connection
        return None

    def _close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _say(self, word: bytes) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError):  # the sentinel is gone: without it, then
                self.socket.sendall(word)

    def _listen(self) -> None:
        """Wait to be told that another rank died and the launcher ends nobody."""
        assert self.socket is not None
        with contextlib.suppress(OSError):
            if self.socket.recv(1) == sentinel.ENDED:
                os._exit(1)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Whoever dies within is reported."""
        self._say(sentinel.FITTING)
        try:
            yield
        finally:
            self._say(sentinel.RESTING)

    def excuse(self) -> None:
        """This rank has said itself why it ends."""
        self._say(sentinel.EXCUSED)
