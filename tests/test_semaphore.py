"""`Semaphore` and `BoundedSemaphore`: what permits are counted in. Who waits for whom is in test_locks.py."""

import asyncio
import decimal
import fractions

import pytest

NUMBERS = [0, 1, 2, True, 1.5, 0.5, 2.0, float("inf"), 10**30, decimal.Decimal(2), fractions.Fraction(3, 2)]


async def takes(semaphore):
    """How many permits there are, up to five."""
    for count in range(5):
        if semaphore.locked():
            return count
        await semaphore.acquire()
    return "many"


@pytest.mark.parametrize("name", ["Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_counted_in_any_number(parity, name, value):
    """A fraction is never all taken, as asyncio looks for zero."""

    async def body(case):
        semaphore = getattr(case.classes, name)(value)
        case(semaphore.locked(), float(semaphore._value) == float(value))
        case(await takes(semaphore))
        if value != float("inf"):  # Which asyncio does not take back.
            case.raised(semaphore.release)
            case(semaphore.locked(), float(semaphore._value))

    parity(body)


@pytest.mark.parametrize("name", ["Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize("value", [None, "1", [], 1 + 1j, -1, -0.5, -(10**30)], ids=repr)
def test_what_is_no_number_of_permits(parity, name, value):
    def body(case):
        with pytest.raises((TypeError, ValueError)) as caught:
            getattr(case.classes, name)(value)
        case(caught.type.__name__)

    parity(body)


def test_a_bounded_one_does_not_take_a_part_too_much(parity):
    async def body(case):
        semaphore = case.classes.BoundedSemaphore(1.5)
        case.raised(semaphore.release)
        await semaphore.acquire()
        case(semaphore._value)
        semaphore.release()
        case(semaphore._value)

    recorded, _ = parity(body)
    assert recorded == [("ValueError", "BoundedSemaphore released too many times"), 0.5, 1.5]


def test_a_count_that_has_no_more_room(loop):
    """Whatever a program puts there, to count on is no error."""
    from ferrio import Semaphore

    async def main():
        semaphore = Semaphore()
        semaphore._value = 2**63 - 1
        semaphore.release()
        assert semaphore._value == 2**63
        semaphore._value = -(2**63)
        await semaphore.acquire()
        assert semaphore._value < -(2**62)

    loop.run_until_complete(main())


def test_a_waiter_gets_the_permit_that_comes_back(parity):
    async def body(case):
        semaphore = case.classes.Semaphore(1.0)
        await semaphore.acquire()
        waiting = asyncio.ensure_future(semaphore.acquire())
        await asyncio.sleep(0)
        case(waiting.done(), semaphore.locked())
        semaphore.release()
        case(await waiting, semaphore._value)

    parity(body)
