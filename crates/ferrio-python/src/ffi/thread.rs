//! The thread: waiting without the interpreter lock, and which one it is.

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

/// Runs `f` with a token of its own, for what is called by the interpreter rather than by PyO3, and drops `Py`s: a `Py`
/// gives its reference up at once only where PyO3 itself counts the thread as attached, and later otherwise.
///
/// `Python::attach` would not do. While the interpreter finalizes it refuses, by a panic, and what is called then, with
/// the last objects going, must not panic.
#[inline]
pub(crate) fn attach_again<R>(_py: Python<'_>, f: impl FnOnce(Python<'_>) -> R) -> R {
    // SAFETY: the token says that this thread is attached; to attach it once more only counts.
    unsafe { Python::attach_unchecked(f) }
}

/// The number of this thread, the one that `threading.get_ident()` returns.
#[inline]
pub(crate) fn current_thread() -> u64 {
    // SAFETY: has no conditions.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}
