//! A file that is sent by the kernel, in the place of what the protocol would write.
//!
//! Who sends it makes the calls. The transport keeps the protocol from writing in between, reads nothing meanwhile, and
//! tells when there is room. It watches by its own registration: a second one of the same descriptor could not exist.

use std::os::fd::RawFd;

use ferrio::engine::Direction;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::SocketTransport;
use crate::ffi::raise::raised;
use crate::futures::Future;
use crate::loop_ref::LoopRef;

/// A transport that belongs to a file; who is done calls [`end`](Self::end).
///
/// It is weak, since a coroutine holds it.
pub(crate) struct SendingFile {
    transport: Py<PyWeakrefReference>,
    was_reading: bool,
}

impl SendingFile {
    /// Takes the transport.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if a file is being sent already.
    pub(crate) fn begin(transport: &Bound<'_, SocketTransport>) -> PyResult<Self> {
        let py = transport.py();
        let this = transport.get();
        if this.flags.get(py).sending_file {
            return Err(PyRuntimeError::new_err("unable to sendfile; sendfile is in progress"));
        }
        SocketTransport::send_deferred(transport)?;
        let was_reading = this.is_reading(py);
        this.change(py, |flags| (flags.sending_file, flags.paused) = (true, true));
        Ok(Self { transport: PyWeakrefReference::new(transport)?.unbind(), was_reading })
    }

    /// The descriptor to send to.
    ///
    /// # Errors
    ///
    /// `ConnectionError` once the connection is lost.
    pub(crate) fn descriptor(&self, py: Python<'_>) -> PyResult<RawFd> {
        let transport = self.get(py)?;
        if transport.get().is_lost(py) { Err(lost()) } else { Ok(transport.get().source.number()) }
    }

    /// A future that is done once nothing that was written waits to be sent; `None` if nothing does.
    pub(crate) fn drained(&self, py: Python<'_>) -> PyResult<Option<Py<Future>>> {
        let transport = self.get(py)?;
        if transport.get().has_output(py) { waiter(&transport).map(Some) } else { Ok(None) }
    }

    /// A future that is done once there is room for more.
    pub(crate) fn room(&self, py: Python<'_>) -> PyResult<Py<Future>> {
        let transport = self.get(py)?;
        if transport.get().is_lost(py) {
            return Err(lost());
        }
        let waiter = waiter(&transport)?;
        SocketTransport::watch_writes(&transport)?;
        Ok(waiter)
    }

    /// Gives the transport back.
    pub(crate) fn end(self, py: Python<'_>) -> PyResult<()> {
        let Ok(transport) = self.get(py) else { return Ok(()) };
        let this = transport.get();
        this.change(py, |flags| flags.sending_file = false);
        drop(this.take_waiter(py));
        if !this.has_output(py) {
            this.unwatch(py, Direction::Write);
        }
        if self.was_reading { SocketTransport::resume_reading(&transport) } else { Ok(()) }
    }

    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, SocketTransport>> {
        self.transport.bind(py).upgrade_as::<SocketTransport>()?.ok_or_else(lost)
    }
}

fn lost() -> PyErr {
    PyConnectionError::new_err("Connection is closed by peer")
}

fn waiter(transport: &Bound<'_, SocketTransport>) -> PyResult<Py<Future>> {
    let py = transport.py();
    let waiter = Py::new(py, Future::new(py, LoopRef::Ours(transport.get().core.clone_ref(py)))?)?;
    let kept = waiter.clone_ref(py);
    let before = transport.get().with_output(py, |output| output.waiter.replace(kept));
    drop(before);
    Ok(waiter)
}

impl SocketTransport {
    /// Ends the wait of who sends a file: there is room, or `failure`, None if nothing failed, has ended the
    /// connection.
    #[inline]
    pub(super) fn tell_waiter<'py>(this: &Bound<'py, Self>, failure: Option<&Bound<'py, PyAny>>) -> PyResult<()> {
        let py = this.py();
        match this.get().take_waiter(py) {
            Some(waiter) if waiter.get().is_pending(py) => Self::end_wait(waiter.bind(py), failure),
            _ => Ok(()),
        }
    }

    #[cold]
    fn end_wait<'py>(waiter: &Bound<'py, Future>, failure: Option<&Bound<'py, PyAny>>) -> PyResult<()> {
        let py = waiter.py();
        match failure {
            None => Future::resolve(waiter, py.None().into_bound(py)),
            Some(failure) if failure.is_none() => Future::reject(waiter, raised(py, lost()).into_any()),
            Some(failure) => Future::reject(waiter, failure.clone()),
        }
    }
}
