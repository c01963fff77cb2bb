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

/// The number of this thread, the one that `threading.get_ident()` returns.
#[inline]
pub(crate) fn current_thread() -> u64 {
    // SAFETY: has no conditions.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}
