//! The thread: waiting without the interpreter lock, having it, and which thread this is.

use std::io;

use ferrio::engine::{Flow, Park, Wait};
use pyo3::ffi;
use pyo3::prelude::*;

use super::runnable::leave;

/// Waits for the loop, with the interpreter lock released for as long as the wait can block.
pub(crate) struct ReleasingPark<'py>(pub(crate) Python<'py>);

impl Park for ReleasingPark<'_> {
    fn park(&mut self, mut wait: Wait<'_>) -> io::Result<Flow> {
        if wait.can_block() {
            self.0.detach(|| wait.now())?;
        } else {
            wait.now()?;
        }
        // SAFETY: the lock is held. Handlers run Python code; nothing of the loop is borrowed during a park.
        match unsafe { ffi::PyErr_CheckSignals() } {
            0 => Ok(Flow::Continue),
            _ => Ok(leave(PyErr::fetch(self.0))),
        }
    }
}

/// Runs `f` with the interpreter lock, which the thread has, so that PyO3 knows of it: the references that `f` drops go at
/// once. Without this, what is called by the interpreter directly has them put off.
///
/// `Python::attach` is not for this: it panics while the interpreter ends, which is when the last objects go.
#[inline]
pub(crate) fn attached<R>(_py: Python<'_>, f: impl FnOnce(Python<'_>) -> R) -> R {
    // SAFETY: the token says that the lock is held, so there is nothing to wait for and an interpreter to be attached to.
    unsafe { Python::attach_unchecked(f) }
}

/// The number of this thread, the one that `threading.get_ident()` returns.
#[inline]
pub(crate) fn current_thread() -> u64 {
    // SAFETY: has no conditions.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}
