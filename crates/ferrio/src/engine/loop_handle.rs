//! All that another thread may hold of a loop.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::inject::{Inject, Wake};
use super::{EventLoop, Reactor, SendRunnable};
use crate::sys::WakeFd;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) inject: Inject<SendRunnable>,
    /// None once the loop is closed. The lock is for that only: without it, a thread that is about to write could meet
    /// the descriptor's next owner.
    wake_fd: Mutex<Option<WakeFd>>,
}

impl Shared {
    fn wake_fd(&self) -> MutexGuard<'_, Option<WakeFd>> {
        // Nothing panics while the lock is held, so a poisoned one is whole.
        self.wake_fd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop, as seen from outside its thread: something to hand work to, and to wake.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::sync::Arc;
/// use std::thread;
/// use ferrio::engine::{BlockingPark, Clock, EventLoop, Flow, SendRunnable, Work};
///
/// #[derive(Default)]
/// struct Flag(AtomicBool);
///
/// impl Work for Flag {
///     fn run(&self) -> Flow {
///         self.0.store(true, Ordering::Relaxed);
///         Flow::Continue
///     }
/// }
///
/// let event_loop = EventLoop::new(Clock::Monotonic)?;
/// let (handle, flag) = (event_loop.handle().clone(), Arc::new(Flag::default()));
/// let work = SendRunnable::from_arc(Arc::clone(&flag));
/// let sender = thread::spawn(move || handle.push(work).is_ok());
/// while !flag.0.load(Ordering::Relaxed) {
///     // Sleeps until the other thread has handed the work over.
///     assert_eq!(event_loop.run_once(&mut BlockingPark)?, Flow::Continue);
/// }
/// assert!(sender.join().is_ok_and(|pushed| pushed));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LoopHandle(pub(super) Arc<Shared>);

impl LoopHandle {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Shared { inject: Inject::default(), wake_fd: Mutex::new(Some(WakeFd::new()?)) })))
    }

    pub(super) fn watch(&self, reactor: &Reactor) -> io::Result<()> {
        match &*self.0.wake_fd() {
            Some(wake_fd) => reactor.watch_wake_fd(wake_fd),
            None => Ok(()),
        }
    }

    pub(super) fn close(&self) -> Vec<SendRunnable> {
        let left = self.0.inject.close();
        drop(self.0.wake_fd().take());
        left
    }

    /// Has the loop run `runnable` in its next turn; wakes it if it sleeps.
    ///
    /// On the loop's own thread this is [`EventLoop::push`], so that the order of calls is kept there.
    ///
    /// # Errors
    ///
    /// Gives the runnable back if the loop is closed.
    pub fn push(&self, runnable: SendRunnable) -> Result<(), SendRunnable> {
        let mut runnable = Some(runnable);
        EventLoop::with_current(|event_loop| {
            // A closed one is sent the other way, where it is refused.
            if event_loop.handle().is(self) && !event_loop.is_closed() {
                runnable.take().into_iter().for_each(|runnable| event_loop.push(runnable.into_inner()));
            }
        });
        runnable.map_or(Ok(()), |runnable| self.inject(runnable))
    }

    /// [`push`](Self::push) for a thread that is known not to be the loop's.
    ///
    /// # Errors
    ///
    /// Gives the runnable back if the loop is closed.
    pub fn inject(&self, runnable: SendRunnable) -> Result<(), SendRunnable> {
        let wake = self.0.inject.push(runnable)?;
        self.finish(wake);
        Ok(())
    }

    /// Ends the loop's wait, if it is waiting.
    pub fn wake(&self) {
        self.finish(self.0.inject.wake());
    }

    /// Whether both are handles of one loop.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn finish(&self, wake: Wake) {
        if wake == Wake::Yes {
            // An eventfd that is open and not full cannot refuse; if it did, there would be nobody to tell.
            _ = self.0.wake_fd().as_ref().map(WakeFd::wake);
        }
    }
}
