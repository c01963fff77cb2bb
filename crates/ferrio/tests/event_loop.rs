//! The order of a turn, what reaches it from other threads, and how a loop ends.

#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};

use common::{Afterwards, Before, Counts, Log, SECOND, call, flow, monotonic, stepped, turn};
use ferrio::engine::{BlockingPark, Direction, EventLoop, Flow, Park, SendRunnable, Wait, Work};

/// Work that other threads may hold: it notes what it is, and in which thread it ended.
struct Sent {
    id: usize,
    ran: mpsc::Sender<usize>,
    dropped: Arc<Mutex<Option<ThreadId>>>,
}

impl Work for Sent {
    fn run(&self) -> Flow {
        self.ran.send(self.id).unwrap();
        Flow::Continue
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        *self.dropped.lock().unwrap() = Some(thread::current().id());
    }
}

fn sent(id: usize, ran: &mpsc::Sender<usize>) -> SendRunnable {
    SendRunnable::from_arc(Arc::new(Sent { id, ran: ran.clone(), dropped: Arc::default() }))
}

fn signal(event_loop: &EventLoop, number: u8) {
    let writer = event_loop.signals().writer(event_loop.reactor()).unwrap();
    // SAFETY: the loop keeps the descriptor open for as long as it lives.
    let writer = unsafe { BorrowedFd::borrow_raw(writer) };
    rustix::io::write(writer, &[number]).unwrap();
}

#[test]
fn a_turn_has_one_order() {
    let event_loop = stepped();
    let log = Log::default();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    drop(event_loop.reactor().watch(key, Direction::Read, log.runnable("readiness")).unwrap());
    theirs.write_all(b"x").unwrap();
    event_loop.signals().set(10, log.runnable("signal"));
    signal(&event_loop, 10);
    event_loop.push(log.runnable("ready"));
    let (handle, injected) = (event_loop.handle().clone(), log.runnable("injected"));
    // SAFETY: it does not leave this thread.
    handle.inject(unsafe { SendRunnable::new(injected) }).unwrap();
    event_loop.push_at(0, log.runnable("due"));
    event_loop.push_at(-5, log.runnable("overdue"));
    event_loop.push_at(1, log.runnable("later"));
    turn(&event_loop);
    let mut order = log.take();
    // The kernel reports descriptors in an order of its own; of the loop's two steps, readiness is the first.
    let rank =
        |entry: &&str| ["ready", "readiness", "signal", "injected", "overdue", "due"].iter().position(|it| it == entry);
    assert!(order.is_sorted_by_key(rank), "{order:?}");
    order.sort_by_key(rank);
    assert_eq!(order, ["ready", "readiness", "signal", "injected", "overdue", "due"]);
}

#[test]
fn what_is_queued_in_a_turn_runs_in_the_next() {
    let event_loop = stepped();
    let log = Log::default();
    event_loop.push(call({
        let (event_loop, log) = (Rc::downgrade(&event_loop), log.clone());
        move || {
            let event_loop = event_loop.upgrade().unwrap();
            log.add("first");
            event_loop.push(log.runnable("queued by the first"));
            event_loop.push_at(0, log.runnable("set by the first"));
        }
    }));
    event_loop.push(log.runnable("second"));
    turn(&event_loop);
    assert_eq!(log.take(), ["first", "second"]);
    turn(&event_loop);
    assert_eq!(log.take(), ["queued by the first", "set by the first"]);
    assert_eq!((event_loop.stats().turns(), event_loop.stats().runs()), (2, 4));
}

#[test]
fn a_break_leaves_the_rest_queued_in_order() {
    let event_loop = stepped();
    let log = Log::default();
    event_loop.push(log.runnable(1));
    event_loop.push(flow({
        let log = log.clone();
        move || {
            log.add(2);
            Flow::Break
        }
    }));
    event_loop.push(log.runnable(3));
    event_loop.push(log.runnable(4));
    assert_eq!(event_loop.run_once(&mut BlockingPark).unwrap(), Flow::Break);
    assert_eq!(log.take(), [1, 2]);
    event_loop.push(log.runnable(5));
    turn(&event_loop);
    assert_eq!(log.take(), [3, 4, 5]);
    assert_eq!(event_loop.stats().runs(), 5);
}

#[test]
fn a_park_that_breaks_keeps_what_it_found() {
    struct Interrupted;

    impl Park for Interrupted {
        fn park(&mut self, mut wait: Wait<'_>) -> io::Result<Flow> {
            wait.now()?;
            Ok(Flow::Break)
        }
    }

    let event_loop = stepped();
    let log = Log::default();
    event_loop.signals().set(10, log.runnable("signal"));
    signal(&event_loop, 10);
    event_loop.push_at(SECOND, log.runnable("timer"));
    assert_eq!(event_loop.run_once(&mut Interrupted).unwrap(), Flow::Break);
    assert!(log.take().is_empty());
    turn(&event_loop);
    assert_eq!(log.take(), ["signal"]);
}

#[test]
fn a_wait_that_fails_runs_nothing() {
    struct Failing;

    impl Park for Failing {
        fn park(&mut self, _: Wait<'_>) -> io::Result<Flow> {
            Err(io::Error::other("no"))
        }
    }

    let event_loop = stepped();
    let log = Log::default();
    event_loop.push_at(SECOND, log.runnable("timer"));
    assert!(event_loop.run_once(&mut Failing).is_err());
    assert_eq!((log.take().len(), event_loop.clock().now()), (0, 0));
    turn(&event_loop);
    assert_eq!(log.take(), ["timer"]);
}

#[test]
fn a_signal_runs_its_work_once_for_each_arrival() {
    let event_loop = stepped();
    let log = Log::default();
    assert!(event_loop.signals().set(12, log.runnable("old")).is_none());
    assert!(event_loop.signals().set(12, log.runnable("new")).is_some());
    for number in [12, 99, 12] {
        signal(&event_loop, number);
    }
    turn(&event_loop);
    assert_eq!(log.take(), ["new", "new"]);
    assert_eq!(event_loop.signals().handled(), [12]);
    drop(event_loop.signals().remove(12));
    signal(&event_loop, 12);
    event_loop.hurry();
    turn(&event_loop);
    assert!(log.take().is_empty());
}

#[test]
fn work_from_other_threads_arrives_once_and_in_the_order_of_each() {
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let event_loop = monotonic();
    let (ran, arrived) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (handle, ran) = (event_loop.handle().clone(), ran.clone());
            thread::spawn(move || {
                for number in 0..EACH {
                    handle.push(sent(thread * EACH + number, &ran)).unwrap();
                }
            })
        })
        .collect();
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); THREADS];
    for _ in 0..THREADS * EACH {
        let id = loop {
            match arrived.try_recv() {
                Ok(id) => break id,
                Err(_) => turn(&event_loop),
            }
        };
        order[id / EACH].push(id % EACH);
    }
    assert!(order.iter().all(|numbers| numbers.iter().copied().eq(0..EACH)));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn work_from_another_thread_ends_a_wait_without_limit() {
    let event_loop = monotonic();
    let (asleep, wake) = mpsc::channel();
    let (ran, arrived) = mpsc::channel();
    let handle = event_loop.handle().clone();
    let waker = thread::spawn(move || {
        wake.recv().unwrap();
        handle.push(sent(1, &ran)).unwrap();
    });
    // The other thread begins when the loop says that it sleeps, so whether it is before or in the wait proper, it has
    // to be woken.
    _ = event_loop.run_once(&mut Before(|| asleep.send(()).unwrap())).unwrap();
    assert_eq!(arrived.try_recv(), Ok(1));
    assert_eq!(event_loop.stats().blocking_waits(), 1);
    waker.join().unwrap();
}

#[test]
fn a_wake_up_without_work_ends_the_wait() {
    let event_loop = monotonic();
    let handle = event_loop.handle().clone();
    _ = event_loop.run_once(&mut Before(|| handle.wake())).unwrap();
    assert_eq!((event_loop.stats().waits(), event_loop.stats().runs()), (1, 0));
}

#[test]
fn a_push_through_the_handle_keeps_its_place_on_the_loops_own_thread() {
    let event_loop = stepped();
    let _entered = event_loop.enter();
    let log = Log::default();
    event_loop.push(log.runnable(1));
    // SAFETY: it does not leave this thread.
    event_loop.handle().push(unsafe { SendRunnable::new(log.runnable(2)) }).unwrap();
    event_loop.push(log.runnable(3));
    turn(&event_loop);
    assert_eq!(log.take(), [1, 2, 3]);
}

#[test]
fn what_was_injected_before_a_push_is_before_it_in_the_queue() {
    let event_loop = stepped();
    let log = Log::default();
    event_loop.push(log.runnable(1));
    // SAFETY: it does not leave this thread.
    event_loop.handle().inject(unsafe { SendRunnable::new(log.runnable(2)) }).unwrap();
    event_loop.push(log.runnable(3));
    turn(&event_loop);
    assert_eq!(log.take(), [1, 2, 3]);
}

#[test]
fn a_stepped_clock_jumps_from_deadline_to_deadline() {
    let event_loop = stepped();
    let log = Log::default();
    for seconds in [3600, 1, 2, 1] {
        event_loop.push_at(seconds * SECOND, log.runnable(seconds));
    }
    let mut times = Vec::new();
    while log.len() < 4 {
        turn(&event_loop);
        times.push(event_loop.clock().now() / SECOND);
    }
    assert_eq!(log.take(), [1, 1, 2, 3600]);
    assert_eq!(times, [1, 2, 3600]);
}

/// The clock jumped before the kernel was asked, so data that lay ready came after the deadline of its timeout.
#[test]
fn a_stepped_clock_stands_still_while_something_is_ready() {
    let event_loop = stepped();
    let log = Log::default();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    theirs.write_all(b"x").unwrap();
    drop(event_loop.reactor().watch(key, Direction::Read, log.runnable("data")).unwrap());
    event_loop.push_at(SECOND, log.runnable("timeout"));
    turn(&event_loop);
    assert_eq!((log.take(), event_loop.clock().now()), (vec!["data"], 0));
    drop(event_loop.reactor().remove(key));

    let handle = event_loop.handle().clone();
    let (ran, arrived) = mpsc::channel();
    // Injected while the loop looks at the kernel.
    _ = event_loop.run_once(&mut Afterwards(|| handle.inject(sent(1, &ran)).unwrap())).unwrap();
    assert_eq!((arrived.try_recv(), log.take(), event_loop.clock().now()), (Ok(1), vec![], 0));
    turn(&event_loop);
    assert_eq!((log.take(), event_loop.clock().now()), (vec!["timeout"], SECOND));
}

#[test]
fn closing_gives_everything_up_once() {
    let event_loop = stepped();
    let counts = Counts::new();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    drop(event_loop.reactor().watch(key, Direction::Read, counts.runnable()).unwrap());
    drop(event_loop.reactor().watch(key, Direction::Write, counts.runnable()).unwrap());
    event_loop.signals().set(10, counts.runnable());
    event_loop.push(counts.runnable());
    event_loop.push_at(SECOND, counts.runnable());
    let cancelled = event_loop.push_at(SECOND, counts.runnable());
    drop(event_loop.cancel_timer(cancelled));
    // SAFETY: it does not leave this thread.
    event_loop.handle().inject(unsafe { SendRunnable::new(counts.runnable()) }).unwrap();
    let seen = Cell::new(0);
    event_loop.for_each(|_| seen.set(seen.get() + 1));
    assert_eq!(seen.get(), 5, "all but what other threads have injected");
    assert!(!event_loop.is_closed());
    assert_eq!(event_loop.close().len(), 6);
    assert!(event_loop.is_closed());
    assert_eq!((counts.runs(), counts.drops(), counts.alive()), (0, 7, 0));
    assert!(event_loop.close().is_empty());
}

/// The loop's own thread was not refused: what it pushed through the handle stayed in the queue of a loop that is over.
#[test]
fn a_closed_loop_gives_work_back_to_every_thread() {
    let event_loop = stepped();
    drop(event_loop.close());
    let counts = Counts::new();
    let push = || {
        // SAFETY: it does not leave this thread.
        event_loop.handle().push(unsafe { SendRunnable::new(counts.runnable()) }).is_err()
    };
    assert!(push());
    let _entered = event_loop.enter();
    assert!(push());
    assert_eq!((counts.drops(), counts.alive()), (2, 0));
}

#[test]
fn a_callback_may_close_the_loop_that_runs_it() {
    let event_loop = stepped();
    let counts = Counts::new();
    event_loop.push(call({
        let event_loop = Rc::downgrade(&event_loop);
        move || drop(event_loop.upgrade().unwrap().close())
    }));
    event_loop.push(counts.runnable());
    turn(&event_loop);
    assert_eq!((counts.runs(), counts.drops()), (0, 1));
}

/// Fields were dropped as they came: whoever had the last handle, in another thread, dropped what had been injected.
#[test]
fn a_loop_that_is_dropped_ends_its_work_on_its_own_thread() {
    let event_loop = stepped();
    let handle = event_loop.handle().clone();
    let dropped = Arc::default();
    let (ran, _arrived) = mpsc::channel();
    let work = Arc::new(Sent { id: 1, ran, dropped: Arc::clone(&dropped) });
    handle.inject(SendRunnable::from_arc(work)).unwrap();
    drop(event_loop);
    thread::spawn(move || drop(handle)).join().unwrap();
    assert_eq!(*dropped.lock().unwrap(), Some(thread::current().id()));
}

#[test]
fn entering_is_undone_by_the_guard() {
    assert!(EventLoop::current().is_none());
    let (outer, inner) = (stepped(), stepped());
    let is_current = |event_loop: &Rc<EventLoop>| Rc::ptr_eq(&EventLoop::current().unwrap(), event_loop);
    let entered = outer.enter();
    {
        let _entered = inner.enter();
        assert!(is_current(&inner));
    }
    assert!(is_current(&outer));
    drop(entered);
    assert!(EventLoop::current().is_none());
}

#[test]
fn a_panic_in_safe_work_ends_there() {
    let event_loop = stepped();
    let log = Log::default();
    event_loop.push(call(|| panic!("expected by the test")));
    event_loop.push(log.runnable("next"));
    turn(&event_loop);
    assert_eq!(log.take(), ["next"]);
}

/// What a destructor does to the loop must find no borrow: each place that holds work is asked to drop some.
#[test]
fn destructors_may_call_the_loop() {
    struct Hostile(RefCell<std::rc::Weak<EventLoop>>);

    impl Drop for Hostile {
        fn drop(&mut self) {
            let Some(event_loop) = self.0.borrow().upgrade() else { return };
            event_loop.push(call(|| {}));
            let key = event_loop.push_at(0, call(|| {}));
            drop(event_loop.cancel_timer(key));
            event_loop.signals().set(20, call(|| {}));
            let key = event_loop.reactor().insert(-1);
            event_loop.reactor().remove(key);
        }
    }

    let event_loop = stepped();
    let hostile = || {
        let hostile = Hostile(RefCell::new(Rc::downgrade(&event_loop)));
        call(move || _ = &hostile)
    };
    event_loop.push(hostile());
    event_loop.push_at(0, hostile());
    turn(&event_loop);
    let key = event_loop.push_at(SECOND, hostile());
    drop(event_loop.cancel_timer(key));
    drop(event_loop.signals().set(20, hostile()));
    drop(event_loop.signals().remove(20));
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    drop(event_loop.reactor().watch(key, Direction::Read, hostile()).unwrap());
    drop(event_loop.reactor().watch(key, Direction::Read, hostile()).unwrap());
    event_loop.push(hostile());
    event_loop.push_at(SECOND, hostile());
    drop(event_loop.close());
}

/// A message wakes who waits for it, and nothing else happens in the turn: the next one has no wait of its own.
#[test]
fn a_quiet_turn_is_followed_by_the_next_without_a_wait() {
    let event_loop = stepped();
    let log = Log::default();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let key = event_loop.reactor().insert(ours.as_raw_fd());
    drop(event_loop.reactor().watch(key, Direction::Read, log.runnable("readiness")).unwrap());
    let waits = Rc::new(Cell::new(0));
    let _entered = event_loop.enter();
    let run = |quiet: usize, noisy: usize| {
        let wakes = |is_quiet: bool| {
            let (inner, log) = (Rc::clone(&event_loop), log.clone());
            call(move || {
                inner.push(log.runnable("woken"));
                if is_quiet {
                    inner.ran_quietly();
                }
            })
        };
        (0..quiet).for_each(|_| event_loop.push(wakes(true)));
        (0..noisy).for_each(|_| event_loop.push(wakes(false)));
        let count = |times: usize| {
            waits.set(0);
            for _ in 0..times {
                let waits = Rc::clone(&waits);
                let mut park = Afterwards(move || waits.set(waits.get() + 1));
                assert_eq!(event_loop.run_once(&mut park).unwrap(), Flow::Continue);
            }
            waits.get()
        };
        let counted = (count(1), count(1), {
            event_loop.push(log.runnable("more"));
            count(1)
        });
        assert_eq!(log.take().len(), quiet + noisy + 1);
        counted
    };
    assert_eq!(run(3, 0), (1, 0, 1));
    assert_eq!(run(2, 1), (1, 1, 1));
    assert_eq!(run(0, 1), (1, 1, 1));
    // The program has run between two runs of the loop, and what is to stop after its turn looks all the same.
    let quiet = || {
        let inner = Rc::clone(&event_loop);
        event_loop.push(call(move || {
            inner.push(call(|| ()));
            inner.ran_quietly();
        }));
        turn(&event_loop);
        waits.set(0);
    };
    let count = || {
        let waits = Rc::clone(&waits);
        assert_eq!(event_loop.run_once(&mut Afterwards(|| waits.set(waits.get() + 1))).unwrap(), Flow::Continue);
        waits.get()
    };
    quiet();
    drop(event_loop.enter());
    assert_eq!(count(), 1);
    quiet();
    event_loop.hurry();
    assert_eq!(count(), 1);
}

#[test]
fn guards_are_dropped_in_any_order() {
    let loops = [stepped(), stepped(), stepped()];
    let current =
        || EventLoop::current().map(|current| loops.iter().position(|one| Rc::ptr_eq(one, &current)).unwrap());
    let mut guards: Vec<_> = loops.iter().map(|event_loop| Some(event_loop.enter())).collect();
    for (dropped, left) in [(1, Some(2)), (2, Some(0)), (0, None)] {
        guards[dropped] = None;
        assert_eq!(current(), left);
    }
    assert!(loops.iter().all(|event_loop| Rc::strong_count(event_loop) == 1));
}
