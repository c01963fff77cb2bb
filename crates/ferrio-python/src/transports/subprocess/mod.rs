//! `SubprocessTransport`: a child process and its pipes.
//!
//! | file | topic |
//! |---|---|
//! | [`pipes`] | the protocol of each of the process's pipes, which tells the transport |
//! | [`popen`] | `subprocess.Popen` |
//! | [`life`] | from the spawn to the protocol's last call |
//! | [`methods`] | what Python sees |
//!
//! The standard library's `subprocess.Popen` makes the process and its pipes; each pipe gets a transport; the process's
//! end is told by a [`ChildWatch`]. The process is reaped by the loop, on its thread, and signalled there: while the
//! transport does not know its status, the number is the process's own.
//!
//! # Order
//!
//! Whatever the protocol is told goes through the ready queue, in the order in which it happened, `connection_made`
//! first. `process_exited` and the ends of the pipes come in any order; `connection_lost` when all have come.

mod life;
mod methods;
mod pipes;
mod popen;

pub(crate) use life::NewSubprocess;
use pipes::SubprocessPipeProtocol;

use std::collections::VecDeque;
use std::sync::OnceLock;

use ferrio::engine::ChildWatch;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, ffi};

use self::life::Event;
use super::log;
use super::protocol::Protocol;
use super::transport::Transport;
use crate::ffi::cell::GilCell;
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::futures::Future;
use crate::loop_ref::LoopCore;

/// A child process, as `asyncio.SubprocessTransport`.
#[pyclass(frozen, dict, weakref, module = "ferrio")]
pub(crate) struct SubprocessTransport {
    core: Py<LoopCore>,
    /// What the protocol's methods are called in.
    context: Py<PyAny>,
    /// The `subprocess.Popen`.
    process: Py<PyAny>,
    pid: i32,
    protocol: Protocol,
    state: GilCell<State>,
}

#[derive(Default)]
struct State {
    /// Until the process has been reaped.
    watch: Option<ChildWatch>,
    returncode: Option<i32>,
    /// stdin, stdout, stderr.
    pipes: [Option<Pipe>; 3],
    /// What the protocol is still to be told; the loop has as many jobs for it.
    events: VecDeque<Event>,
    /// Gets None once `connection_made` has been called.
    beginning: Option<Py<Future>>,
    /// Each gets the return code.
    exit_waiters: Vec<Py<Future>>,
    closed: bool,
    /// `connection_lost` is queued.
    finished: bool,
    /// `connection_lost` has been called.
    lost: bool,
}

/// The parent's end of a pipe to the process.
struct Pipe {
    transport: Py<PyAny>,
    connected: bool,
}

impl SubprocessTransport {
    fn core<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, LoopCore> {
        self.core.bind(py)
    }

    fn is_debugged(&self, py: Python<'_>) -> bool {
        self.core(py).get().debug.get(py)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.context)?;
        visit.call(&self.process)?;
        self.protocol.traverse(visit)?;
        self.state.traverse(visit, |state, visit| {
            state.pipes.iter().flatten().try_for_each(|pipe| visit.call(&pipe.transport))?;
            state.events.iter().try_for_each(|event| event.traverse(visit))?;
            visit.call(&state.beginning)?;
            state.exit_waiters.iter().try_for_each(|waiter| visit.call(waiter))
        })
    }

    fn clear(&self, py: Python<'_>) {
        self.protocol.set(py, None);
        let left = self.state.with(py, |state| {
            let pipes = std::mem::take(&mut state.pipes);
            let events = std::mem::take(&mut state.events);
            (pipes, events, state.beginning.take(), std::mem::take(&mut state.exit_waiters))
        });
        drop(left);
    }
}

impl Transport for SubprocessTransport {
    fn parties<'a, 'py>(this: &'a Bound<'py, Self>) -> (&'a Bound<'py, LoopCore>, &'a Protocol) {
        (this.get().core(this.py()), &this.get().protocol)
    }
}

impl Finalize for SubprocessTransport {
    /// A transport that was not closed says so, and closes.
    fn finalize(this: &Bound<'_, Self>) {
        let py = this.py();
        if this.get().state.with(py, |state| state.closed) {
            return;
        }
        let warned = log::warn_unclosed(this.as_any());
        if let Err(error) = Self::close(this).and(warned) {
            error.write_unraisable(py, Some(this));
        }
    }
}

impl FinalizeFirst for SubprocessTransport {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        !this.get().state.with(this.py(), |state| state.closed)
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}
