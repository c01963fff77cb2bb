"""`add_reader` and its family: what may be watched, who is told, and descriptors that go away under the loop."""

import asyncio
import contextlib
import os
import socket
import tempfile
import weakref

import pytest
from support.loops import turn

pytestmark = pytest.mark.every_door


@pytest.fixture
def pair():
    """Two connected sockets, non-blocking, closed in the end."""
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(False)
    yield pair
    for each in pair:
        each.close()


def connected():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@contextlib.contextmanager
def sockets():
    """The same as `pair`, for bodies that run twice."""
    ours, theirs = connected()
    with ours, theirs:
        yield ours, theirs


def fill(sock):
    """Writes until nothing more fits."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))


def drain(sock):
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass


class Fileno:
    """An object that has a descriptor, and nothing else of a file."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


FORMS = {
    "socket": lambda sock: sock,
    "number": lambda sock: sock.fileno(),
    "object": lambda sock: Fileno(sock.fileno()),
}
form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@form
def test_reader(parity, form):
    """Told in every turn in which there is something to read, and in no other."""

    def body(case):
        with sockets() as (ours, theirs):
            case(case.loop.add_reader(form(ours), case, "readable", 1))
            turn(case.loop)
            theirs.send(b"x")
            turn(case.loop)
            turn(case.loop)
            case(ours.recv(10))
            turn(case.loop)
            case(case.loop.remove_reader(form(ours)), case.loop.remove_reader(form(ours)))
            theirs.send(b"x")
            turn(case.loop)

    assert parity(body)[0] == [None, ("readable", 1), ("readable", 1), b"x", (True, False)]


@form
def test_writer(parity, form):
    def body(case):
        with sockets() as (ours, theirs):
            case(case.loop.add_writer(form(ours), case, "writable"))
            turn(case.loop)
            fill(ours)
            turn(case.loop)
            drain(theirs)
            turn(case.loop)
            case(case.loop.remove_writer(form(ours)), case.loop.remove_writer(form(ours)))
            turn(case.loop)

    assert parity(body)[0] == [None, "writable", "writable", (True, False)]


def test_by_one_form_and_by_another(parity):
    """A descriptor is its number, whatever it was named by."""

    def body(case):
        with sockets() as (ours, theirs):
            case.loop.add_reader(ours, case, "socket")
            case.loop.add_reader(ours.fileno(), case, "number")
            theirs.send(b"x")
            turn(case.loop)
            case(case.loop.remove_reader(Fileno(ours.fileno())), case.loop.remove_reader(ours))

    assert parity(body)[0] == ["number", (True, False)]


def test_both_sides(parity):
    """Reading first, in a turn that finds both."""

    def body(case):
        with sockets() as (ours, theirs):
            theirs.send(b"x")
            case.loop.add_writer(ours, case, "writable")
            case.loop.add_reader(ours, case, "readable")
            turn(case.loop)
            case(case.loop.remove_writer(ours))
            turn(case.loop)
            case.loop.add_writer(ours, case, "writable again")
            case(case.loop.remove_reader(ours))
            turn(case.loop)
            case(case.loop.remove_writer(ours))

    assert parity(body)[0] == ["readable", "writable", True, "readable", True, "writable again", True]


def test_a_callback_in_the_place_of_another(parity):
    """The one before is cancelled: it is not called, even if it is in the queue."""

    def body(case):
        with sockets() as (ours, theirs), sockets() as (others, them):
            theirs.send(b"x")
            them.send(b"x")

            def replace(own, other):
                case("first", own)
                case.loop.add_reader(other, case, "replaced")

            case.loop.add_reader(ours, replace, "ours", others)
            case.loop.add_reader(others, replace, "others", ours)
            turn(case.loop)
            turn(case.loop)
            case.loop.remove_reader(ours)
            case.loop.remove_reader(others)

    assert parity(body)[0] == [("first", "ours")] * 2


def test_removed_by_a_callback_before_it(parity):
    """In the same turn: what was ready is told nothing any more."""

    def body(case):
        with sockets() as (ours, theirs), sockets() as (others, them):
            theirs.send(b"x")
            them.send(b"x")

            def first(name, other):
                case(name, case.loop.remove_reader(other))

            case.loop.add_reader(ours, first, "ours", others)
            case.loop.add_reader(others, first, "others", ours)
            turn(case.loop)
            turn(case.loop)
            case.loop.remove_reader(ours)
            case.loop.remove_reader(others)

    assert parity(body)[0] == [("ours", True), ("ours", False)]


def test_one_that_removes_itself(parity):
    def body(case):
        with sockets() as (ours, theirs):
            theirs.send(b"x")
            case.loop.add_reader(ours, lambda: case(case.loop.remove_reader(ours)))
            turn(case.loop, 3)

    assert parity(body)[0] == [True]


def test_one_that_fails(parity):
    """It is reported, and told again."""

    def body(case):
        with sockets() as (ours, theirs):
            theirs.send(b"x")
            case.loop.add_reader(ours, lambda: 1 / 0)
            turn(case.loop, 2)
            case.loop.remove_reader(ours)

    _, errors = parity(body)
    assert [error for _, error in errors] == [("ZeroDivisionError", "division by zero")] * 2


def test_what_a_hang_up_is(parity):
    """It makes both sides ready: whoever reads or writes will see."""

    def body(case):
        ours, theirs = connected()
        with ours:
            fill(ours)
            case.loop.add_writer(ours, case, "writable")
            case.loop.add_reader(ours, case, "readable")
            turn(case.loop)
            theirs.close()
            turn(case.loop)
            case.loop.remove_reader(ours)
            case.loop.remove_writer(ours)

    assert sorted(parity(body)[0]) == ["readable", "writable"]


class TestWhatCannotBeWatched:
    @pytest.mark.parametrize("wrong", [None, "socket", 1.5, object(), [], Fileno(None), Fileno("one")], ids=repr)
    @pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
    def test_what_is_no_descriptor(self, loop, method, wrong):
        arguments = (int,) if method.startswith("add") else ()
        with pytest.raises(ValueError, match="Invalid file object"):
            getattr(loop, method)(wrong, *arguments)

    @pytest.mark.parametrize("number", [-1, -100, -(1 << 70)])
    @pytest.mark.parametrize("method", ["add_reader", "add_writer"])
    def test_negative_numbers(self, parity, method, number):
        def body(case):
            case.raised(getattr(case.loop, method), number, int)
            case.raised(getattr(case.loop, method), Fileno(number), int)

        events, _ = parity(body)
        assert {kind for kind, _ in events} == {"ValueError"}

    def test_a_descriptor_that_is_not_open(self, parity):
        def body(case):
            ours, theirs = connected()
            number = ours.fileno()
            ours.close()
            theirs.close()
            case.raised(case.loop.add_reader, number, int)
            case.raised(case.loop.add_writer, number, int)
            case(case.loop.remove_reader(number), case.loop.remove_writer(number))
            turn(case.loop)

        events, _ = parity(body)
        assert events[:2] == [("OSError", "[Errno 9] Bad file descriptor")] * 2

    @pytest.mark.parametrize("number", [10**6, 10**9, 2**31 - 1])
    def test_a_number_that_no_descriptor_has(self, parity, number):
        """There is no room made for it, of which there would not be enough."""

        def body(case):
            case.raised(case.loop.add_reader, number, int)
            case.raised(case.loop.add_writer, number, int)
            case(case.loop.remove_reader(number), case.loop.remove_writer(number))

        events, _ = parity(body)
        assert events == [("OSError", "[Errno 9] Bad file descriptor")] * 2 + [(False, False)]

    def test_a_regular_file(self, parity):
        """It is always ready, and the kernel does not watch it."""

        def body(case):
            with tempfile.TemporaryFile() as file:
                case.raised(case.loop.add_reader, file, int)
                case.raised(case.loop.add_writer, file, int)
                case(case.loop.remove_reader(file))
            turn(case.loop)

        events, _ = parity(body)
        assert events == [("PermissionError", "[Errno 1] Operation not permitted")] * 2 + [False]

    def test_one_side_fails_and_the_other_stays(self, parity):
        """What cannot be added changes nothing for what is there."""

        def body(case):
            with sockets() as (ours, theirs):
                theirs.send(b"x")
                case.loop.add_reader(ours, case, "readable")
                case.raised(case.loop.add_writer, -1, int)
                case.raised(case.loop.add_writer, None, int)
                turn(case.loop)
                case.loop.remove_reader(ours)

        events, _ = parity(body)
        assert [event[0] for event in events[:2]] == ["ValueError"] * 2
        assert events[2] == "readable"


class TestClosedUnderTheLoop:
    """Users close what is watched. The kernel forgets it, and the number comes back with another descriptor."""

    def test_a_closed_socket_can_be_removed(self, parity):
        def body(case):
            ours, theirs = connected()
            case.loop.add_reader(ours, case, "never")
            ours.close()
            theirs.close()
            turn(case.loop)
            case(case.loop.remove_reader(ours))
            turn(case.loop)

        assert parity(body)[0] == [True]

    @pytest.mark.ferrio_only("asyncio's selector still has the old registration, and modifies what is not there")
    def test_the_number_has_another_owner(self, loop, events):
        """The old watch tells nobody of the new descriptor; the new one is watched as any other."""
        ours, theirs = connected()
        number = ours.fileno()
        loop.add_reader(ours, events.append, "old")
        ours.close()
        theirs.close()
        ours, theirs = connected()
        with ours, theirs:
            if ours.fileno() != number:
                os.dup2(ours.fileno(), number)
                ours.close()
                ours = socket.socket(fileno=number)
                ours.setblocking(False)
            theirs.send(b"x")
            turn(loop, 2)
            assert events == []
            loop.add_reader(ours, events.append, "new")
            turn(loop)
            assert events == ["new"]
            assert loop.remove_reader(ours)

    def test_closed_by_a_callback_of_the_same_turn(self, loop, events):
        """Both are ready; the first closes the second, and its number is taken at once: no event for the new owner."""
        first, second = connected(), connected()
        third = []

        def close(name):
            events.append(name)
            victim, watched = (second, "second") if name == "first" else (first, "first")
            number = victim[0].fileno()
            loop.remove_reader(victim[0])
            victim[0].close()
            third.extend(connected())
            if third[0].fileno() == number:
                loop.add_reader(third[0], events.append, f"new owner of {watched}")

        loop.add_reader(first[0], close, "first")
        loop.add_reader(second[0], close, "second")
        first[1].send(b"x")
        second[1].send(b"x")
        turn(loop)
        assert len(events) == 1
        # And none later, as nothing came.
        for sock in (first[0], second[0]):
            if sock.fileno() >= 0:
                loop.remove_reader(sock)
        turn(loop)
        assert len(events) == 1
        loop.remove_reader(third[0])
        for sock in (*first, *second, *third):
            sock.close()

    def test_a_duplicate_is_another_descriptor(self, parity):
        def body(case):
            with sockets() as (ours, theirs):
                twin = ours.dup()
                with twin:
                    theirs.send(b"x")
                    case.loop.add_reader(ours, case, "ours")
                    case.loop.add_reader(twin, case, "twin")
                    turn(case.loop)
                    case.events.sort()
                    case(case.loop.remove_reader(ours), case.loop.remove_reader(twin))
                    turn(case.loop)

        assert parity(body)[0] == ["ours", "twin", (True, True)]

    def test_closed_and_the_loop_closed_after_it(self, loop_factory):
        loop = loop_factory()
        ours, theirs = connected()
        loop.add_reader(ours, int)
        loop.add_writer(theirs, int)
        ours.close()
        theirs.close()
        loop.close()


def test_the_loop_keeps_the_object(loop, pair):
    """A socket that is watched and that nobody else has stays open: its descriptor is in use."""
    thing = Fileno(pair[0].fileno())
    gone = weakref.ref(thing)
    loop.add_reader(thing, int)
    del thing
    assert gone() is not None
    loop.remove_reader(pair[0].fileno())
    assert gone() is None


def test_the_handle_that_is_returned(loop, pair):
    """asyncio's own transports use the half-private form, which returns the handle."""
    ours, theirs = pair
    events = []
    theirs.send(b"x")
    handle = loop._add_reader(ours, events.append, "readable")
    assert isinstance(handle, asyncio.Handle)
    turn(loop)
    handle.cancel()
    turn(loop)
    assert events == ["readable"]
    assert loop._remove_reader(ours) in (True, False)


def test_many(parity):
    """Every one of them is told, none twice."""

    def body(case):
        with contextlib.ExitStack() as stack:
            pairs = [stack.enter_context(sockets()) for _ in range(200)]
            for number, (ours, _) in enumerate(pairs):
                case.loop.add_reader(ours, case, number)
            for _, theirs in pairs[::2]:
                theirs.send(b"x")
            turn(case.loop)
            case.events.sort()
            for ours, _ in pairs:
                case.loop.remove_reader(ours)

    assert parity(body)[0] == list(range(0, 200, 2))


def test_between_turns_of_a_busy_loop(parity):
    """A flood of callbacks does not keep readiness from being seen."""

    async def body(case):
        with sockets() as (ours, theirs):
            loop = asyncio.get_running_loop()
            seen = loop.create_future()
            loop.add_reader(ours, lambda: seen.done() or seen.set_result(ours.recv(1)))
            theirs.send(b"x")
            while not seen.done():
                await asyncio.sleep(0)
            case(seen.result())
            loop.remove_reader(ours)

    assert parity(body)[0] == [b"x"]


def test_pipes(parity):
    def body(case):
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        case.loop.add_reader(reader, lambda: case("read", os.read(reader, 10)))
        case.loop.add_writer(writer, lambda: (case("write", os.write(writer, b"x")), case.loop.remove_writer(writer)))
        turn(case.loop, 2)
        os.close(writer)
        turn(case.loop)
        case.loop.remove_reader(reader)
        os.close(reader)

    assert parity(body)[0] == [("write", 1), ("read", b"x"), ("read", b"")]
