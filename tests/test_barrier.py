"""`Barrier`: how many it takes. How tasks come and go is in test_locks.py."""

import asyncio
import decimal
import fractions

import pytest
from support.case import neutral

import ferrio


@pytest.mark.parametrize(
    "parties", [1, 2, True, 2.0, 1.5, float("inf"), 10**30, decimal.Decimal(2), fractions.Fraction(5, 2)], ids=repr
)
def test_parties_in_any_number(parity, parties):
    """What a count cannot reach is waited for until somebody ends it."""

    async def body(case):
        barrier = case.classes.Barrier(parties)
        case(barrier.parties == parties, barrier.n_waiting)
        waiting = [asyncio.ensure_future(barrier.wait()) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(0)
        case([task.done() for task in waiting], barrier.n_waiting)
        case(neutral(repr(barrier)).partition(" object")[2])
        for task in waiting:
            task.cancel()
        case([type(ending).__name__ for ending in await asyncio.gather(*waiting, return_exceptions=True)])

    parity(body)


@pytest.mark.ferrio_only("it counts without an end")
def test_a_count_at_its_end(loop):
    async def body():
        barrier = ferrio.Barrier(1)
        for count, state in ((2**63 - 1, "filling"), (-(2**63), "draining")):
            barrier._count, barrier._state = count, state
            waiting = asyncio.ensure_future(barrier.wait())
            for _ in range(3):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    loop.run_until_complete(body())


@pytest.mark.parametrize("parties", [0, -1, 0.5, -(10**30), float("-inf"), None, "2", [], 1j], ids=repr)
def test_what_is_no_number_of_parties(parity, parties):
    def body(case):
        with pytest.raises((TypeError, ValueError)) as caught:
            case.classes.Barrier(parties)
        case(caught.type.__name__)

    parity(body)
