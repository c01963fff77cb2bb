"""`call_later` and `call_at`: order, odd deadlines, and what a cancelled timer keeps."""

import asyncio
import contextvars
import fractions
import math
import weakref

import pytest
from support.loops import turn

pytestmark = pytest.mark.every_door


class Thing:
    """Something to hold, and to see go."""

    def __call__(self, *args):
        pass


def test_due_at_once_in_order_of_deadline(parity):
    def body(case):
        case.loop.call_soon(case, "soon 1")
        case.loop.call_later(-1, case, -1)
        case.loop.call_later(-2, case, -2)
        case.loop.call_at(0, case, "at 0")
        case.loop.call_at(-5, case, "at -5")
        case.loop.call_soon(case, "soon 2")
        turn(case.loop)

    assert parity(body)[0] == ["soon 1", "soon 2", "at -5", "at 0", -2, -1]


@pytest.mark.ferrio_only("asyncio's heap shuffles equal deadlines")
def test_equal_deadlines_in_order_of_creation(loop, events):
    when = loop.time() - 1
    for number in range(1000):
        loop.call_at(when, events.append, number)
    turn(loop)
    assert events == list(range(1000))


@pytest.mark.ferrio_only("asyncio's heap shuffles equal deadlines")
def test_equal_deadlines_in_order_of_creation_with_some_cancelled(loop, events):
    when = loop.time() - 1
    timers = [loop.call_at(when, events.append, number) for number in range(1000)]
    for timer in timers[1::2]:
        timer.cancel()
    for number in range(1000, 1010):
        loop.call_at(when, events.append, number)
    turn(loop)
    assert events == [*range(0, 1000, 2), *range(1000, 1010)]


def test_in_the_turn_after_the_ready_ones(parity):
    """Due timers come behind what was ready, and what they queue comes in the next turn."""

    def body(case):
        def timer():
            case("timer")
            case.loop.call_soon(case, "queued by the timer")
            case.loop.call_later(-1, case, "timer of the timer")

        case.loop.call_later(-1, timer)
        case.loop.call_soon(case.loop.call_soon, case, "queued by a callback")
        turn(case.loop)
        case("turn")
        turn(case.loop)

    assert parity(body)[0] == ["timer", "turn", "queued by a callback", "queued by the timer", "timer of the timer"]


def test_zero_is_not_call_soon(parity):
    """A timer of no delay is due in the turn that follows, behind what is ready then."""

    def body(case):
        def callback():
            case.loop.call_later(0, case, "later")
            case.loop.call_soon(case, "soon")

        case.loop.call_soon(callback)
        turn(case.loop, 2)

    assert parity(body)[0] == ["soon", "later"]


@pytest.mark.parametrize("delay", [math.inf, 1e18, 1e300, 10**15, 2**62, 1e9])
def test_far_away(loop, events, delay):
    timer = loop.call_later(delay, events.append, "never")
    assert timer.when() == pytest.approx(loop.time() + delay)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    timer.cancel()
    turn(loop)
    assert events == []


@pytest.mark.parametrize("delay", [-math.inf, -1e18, -1e300, -(10**15)])
def test_long_ago(loop, events, delay):
    loop.call_later(delay, events.append, "at once")
    turn(loop)
    assert events == ["at once"]


@pytest.mark.ferrio_only("asyncio's wait fails on it, and its heap loses its order")
def test_nan_is_due_at_once(loop, events):
    for number in range(3):
        loop.call_later(10, events.append, "never").cancel()
        loop.call_later(math.nan, events.append, number)
        loop.call_at(math.nan, events.append, number)
    turn(loop)
    assert events == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("delay", [10**400, -(10**400)])
def test_beyond_floats(parity, delay):
    def body(case):
        case.raised(case.loop.call_later, delay, case)

    assert parity(body)[0] == [("OverflowError", "int too large to convert to float")]


@pytest.mark.parametrize("delay", [0, 0.0, -0.0, False, fractions.Fraction(1, 10**6)])
def test_kinds_of_numbers(parity, delay):
    def body(case):
        case.loop.call_later(delay, case, "called")
        case.loop.run_until_complete(asyncio.sleep(0.001))

    assert parity(body)[0] == ["called"]


def test_when(parity):
    def body(case):
        timer = case.loop.call_at(12345.678, case)
        case(timer.when(), timer._when, timer.cancelled(), isinstance(timer, asyncio.TimerHandle))
        before = case.loop.time()
        timer = case.loop.call_later(10, case)
        case(before + 10 <= timer.when() <= case.loop.time() + 10)
        case(before + 10 <= hash_is_of_when(timer))
        case(repr(case.loop.call_at(12345, case).when()), repr(case.loop.call_at(when=12345, callback=case).when()))

    def hash_is_of_when(timer):
        assert hash(timer) == hash(timer.when())
        return timer.when()

    recorded, _ = parity(body)
    assert (recorded[0], recorded[-1]) == ((12345.678, 12345.678, False, True), ("12345", "12345"))


def test_never_early(loop, events):
    """The clock has reached the deadline when the callback runs."""

    def callback():
        events.append(loop.time() >= timer.when())
        loop.stop()

    for _ in range(20):
        timer = loop.call_later(0.0015, callback)
        loop.run_forever()
    assert events == [True] * 20


@pytest.mark.parametrize("method", ["call_later", "call_at", "call_soon", "call_soon_threadsafe"])
def test_cancel_frees_callback_arguments_and_context_at_once(loop, method):
    callback, argument, value = Thing(), Thing(), Thing()
    variable = contextvars.ContextVar("variable")
    context = contextvars.Context()
    context.run(variable.set, value)
    gone = [weakref.ref(thing) for thing in (callback, argument, value)]
    delay = (1e6,) if method in {"call_later", "call_at"} else ()
    handle = getattr(loop, method)(*delay, callback, argument, context=context)
    del callback, argument, value, context
    assert all(ref() is not None for ref in gone)
    handle.cancel()
    freed = [ref() is None for ref in gone]
    # asyncio's handles keep the context.
    assert freed == [True, True, "ferrio" in type(handle).__module__]
    assert handle.cancelled()
    turn(loop)


def test_a_fired_timer_keeps_nothing(loop, events):
    argument = Thing()
    gone = weakref.ref(argument)
    loop.call_later(-1, events.append, argument)
    del argument
    turn(loop)
    events.clear()
    assert gone() is None


def test_cancelling_twice_or_late_does_nothing(parity):
    def body(case):
        timer = case.loop.call_later(-1, case, "fired")
        turn(case.loop)
        timer.cancel()
        timer.cancel()
        case(timer.cancelled())
        other = case.loop.call_later(-1, case, "never")
        other.cancel()
        other.cancel()
        turn(case.loop)

    assert parity(body)[0] == ["fired", True]


def test_a_late_cancel_does_not_hit_the_next_timer(loop, events):
    """The key of a timer that has fired names nothing, even when its place has been given away."""
    fired = [loop.call_later(-1, int) for _ in range(10)]
    turn(loop)
    for number in range(10):
        loop.call_later(-1, events.append, number)
    for timer in fired:
        timer.cancel()
    turn(loop)
    assert sorted(events) == list(range(10))


def test_cancelled_by_a_callback_of_the_same_turn(parity):
    """A timer that is due, but whose turn has not come, can still be cancelled."""

    def body(case):
        case.loop.call_later(-2, lambda: timer.cancel())
        timer = case.loop.call_later(-1, case, "never")
        case.loop.call_soon(lambda: soon.cancel())
        soon = case.loop.call_soon(case, "never")
        turn(case.loop, 2)

    assert parity(body)[0] == []


def test_cancelling_itself(parity):
    def body(case):
        def callback(argument):
            timer.cancel()
            case("runs on", argument, timer.cancelled())

        timer = case.loop.call_later(-1, callback, "argument")
        turn(case.loop)

    assert parity(body)[0] == [("runs on", "argument", True)]


def test_a_finalizer_that_sets_timers(loop, events):
    """What a cancelled timer lets go may come back to the loop while it does."""

    class Hostile:
        def __del__(self):
            loop.call_later(-1, events.append, "from the finalizer")
            if timers:
                timers.pop().cancel()

    timers = [loop.call_later(1e6, print, Hostile()) for _ in range(100)]
    timers.pop().cancel()
    assert timers == []
    turn(loop)
    assert len(events) == 100


def test_comparisons(parity):
    def body(case):
        early, late = case.loop.call_at(1, case), case.loop.call_at(2, case)
        same = case.loop.call_at(1, case)
        other = case.loop.call_at(1, case, "argument")
        case(early < late, early <= late, early > late, early >= late, early == late, early != late)
        case(early == same, early <= same, early == other, early <= other, early < other)
        same.cancel()
        case(early == same, early == 1, early != 1, early.__lt__(1) is NotImplemented)
        case(sorted([late, early]) == [early, late])

    assert parity(body)[0][0] == (True, True, False, False, False, True)


@pytest.mark.ferrio_only("asyncio's loop has no such number to look at")
def test_memory_of_cancelled_timers_is_bounded(loop):
    """A million timers set and cancelled, one lives: the loop's memory does not remember them."""
    import resource

    def burst(count):
        for _ in range(count):
            loop.call_later(3600, print).cancel()

    keep = loop.call_later(7200, print)
    burst(10_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    burst(500_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    keep.cancel()
    # Dead entries of three words each would be 12,000 KiB.
    assert grown < 4000


def test_close_drops_timers(loop):
    argument = Thing()
    gone = weakref.ref(argument)
    handle = loop.call_later(1e6, print, argument)
    del argument
    loop.close()
    kept = gone() is not None
    handle.cancel()
    assert gone() is None
    # A handle that somebody keeps has its callback still, as in asyncio.
    assert kept


def test_timeouts_of_the_standard_library(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        for delay in (0, -1):
            try:
                async with asyncio.timeout(delay):
                    await loop.create_future()
            except TimeoutError:
                case("timed out")
        try:
            await asyncio.wait_for(loop.create_future(), 0)
        except TimeoutError:
            case("wait_for")
        async with asyncio.timeout(1e6) as scope:
            scope.reschedule(None)
            case(await asyncio.sleep(0, "result"))

    assert parity(body)[0] == ["timed out", "timed out", "wait_for", "result"]


def test_pending_ones_can_be_looked_at(parity):
    """Test suites that let time pass run what is due by then, and cancel it."""

    def body(case):
        loop, now = case.loop, case.loop.time()
        for delay in (300, 100, 200, 400):
            loop.call_at(now + delay, case, delay)
        loop.call_at(now + 50, case, "cancelled").cancel()
        loop.call_soon(case, "soon")
        for handle in sorted(loop._scheduled):
            if not handle.cancelled() and handle.when() <= now + 250:
                case(isinstance(handle, case.classes.TimerHandle), isinstance(handle, asyncio.TimerHandle))
                handle._run()
                handle.cancel()
        turn(loop)
        case(sorted(round(handle.when() - now) for handle in loop._scheduled if not handle.cancelled()))

    parity(body)


@pytest.mark.ferrio_only("asyncio's is what it goes by")
def test_pending_ones_are_a_copy(loop, events):
    loop.call_later(0, events.append, "first")
    loop._scheduled.clear()
    assert len(loop._scheduled) == 1
    turn(loop)
    assert (events, loop._scheduled) == (["first"], [])
