//! How the thread waits.

use std::io;
use std::time::Duration;

use super::Flow;
use crate::sys::{Events, Poller};

/// One wait for readiness, prepared by the loop and carried out by a [`Park`].
///
/// It is `Send`, and borrows nothing that the loop's thread needs meanwhile, so an embedder may release its interpreter
/// around [`now`](Self::now).
pub struct Wait<'a> {
    pub(super) poller: &'a Poller,
    pub(super) events: &'a mut Events,
    pub(super) timeout: Option<Duration>,
}

impl Wait<'_> {
    /// Whether [`now`](Self::now) can put the thread to sleep.
    #[inline]
    pub fn can_block(&self) -> bool {
        self.timeout.is_none_or(|timeout| !timeout.is_zero())
    }

    /// Waits. An interrupted wait returns as one that found nothing: the loop's turn goes on and comes back here.
    ///
    /// # Errors
    ///
    /// What the operating system reports, other than an interruption.
    #[inline]
    pub fn now(&mut self) -> io::Result<()> {
        match self.poller.wait(self.events, self.timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

/// The embedder's way to wait: release what other threads need, wait, take it back, look at what came meanwhile.
pub trait Park {
    /// Carries out the wait.
    ///
    /// [`Flow::Break`] ends the turn before anything runs, for instance because a signal handler raised an exception.
    ///
    /// # Errors
    ///
    /// What [`Wait::now`] reports.
    fn park(&mut self, wait: Wait<'_>) -> io::Result<Flow>;
}

/// Waits, and nothing else: for loops that live in Rust alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingPark;

impl Park for BlockingPark {
    fn park(&mut self, mut wait: Wait<'_>) -> io::Result<Flow> {
        wait.now().map(|()| Flow::Continue)
    }
}
