//! One turn of the loop.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use super::burst::{Burst, SendTime};
use super::ready::ReadyQueue;
use super::spin::Spin;
use super::task::Registry;
use super::{
    BlockingPool, Clock, Flow, LoopHandle, Nanos, Park, Reactor, Runnable, SendRunnable, Signals, Stats, TimerKey,
    Timers, Wait, stats,
};
use crate::sys::Events;

/// How many events one wait may report at most. What is left is reported by the next.
const MOST_EVENTS: usize = 1024;

/// How many events a wait may report when nothing else is ready; else as many as there is other work, so that neither
/// keeps the other waiting.
///
/// Not all that there are: the kernel's list of what is ready is not in the order in which it became so. What a wait
/// reports goes to the end of the list at once, before anything is done about it, and keeps its place there when it
/// becomes ready again. Who becomes ready right behind a wait for all of fifty is therefore behind all of them in the
/// next one too, and is served two rounds later. A few at a time, the list turns like a wheel, and nobody waits for
/// more than one round. It also means that what was received is used before too much else is.
const FEW_EVENTS: usize = 16;

/// While nothing but the loop's own work is ready, and no descriptor is watched, the kernel is asked only once in this
/// many turns: nobody can tell the difference but by the system calls that are not made. What other threads hand over
/// does not wait for it.
const TURNS_WITHOUT_WAIT: u32 = 64;

/// An event loop: everything that belongs to one thread.
///
/// It is not `Sync`; other threads hold its [`LoopHandle`].
///
/// # Examples
///
/// A turn runs what was queued before it, timers behind what is ready:
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use ferrio::engine::{BlockingPark, Clock, EventLoop, Flow, Runnable, Work};
///
/// struct Note(&'static str, Rc<RefCell<Vec<&'static str>>>);
///
/// impl Work for Note {
///     fn run(&self) -> Flow {
///         self.1.borrow_mut().push(self.0);
///         Flow::Continue
///     }
/// }
///
/// // Its clock jumps to the next deadline where others wait for it.
/// let event_loop = EventLoop::new(Clock::Stepped(0.into()))?;
/// let notes = Rc::new(RefCell::new(Vec::new()));
/// let note = |text| Runnable::from_rc(Rc::new(Note(text, Rc::clone(&notes))));
/// event_loop.push_at(1_000_000_000, note("after a second"));
/// let key = event_loop.push_at(2_000_000_000, note("never"));
/// event_loop.push(note("now"));
/// drop(event_loop.cancel_timer(key));
/// for _ in 0..2 {
///     assert_eq!(event_loop.run_once(&mut BlockingPark)?, Flow::Continue);
/// }
/// assert_eq!(*notes.borrow(), ["now", "after a second"]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct EventLoop {
    ready: ReadyQueue,
    timers: RefCell<Timers>,
    reactor: Reactor,
    signals: Signals,
    handle: LoopHandle,
    clock: Clock,
    stats: Stats,
    events: Cell<Option<Events>>,
    turns_without_wait: Cell<u32>,
    spin: Cell<Spin>,
    burst: Burst,
    /// How many runnables were given a number, which they get as they are run; it begins anew sometime.
    numbered: Cell<u32>,
    /// The number of the one that runs, and that of the last one of its turn; 0 if none does.
    running: Cell<u32>,
    last: Cell<u32>,
    hurried: Cell<bool>,
    /// How many runnables of this turn have run no code of the program's.
    quiet_runs: Cell<usize>,
    /// The last turn ran no code of the program's.
    was_quiet: Cell<bool>,
    closed: Cell<bool>,
    tasks: Registry,
    blocking: OnceCell<BlockingPool>,
}

thread_local! {
    /// The loops that are entered, the current one last. A guard that is dropped before a later one leaves a hole.
    static ENTERED: RefCell<Vec<Option<Rc<EventLoop>>>> = const { RefCell::new(Vec::new()) };
}

impl EventLoop {
    /// Makes a loop that takes its time from `clock`.
    ///
    /// # Errors
    ///
    /// What the making of its two descriptors reports, `EMFILE` for one.
    pub fn new(clock: Clock) -> io::Result<Rc<Self>> {
        let reactor = Reactor::new()?;
        let handle = LoopHandle::new()?;
        handle.watch(&reactor)?;
        Ok(Rc::new(Self {
            ready: ReadyQueue::default(),
            timers: RefCell::default(),
            reactor,
            signals: Signals::default(),
            handle,
            clock,
            stats: Stats::default(),
            events: Cell::new(None),
            turns_without_wait: Cell::new(0),
            spin: Cell::default(),
            burst: Burst::default(),
            numbered: Cell::new(0),
            running: Cell::new(0),
            last: Cell::new(0),
            hurried: Cell::new(false),
            quiet_runs: Cell::new(0),
            was_quiet: Cell::new(false),
            closed: Cell::new(false),
            tasks: Registry::default(),
            blocking: OnceCell::new(),
        }))
    }

    /// The loop that runs on this thread.
    pub fn current() -> Option<Rc<Self>> {
        // A thread that is being torn down runs no loop.
        ENTERED.try_with(|entered| entered.borrow().last().cloned().flatten()).ok().flatten()
    }

    /// Shows the loop that runs on this thread to `look`, which must neither run nor drop anything of the program's.
    #[inline]
    pub(crate) fn with_current<R>(look: impl FnOnce(&Self) -> R) -> Option<R> {
        ENTERED.try_with(|entered| entered.borrow().last().and_then(Option::as_deref).map(look)).ok().flatten()
    }

    /// Makes this the loop of the thread until the guard is dropped, which brings back the one before. Guards may be
    /// dropped in any order.
    pub fn enter(self: &Rc<Self>) -> Entered {
        // Between two runs of a loop the program has run.
        self.was_quiet.set(false);
        let place = ENTERED.with_borrow_mut(|entered| {
            entered.push(Some(Rc::clone(self)));
            entered.len() - 1
        });
        Entered { place, of_thread: PhantomData }
    }

    /// Queues `runnable` for the next turn.
    ///
    /// A closed loop keeps it until the loop is dropped: who may meet one asks [`is_closed`](Self::is_closed) first.
    #[inline]
    pub fn push(&self, runnable: Runnable) {
        // What other threads handed over before this is before it in the queue, as if they had queued it themselves.
        self.queue_injected();
        self.ready.push(runnable);
    }

    /// Queues `runnable` for the turn that begins at `deadline`, or soon after.
    pub fn push_at(&self, deadline: Nanos, runnable: Runnable) -> TimerKey {
        self.timers.borrow_mut().insert(deadline, runnable)
    }

    /// Takes a pending timer's work out; `None` if it has fired or was cancelled before.
    pub fn cancel_timer(&self, key: TimerKey) -> Option<Runnable> {
        self.timers.borrow_mut().cancel(key)
    }

    /// Shows the work of every pending timer to `visit`, in no order. It must not call back into the loop.
    pub fn for_each_timer(&self, visit: impl FnMut(&Runnable)) {
        self.timers.borrow().for_each(visit);
    }

    /// The watched descriptors.
    #[inline]
    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// The handled signals.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// What other threads may hold of this loop.
    pub fn handle(&self) -> &LoopHandle {
        &self.handle
    }

    /// What time it is for this loop.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The threads for what would block the loop; none is started before there is work for it.
    pub fn blocking(&self) -> &BlockingPool {
        self.blocking.get_or_init(BlockingPool::default)
    }

    /// The native tasks that are not done.
    pub(super) fn tasks(&self) -> &Registry {
        &self.tasks
    }

    /// What the loop has done so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// To be called, once, by a runnable that has run no code of the program's, such as the reading of a connection by
    /// what is not the program's either.
    ///
    /// A turn of such runnables alone is followed by the next without a look at the kernel: nobody could have made a
    /// descriptor ready meanwhile but other threads and processes, of which nobody can tell when they did. So a message
    /// that wakes a task costs one wait and not two.
    #[inline]
    pub fn ran_quietly(&self) {
        self.quiet_runs.set(self.quiet_runs.get() + 1);
    }

    /// Keeps the next turn from blocking, for a loop that is to stop after it.
    pub fn hurry(&self) {
        self.hurried.set(true);
    }

    /// Runs one turn. This is the one place that fixes the order of a turn, and nothing is run anywhere else:
    ///
    /// 1. wait for readiness, not at all if something is ready, else until the next deadline;
    /// 2. queue what became ready, then what signals ask for, then what other threads handed over, then the timers that
    ///    are due, each behind what was queued before;
    /// 3. run exactly as many as are queued now: what they queue runs in the next turn;
    /// 4. send what they have [left for later](Self::defer_send), if it has not left when one of them ended.
    ///
    /// The caller keeps the loop [entered](Self::enter) meanwhile. Without that everything still runs, but native tasks
    /// find no current loop, and what is woken in the turn goes the way of other threads: later than what was queued
    /// directly.
    ///
    /// # Errors
    ///
    /// What the wait reports, `NotConnected` if the loop is closed; nothing was run then.
    pub fn run_once(&self, park: &mut impl Park) -> io::Result<Flow> {
        stats::add(&self.stats.turns, 1);
        if self.wait(park)? == Flow::Break {
            return Ok(Flow::Break);
        }
        self.queue_injected();
        self.queue_due();
        let flow = self.run_ready();
        if self.burst.is_empty() {
            return Ok(flow);
        }
        match self.send_deferred() {
            Flow::Continue => Ok(flow),
            Flow::Break => Ok(Flow::Break),
        }
    }

    /// Runs as many as are queued now.
    #[inline]
    fn run_ready(&self) -> Flow {
        let count = self.ready.len();
        self.quiet_runs.set(0);
        let before = self.numbered.get();
        let last = before.wrapping_add(count as u32);
        self.numbered.set(last);
        // One of them may run a turn itself.
        let outer = (self.running.get(), self.last.replace(last));
        let mut number = before;
        let mut flow = Flow::Continue;
        while number != last && flow == Flow::Continue {
            // A callback can close the loop, which empties the queue.
            let Some(runnable) = self.ready.pop() else { break };
            number = number.wrapping_add(1);
            self.running.set(number);
            flow = runnable.run();
            if !self.burst.is_empty() && self.send_due() == Flow::Break {
                flow = Flow::Break;
            }
        }
        self.running.set(outer.0);
        self.last.set(outer.1);
        stats::add(&self.stats.runs, number.wrapping_sub(before) as usize);
        self.was_quiet.set(flow == Flow::Continue && self.quiet_runs.get() == count && count != 0);
        flow
    }

    /// How many runnables of this turn are still to run.
    #[inline]
    fn left(&self) -> usize {
        self.last.get().wrapping_sub(self.running.get()) as usize
    }

    /// The number of the runnable that runs, by which it can be told from others; 0 if none does.
    ///
    /// Numbers are given again after some 4 billion, and one of so many has 0.
    #[inline]
    pub fn running(&self) -> u32 {
        self.running.get()
    }

    /// When what callbacks send leaves, unless that is to be found out.
    pub fn set_send_time(&self, time: SendTime) {
        self.burst.set_time(time);
    }

    /// Whether a callback that wants to send something small had better leave it for later, by
    /// [`defer_send`](Self::defer_send): until the turn ends, where sends were measured and found dear, and others have
    /// something to do in this turn; or until it ends itself, if it sends `in_pieces`.
    #[inline]
    pub fn defers_sends(&self, in_pieces: bool) -> bool {
        self.burst.defers(self.left(), in_pieces && self.running() != 0)
    }

    /// Takes note that the callback that runs sends to the same peer for another time.
    #[inline]
    pub fn sends_again(&self) {
        self.burst.sends_again();
    }

    /// Calls `send`, which sends something small at once, and measures how long that takes if it is time for it.
    #[inline]
    pub fn send<R>(&self, send: impl FnOnce() -> R) -> R {
        self.burst.send(self.left(), send)
    }

    /// Has `runnable` send what a callback has left for later.
    ///
    /// Outside of a turn, that is the end of the next one, or of its first callback.
    pub fn defer_send(&self, runnable: Runnable) {
        self.burst.defer(self.left(), runnable);
    }

    /// Takes note that one who sends at the end of the turn has been given more.
    #[inline]
    pub fn deferred_more(&self) {
        self.burst.deferred_more();
    }

    #[cold]
    fn send_due(&self) -> Flow {
        if self.burst.is_due() { self.send_deferred() } else { Flow::Continue }
    }

    #[cold]
    fn send_deferred(&self) -> Flow {
        let mut flow = Flow::Continue;
        self.burst.end(self.left(), |deferred| {
            for runnable in deferred {
                // One that ends the turn keeps nobody else from sending.
                if runnable.run() == Flow::Break {
                    flow = Flow::Break;
                }
            }
        });
        flow
    }

    fn wait(&self, park: &mut impl Park) -> io::Result<Flow> {
        let (hurried, was_quiet) = (self.hurried.take(), self.was_quiet.take());
        let in_haste = hurried || !self.ready.is_empty() || self.handle.0.inject.has_items();
        if was_quiet && in_haste && !hurried {
            return Ok(Flow::Continue);
        }
        // A hurried turn may be the only one of its run: whoever runs the loop turn by turn is not kept from signals.
        if in_haste && !hurried && !self.reactor.is_watching() {
            let turns = self.turns_without_wait.get();
            if turns < TURNS_WITHOUT_WAIT {
                self.turns_without_wait.set(turns + 1);
                return Ok(Flow::Continue);
            }
        }
        self.turns_without_wait.set(0);

        let deadline = if in_haste { None } else { self.timers.borrow_mut().next_deadline() };
        let timeout = if in_haste { Some(Duration::ZERO) } else { deadline.map(|deadline| self.clock.until(deadline)) };
        let may_block = timeout.is_none_or(|timeout| !timeout.is_zero());
        let sleeps = may_block && self.handle.0.inject.prepare_sleep();
        let timeout = if may_block && !sleeps { Some(Duration::ZERO) } else { timeout };
        if sleeps {
            stats::add(&self.stats.blocking_waits, 1);
        }
        // Taken out for the wait: signal handlers that run in it may run another turn of this loop's code.
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(MOST_EVENTS));
        // Whoever runs the loop turn by turn sees all that is ready.
        events.limit(if hurried { MOST_EVENTS } else { self.ready.len().max(FEW_EVENTS) });
        let poller = self.reactor.poller()?;
        let mut spin = self.spin.get();
        // Only a descriptor's other end can be so quick.
        let may_spin = (sleeps && self.reactor.is_watching()).then_some(&mut spin);
        let result = park.park(Wait { poller: &poller, events: &mut events, timeout, spin: may_spin });
        self.spin.set(spin);
        drop(poller);
        if sleeps {
            self.handle.0.inject.end_sleep();
        }
        if result.is_ok() && self.reactor.dispatch(&events, &self.stats, |runnable| self.ready.push(runnable)) {
            self.signals.dispatch(|runnable| self.ready.push(runnable))?;
        }
        events.clear();
        self.events.set(Some(events));
        if let (Ok(Flow::Continue), Some(deadline)) = (&result, deadline)
            && self.ready.is_empty()
            && !self.handle.0.inject.has_items()
        {
            self.clock.arrive(deadline);
        }
        result
    }

    #[inline]
    fn queue_injected(&self) {
        if self.handle.0.inject.has_items() {
            self.take_injected();
        }
    }

    #[cold]
    fn take_injected(&self) {
        for runnable in self.handle.0.inject.take() {
            self.ready.push(runnable.into_inner());
        }
    }

    fn queue_due(&self) {
        let mut timers = self.timers.borrow_mut();
        if timers.is_empty() {
            return;
        }
        let now = self.clock.now();
        while let Some(runnable) = timers.pop_due(now) {
            self.ready.push(runnable);
        }
    }

    /// Refuses work from other threads from now on, closes the loop's own descriptors, and takes out all that waits,
    /// for the caller to drop. The loop cannot be run again.
    ///
    /// Descriptors that are still watched are forgotten. Native tasks end here, wherever they wait: their futures are
    /// dropped with what is returned, on this thread. Blocking threads take no more work, and end when they have done
    /// what they do now; [`BlockingPool::wait`] waits for that.
    ///
    /// Dropping the last reference to a loop closes it.
    pub fn close(&self) -> Vec<Runnable> {
        // While the queues are still open: so every task is in one of them, and no thread that wakes it later finds
        // its future.
        self.tasks.wake_all();
        self.closed.set(true);
        if let Some(blocking) = self.blocking.get() {
            blocking.close();
        }
        let mut left: Vec<Runnable> = self.ready.take().into();
        left.extend(self.handle.close().into_iter().map(SendRunnable::into_inner));
        left.extend(self.timers.borrow_mut().take_all());
        left.extend(self.reactor.close());
        left.extend(self.signals.close());
        left.extend(self.burst.take());
        left
    }

    /// Whether [`close`](Self::close) has been called.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Shows everything that waits in the loop to `visit`, which must not call back into it: for garbage collectors.
    pub fn for_each(&self, mut visit: impl FnMut(&Runnable)) {
        self.ready.for_each(&mut visit);
        self.timers.borrow().for_each(&mut visit);
        self.reactor.for_each(&mut visit);
        self.signals.for_each(&mut visit);
        self.burst.for_each(&mut visit);
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        // Not left to the fields: another thread may hold a handle, and would be the one to drop what is injected.
        drop(self.close());
    }
}

/// The loop that runs on this thread, for what makes no sense without one.
#[track_caller]
pub(crate) fn current_or_panic() -> Rc<EventLoop> {
    match EventLoop::current() {
        Some(event_loop) => event_loop,
        None => panic!("no ferrio loop runs on this thread"),
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("clock", &self.clock)
            .field("ready", &self.ready.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// While it lives, its loop is the thread's current one.
#[derive(Debug)]
#[must_use = "dropping it leaves the loop"]
pub struct Entered {
    place: usize,
    /// It stays on its thread.
    of_thread: PhantomData<Rc<EventLoop>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            let left = entered.get_mut(self.place).and_then(Option::take);
            while let Some(None) = entered.last() {
                entered.pop();
            }
            left
        });
        // With nothing borrowed: a loop's drop may look at the current loop.
        drop(left);
    }
}
