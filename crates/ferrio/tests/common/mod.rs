//! What the tests of the engine share.
//!
//! Nothing here sleeps: a test that waits does so on a channel, on a stepped clock, or in the loop's own wait.

#![allow(dead_code, reason = "each test file uses its part of this")]
#![allow(clippy::unwrap_used, reason = "helpers outside of a test function unwrap like the tests do")]

pub(crate) mod tasks;

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use ferrio::engine::{BlockingPark, Clock, EventLoop, Flow, Nanos, Park, Runnable, Vtable, Wait};

pub(crate) const SECOND: Nanos = 1_000_000_000;

/// A loop whose clock jumps.
pub(crate) fn stepped() -> Rc<EventLoop> {
    EventLoop::new(Clock::Stepped(Cell::new(0))).unwrap()
}

pub(crate) fn monotonic() -> Rc<EventLoop> {
    EventLoop::new(Clock::Monotonic).unwrap()
}

/// One turn that nobody breaks.
#[track_caller]
pub(crate) fn turn(event_loop: &EventLoop) {
    assert_eq!(event_loop.run_once(&mut BlockingPark).unwrap(), Flow::Continue);
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A runnable that calls `f`.
pub(crate) fn call(f: impl Fn() + 'static) -> Runnable {
    flow(move || {
        f();
        Flow::Continue
    })
}

/// A runnable that calls `f`, which decides about the turn.
pub(crate) fn flow(f: impl Fn() -> Flow + 'static) -> Runnable {
    Runnable::from_rc(Rc::new(f))
}

/// What happened, in order.
pub(crate) struct Log<T>(Rc<RefCell<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<T: Clone + 'static> Log<T> {
    pub(crate) fn add(&self, entry: T) {
        self.0.borrow_mut().push(entry);
    }

    /// A runnable that adds `entry`.
    pub(crate) fn runnable(&self, entry: T) -> Runnable {
        let log = self.clone();
        call(move || log.add(entry.clone()))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// What was added since the last time.
    pub(crate) fn take(&self) -> Vec<T> {
        self.0.take()
    }
}

/// Counts what becomes of its runnables. Every reference has to be given up exactly once, by running or by dropping.
#[derive(Default)]
pub(crate) struct Counts {
    made: Cell<u32>,
    clones: Cell<u32>,
    runs: Cell<u32>,
    drops: Cell<u32>,
}

fn one_more(counter: &Cell<u32>) {
    counter.set(counter.get() + 1);
}

impl Counts {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    pub(crate) fn runnable(self: &Rc<Self>) -> Runnable {
        one_more(&self.made);
        let data = NonNull::new(Rc::into_raw(Rc::clone(self)).cast_mut()).unwrap().cast();
        // SAFETY: `COUNTING` is the table for an `Rc` of this, whose reference goes with the pointer.
        unsafe { Runnable::new(data, &COUNTING) }
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.get()
    }

    pub(crate) fn drops(&self) -> u32 {
        self.drops.get()
    }

    /// How many references exist.
    pub(crate) fn alive(&self) -> i64 {
        let [made, clones, runs, drops] =
            [&self.made, &self.clones, &self.runs, &self.drops].map(|count| i64::from(count.get()));
        made + clones - runs - drops
    }
}

static COUNTING: Vtable = Vtable {
    tag: 0,
    run: |data| {
        // SAFETY: made by `Counts::runnable`; the caller gives up its reference.
        one_more(&unsafe { Rc::from_raw(data.cast::<Counts>().as_ptr()) }.runs);
        Flow::Continue
    },
    clone: |data| {
        // SAFETY: made by `Counts::runnable`; the caller keeps its reference.
        unsafe {
            Rc::increment_strong_count(data.cast::<Counts>().as_ptr());
            one_more(&data.cast::<Counts>().as_ref().clones);
        }
        data
    },
    drop: |data| {
        // SAFETY: made by `Counts::runnable`; the caller gives up its reference.
        one_more(&unsafe { Rc::from_raw(data.cast::<Counts>().as_ptr()) }.drops);
    },
};

/// Waits, and does something between the wait and what the loop makes of it.
pub(crate) struct Afterwards<F>(pub(crate) F);

impl<F: FnMut()> Park for Afterwards<F> {
    fn park(&mut self, mut wait: Wait<'_>) -> io::Result<Flow> {
        wait.now()?;
        (self.0)();
        Ok(Flow::Continue)
    }
}

/// Does something when the loop is about to block, and is asleep as far as others can see.
pub(crate) struct Before<F>(pub(crate) F);

impl<F: FnMut()> Park for Before<F> {
    fn park(&mut self, mut wait: Wait<'_>) -> io::Result<Flow> {
        if wait.can_block() {
            (self.0)();
        }
        wait.now()?;
        Ok(Flow::Continue)
    }
}
