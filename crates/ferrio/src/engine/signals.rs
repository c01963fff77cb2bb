//! What runs when a signal arrived.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use super::{Reactor, Runnable};
use crate::sys::SignalPipe;

/// The signals that one loop handles.
///
/// The loop does not install handlers; whoever does has them write the signal's number to [`writer`](Self::writer).
#[derive(Debug, Default)]
pub struct Signals {
    pipe: RefCell<Option<SignalPipe>>,
    handlers: RefCell<BTreeMap<u8, Runnable>>,
}

impl Signals {
    /// The descriptor to write signal numbers to; made, and watched, when it is first asked for.
    ///
    /// # Errors
    ///
    /// What the making of a socket pair reports, `EMFILE` for one.
    pub fn writer(&self, reactor: &Reactor) -> io::Result<RawFd> {
        if let Some(pipe) = &*self.pipe.borrow() {
            return Ok(pipe.writer());
        }
        let pipe = SignalPipe::new()?;
        reactor.watch_signal_pipe(&pipe)?;
        Ok(self.pipe.borrow_mut().insert(pipe).writer())
    }

    /// Has `runnable` queued for each arrival of `signal`, and returns what was there before.
    pub fn set(&self, signal: u8, runnable: Runnable) -> Option<Runnable> {
        self.handlers.borrow_mut().insert(signal, runnable)
    }

    /// Returns what was there for `signal`, which is no longer handled.
    pub fn remove(&self, signal: u8) -> Option<Runnable> {
        self.handlers.borrow_mut().remove(&signal)
    }

    /// Writes the signals that have arrived to another descriptor, for who has the pipe by mistake.
    ///
    /// What that does not take is lost, as a signal is for which it has no room.
    pub fn pass_on(&self, to: BorrowedFd<'_>) {
        if let Some(pipe) = &*self.pipe.borrow() {
            pipe.pass_on(to);
        }
    }

    /// The signals that are handled, in ascending order.
    pub fn handled(&self) -> Vec<u8> {
        self.handlers.borrow().keys().copied().collect()
    }

    /// Whether no signal is handled.
    pub fn is_empty(&self) -> bool {
        self.handlers.borrow().is_empty()
    }

    /// Closes the pipe, and takes everything out, for the caller to drop.
    pub(super) fn close(&self) -> Vec<Runnable> {
        drop(self.pipe.take());
        self.handlers.take().into_values().collect()
    }

    /// Shows the work of every handled signal to `visit`.
    pub fn for_each(&self, visit: impl FnMut(&Runnable)) {
        self.handlers.borrow().values().for_each(visit);
    }

    /// Hands clones of what the arrived signals call for to `push`.
    pub(super) fn dispatch(&self, mut push: impl FnMut(Runnable)) -> io::Result<()> {
        let pipe = self.pipe.borrow();
        let Some(pipe) = &*pipe else { return Ok(()) };
        let handlers = self.handlers.borrow();
        pipe.drain(|signal| {
            if let Some(runnable) = handlers.get(&signal) {
                push(runnable.clone());
            }
        })
    }
}
