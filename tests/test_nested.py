"""Objects that have each other, more of them than a thread's stack has room for."""

import gc
import weakref

import pytest

import ferrio


def futures(loop, last):
    future = loop.create_future()
    future.set_result(last)
    return future


def exceptions(loop, last):
    future = loop.create_future()
    future.set_exception(ValueError(last))
    future.exception()
    return future


def queues(make):
    def queue(_loop, last):
        made = make()
        made.put_nowait(last)
        return made

    return queue


class Own(ferrio.Future):
    """A class of a program's own."""


def own(loop, last):
    future = Own(loop=loop)
    future.set_result(last)
    return future


KINDS = [futures, exceptions, own, queues(ferrio.Queue), queues(ferrio.LifoQueue), queues(ferrio.PriorityQueue)]


@pytest.mark.parametrize("make", KINDS, ids=["futures", "exceptions", "own", "Queue", "LifoQueue", "PriorityQueue"])
def test_many_go_at_once(loop, make):
    first = last = loop.create_future()
    gone = weakref.ref(first)
    del first
    for _ in range(100_000):
        last = make(loop, last)
    del last
    assert gone() is None


@pytest.mark.parametrize("make", KINDS[:3], ids=["futures", "exceptions", "own"])
def test_the_collector_in_between(loop, make):
    """Those that wait for their end are not the collector's any more."""

    class Value:
        def __del__(self):
            gc.collect()
            ended.append(loop.create_future())

    ended = []
    last = None
    for number in range(500):
        last = make(loop, [Value(), last] if number % 50 == 0 else last)
    del last
    assert len(ended) == 10


def test_one_that_comes_back(loop):
    """A finalizer brings an object back that had to wait for it."""

    class Back(ferrio.Future):
        def __del__(self):
            kept.append(self)

    kept = []
    last = Back(loop=loop)
    last.set_result("value")
    for _ in range(200):
        last = futures(loop, last)
    del last
    assert [future.result() for future in kept] == ["value"]
    assert gc.is_tracked(kept[0])
