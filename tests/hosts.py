"""Two ranks on two hosts: network namespaces joined by a pair of virtual interfaces (Linux, root).

    python tests/hosts.py          every recipe of ranks.py over TCP, then a rank killed

Not a part of the suite: it makes namespaces, and takes them away again.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastbp.bench.scaling import launcher

HOSTS = {"fastbp-a": "10.77.0.1", "fastbp-b": "10.77.0.2"}
PROGRAM = Path(__file__).with_name("ranks.py")
MPIEXEC = launcher()
# The launcher's remote shell: HOST COMMAND..., in the namespace of that address.
SHELL = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
case "$1" in 10.77.0.1) name=fastbp-a;; *) name=fastbp-b;; esac
shift
exec ip netns exec "$name" sh -c "$*"
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """The namespaces, joined."""
    try:
        for name in HOSTS:
            ip("netns", "add", name)
        ip("link", "add", "va", "netns", "fastbp-a", "type", "veth", "peer", "name", "vb",
           "netns", "fastbp-b")  # fmt: skip
        for (name, address), link in zip(HOSTS.items(), ("va", "vb"), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def launched(case: str, place: Path) -> tuple[int, str]:
    """A run of one rank on each host."""
    shell = place / "shell"
    shell.write_text(SHELL)
    shell.chmod(0o755)
    command = [
        "ip", "netns", "exec", "fastbp-a", str(MPIEXEC), "-launcher", "rsh", "-launcher-exec",
        str(shell), "-hosts", ",".join(HOSTS.values()), "-n", "2", sys.executable, str(PROGRAM),
        case, str(place),
    ]  # fmt: skip
    # Both are on this machine, and its memory is no network.
    environment = {**os.environ, "UCX_TLS": "tcp,self"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, env=environment
    )
    return done.returncode, done.stderr


def main() -> None:
    with hosts(), tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        status, said = launched("same", place)
        if status:
            raise SystemExit(f"two hosts failed:\n{said}")
        one, two = (np.load(place / f"{rank}.npz") for rank in range(2))
        if any((one[name] != two[name]).any() for name in one.files):
            raise SystemExit("the hosts have other bits")
        print(f"two hosts: {len(one.files)} arrays, the same bits on both")
        status, said = launched("killed", place)
        named = [line for line in said.splitlines() if "died in the middle" in line]
        print(f"killed: status {status}, {named[0] if named else 'no rank named:' + said}")
        raise SystemExit(0 if status and named and "rank 1 of 2" in named[0] else 1)


if __name__ == "__main__":
    main()
