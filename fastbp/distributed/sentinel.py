"""A small process that outlives the ranks for a moment, to say which of them died.

MPI's launchers end all ranks as soon as one is gone (killed by the kernel for memory, say), and
name a process, not a rank: none of the others lives to tell. Each rank holds a connection to this
process (`lifeline.py`); a connection that closes in the middle of a fit is a rank that died, and
the first to close is the one that did. Where a launcher leaves the others waiting, they are told to
end.

Run as a file by an interpreter without site-packages: the standard library alone, and no fastbp.

    python -S -E sentinel.py HOST TOKEN RANKS      prints its port, then watches
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import sys
import time

GREET = 60.0
"""Seconds for all ranks to come."""
MERCY = 10.0
"""Seconds for a launcher to end the others."""
FITTING, RESTING, EXCUSED, ENDED = b"+", b"-", b"x", b"!"


class Rank:
    """A rank's connection: who it is, and what it does."""

    def __init__(self, connection: socket.socket, number: int, where: str) -> None:
        self.connection, self.number, self.where = connection, number, where
        self.state = RESTING


def keep_alive(connection: socket.socket) -> None:
    """A host that vanishes without a word is missed after 20 seconds."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def welcome(server: socket.socket, token: str, count: int) -> dict[int, Rank]:
    """The ranks by descriptor, when all have come; who does not know the token is sent away."""
    ranks: dict[int, Rank] = {}
    end = time.monotonic() + GREET
    while len(ranks) < count:
        server.settimeout(max(end - time.monotonic(), 0.01))
        connection, _ = server.accept()
        connection.settimeout(5.0)
        # Unbuffered: what it says after its greeting may have come as well, and is for `watch`.
        greeting = connection.makefile("rb", buffering=0).readline(500)
        words = greeting.decode("utf-8", "replace").split()
        if len(words) != 4 or words[0] != token:
            connection.close()
            continue
        keep_alive(connection)
        where = f"process {words[2]} on {words[3]}"
        ranks[connection.fileno()] = Rank(connection, int(words[1]), where)
    return ranks


class Watch:
    """Which ranks are left, and since when all must end.

    Attributes:
        left: the ranks that are still connected, by descriptor.
        first: the first to go, in a fit or not; None while all are there.
        since: when the end became certain; 0 while it is not.
    """

    def __init__(self, ranks: dict[int, Rank]) -> None:
        self.left, self.count = dict(ranks), len(ranks)
        self.first: Rank | None = None
        self.since = 0.0

    def hear(self, descriptor: int) -> bool:
        """What a rank says; whether it is still there."""
        rank = self.left[descriptor]
        try:
            word = rank.connection.recv(1)
        except OSError:  # the host is gone
            word = b""
        if word:
            rank.state = word
            if word == EXCUSED:  # it has said what happened; now it ends all
                self.since = self.since or time.monotonic()
            return True
        del self.left[descriptor]
        self.first = self.first or rank
        if rank.state != RESTING and not self.since:
            self.since = time.monotonic()
            if rank.state == FITTING:
                report(self.first, self.count)
        return False

    def overdue(self) -> bool:
        """The launcher has had its time to end the others."""
        return self.since > 0.0 and time.monotonic() - self.since > MERCY


def watch(ranks: dict[int, Rank]) -> None:
    """Until every connection has closed. The system tells of them in the order of events."""
    events = select.epoll() if hasattr(select, "epoll") else select.poll()
    for descriptor in ranks:
        events.register(descriptor, select.POLLIN)
    state = Watch(ranks)
    while state.left:
        for descriptor, _ in events.poll(0.5) if state.since else events.poll():
            if not state.hear(descriptor):
                events.unregister(descriptor)
        if state.overdue():
            end(state.left)
            return


def report(rank: Rank, count: int) -> None:
    """One line on the ranks' standard error."""
    when = "died in the middle of" if rank.state == FITTING else "was gone before the others began"
    print(
        f"fastbp: rank {rank.number} of {count} ({rank.where}) {when} a fit: "
        "killed, out of memory, or its host is gone. All ranks are ended; a checkpoint, if the "
        "Trainer has one, is whole: trainer.resume() goes on from there.",
        file=sys.stderr,
        flush=True,
    )


def end(left: dict[int, Rank]) -> None:
    """Tell the others to end."""
    for rank in left.values():
        with contextlib.suppress(OSError):
            rank.connection.sendall(ENDED)


def main(host: str, token: str, count: int) -> None:
    """Listen, say where, watch."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the ranks
    with socket.create_server((host, 0), backlog=count) as server:
        print(server.getsockname()[1], flush=True)
        sys.stdout.close()
        ranks = welcome(server, token, count)
    watch(ranks)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
