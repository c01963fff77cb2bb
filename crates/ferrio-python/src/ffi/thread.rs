//! The thread: waiting without the interpreter lock, having it, and which thread this is.

use std::io;

use ferrio::engine::{Flow, Park, Wait};
use pyo3::ffi;
use pyo3::prelude::*;

use super::cell::GilCopy;
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

/// Runs `f` with the interpreter lock, which the thread has, so that PyO3 knows of it: the references that `f` drops go
/// at once. Without this, what is called by the interpreter directly has them put off.
///
/// `Python::attach` is not for this: it panics while the interpreter ends, which is when the last objects go.
///
/// On a thread that runs a loop of ours PyO3 knows already, from the call that runs it.
#[inline]
pub(crate) fn attached<R>(py: Python<'_>, f: impl FnOnce(Python<'_>) -> R) -> R {
    if LOOP_THREAD.get(py) == current_thread() {
        return f(py);
    }
    // SAFETY: the token says that the lock is held, so there is nothing to wait for and an interpreter to be attached
    // to.
    unsafe { Python::attach_unchecked(f) }
}

/// The last thread that began to run a loop of ours, by its number; 0 if that has ended.
static LOOP_THREAD: GilCopy<u64> = GilCopy::new(0);

/// While it lives, this thread runs a loop, inside a call into PyO3.
pub(crate) struct RunsLoop<'py>(Python<'py>);

impl<'py> RunsLoop<'py> {
    pub(crate) fn begin(py: Python<'py>) -> Self {
        LOOP_THREAD.set(py, current_thread());
        Self(py)
    }
}

impl Drop for RunsLoop<'_> {
    fn drop(&mut self) {
        if LOOP_THREAD.get(self.0) == current_thread() {
            LOOP_THREAD.set(self.0, 0);
        }
    }
}

/// The number of this thread, the one that `threading.get_ident()` returns: that of POSIX threads, asked without the
/// interpreter, as it is asked whenever something waits.
#[inline]
pub(crate) fn current_thread() -> u64 {
    // SAFETY: has no conditions.
    unsafe { libc::pthread_self() as u64 }
}
