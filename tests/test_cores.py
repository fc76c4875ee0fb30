"""Where threads start: what is dealt, how a start is restricted, and that nothing of it stays."""

import errno
import itertools
import os
from types import SimpleNamespace

import pytest

from fastbp import cores, threads

LINUX = pytest.mark.skipif(
    cores.current_core() == cores.UNKNOWN or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)


def test_no_core_is_dealt_twice_and_none_is_left_over():
    for count, size in itertools.product(range(1, 6), range(6)):
        for last in itertools.product((-1, 0, 1, 2), repeat=count):
            dealt = cores.deal(set(range(size)), last)
            assert len(dealt) == count
            assert sorted(itertools.chain(*dealt)) == list(range(size))
            # Who has more than one has it while nobody has none.
            assert min(map(len, dealt)) > 0 or max(map(len, dealt), default=0) <= 1
            for core in set(last) & set(range(size)):
                assert core in dealt[last.index(core)]


@LINUX
def test_a_worker_starts_apart_from_the_caller_and_may_then_run_anywhere(monkeypatch):
    own, started, settled = [], [], []
    keep_apart, settle = cores.keep_apart, cores.settle

    def watched_keep_apart(workers):
        core = cores.current_core()
        monkeypatch.setattr(cores, "current_core", lambda: core)
        keep_apart(workers)
        monkeypatch.undo()
        monkeypatch.setattr(cores, "settle", watched_settle)
        own.append(core)

    def watched_settle(worker):
        started.append((cores.current_core(), os.sched_getaffinity(0)))
        settle(worker)
        settled.append(os.sched_getaffinity(0))
        assert worker.mask is None

    everywhere = os.sched_getaffinity(0)
    monkeypatch.setattr(cores, "keep_apart", watched_keep_apart)
    threads.run(lambda t, team: None, 2, ())
    ((core, allowed),) = started
    assert allowed == everywhere - set(own)
    assert core in allowed
    assert settled == [everywhere]
    assert os.sched_getaffinity(0) == everywhere


@LINUX
def test_more_threads_than_cores_start_all_the_same():
    seen = []
    count = 2 * len(os.sched_getaffinity(0)) + 1
    threads.run(lambda t, team: seen.append((t, os.sched_getaffinity(0))), count, ())
    everywhere = os.sched_getaffinity(0)
    assert sorted(t for t, _ in seen) == list(range(count))
    assert all(allowed == everywhere for _, allowed in seen)


def waiting(core=0, native_id=1, mask=None):
    return SimpleNamespace(core=core, native_id=native_id, mask=mask)


@LINUX
def test_where_the_system_refuses_a_worker_starts_where_it_may(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "not permitted")

    worker = waiting(native_id=os.getpid())
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    cores.keep_apart([worker])
    assert worker.mask is None
    worker.mask = {0}
    cores.settle(worker)
    assert worker.mask is None


@LINUX
def test_a_restriction_that_was_never_taken_back_is_not_taken_for_the_mask(monkeypatch):
    """An interrupt between the restriction and the task leaves it; the next start must not."""
    asked = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda number, cores: asked.append(cores))
    worker = waiting(mask={0, 1, 2, 3})
    cores.keep_apart([worker])
    assert worker.mask == {0, 1, 2, 3}
    cores.settle(worker)
    assert asked[-1] == {0, 1, 2, 3}


def test_where_cores_have_no_names_nothing_is_done(monkeypatch):
    monkeypatch.setattr(cores, "_core_of_caller", None)
    assert cores.current_core() == cores.UNKNOWN
    worker = waiting()
    cores.keep_apart([worker])
    assert worker.mask is None
