//! All that another thread may hold of a loop.

use std::io;
use std::sync::Arc;

use super::inject::{Inject, Wake};
use super::{EventLoop, Runnable, SendRunnable};
use crate::sys::WakeFd;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) inject: Inject<SendRunnable>,
    pub(super) wake_fd: WakeFd,
}

/// A loop, as seen from outside its thread: something to hand work to, and to wake.
#[derive(Clone, Debug)]
pub struct LoopHandle(pub(super) Arc<Shared>);

impl LoopHandle {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Shared { inject: Inject::default(), wake_fd: WakeFd::new()? })))
    }

    /// Has the loop run `runnable` in its next turn; wakes it if it sleeps.
    ///
    /// On the loop's own thread this is [`EventLoop::push`], so that the order of calls is kept there.
    ///
    /// # Errors
    ///
    /// Gives the runnable back if the loop is closed.
    pub fn push(&self, runnable: SendRunnable) -> Result<(), Runnable> {
        match EventLoop::current() {
            // A closed one is sent the other way, where it is refused.
            Some(event_loop) if event_loop.handle().is(self) && !event_loop.is_closed() => {
                event_loop.push(runnable.into_inner());
                Ok(())
            }
            _ => self.inject(runnable),
        }
    }

    /// [`push`](Self::push) for a thread that is known not to be the loop's.
    ///
    /// # Errors
    ///
    /// Gives the runnable back if the loop is closed.
    pub fn inject(&self, runnable: SendRunnable) -> Result<(), Runnable> {
        let wake = self.0.inject.push(runnable).map_err(SendRunnable::into_inner)?;
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
            _ = self.0.wake_fd.wake();
        }
    }
}
