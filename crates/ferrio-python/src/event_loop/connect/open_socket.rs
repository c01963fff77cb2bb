//! A socket before it has a transport.

use ferrio::engine::Direction;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::event_loop::readiness::readiness;
use crate::event_loop::sock::{begin_connect, end_connect};
use crate::event_loop::weak_loop::WeakLoop;

/// A socket that is closed when this goes, unless it has been taken.
pub(in crate::event_loop) struct OpenSocket(Option<Py<PyAny>>);

impl OpenSocket {
    pub(in crate::event_loop) fn new(socket: Py<PyAny>) -> Self {
        Self(Some(socket))
    }

    /// Gives the socket to who closes it from now on.
    pub(in crate::event_loop) fn take(mut self) -> Option<Py<PyAny>> {
        self.0.take()
    }

    pub(in crate::event_loop) fn get<'a, 'py>(&'a self, py: Python<'py>) -> PyResult<&'a Bound<'py, PyAny>> {
        match &self.0 {
            Some(socket) => Ok(socket.bind(py)),
            None => Err(PyOSError::new_err("the socket was taken")),
        }
    }

    /// Connects the socket, which does not block.
    pub(in crate::event_loop) async fn connect(&self, event_loop: &WeakLoop, address: Py<PyAny>) -> PyResult<()> {
        if Python::attach(|py| begin_connect(self.get(py)?, address.bind(py)))? {
            let fd = Python::attach(|py| self.get(py)?.call_method0(intern!(py, "fileno"))?.extract())?;
            readiness(event_loop, fd, Direction::Write).await?;
            Python::attach(|py| end_connect(self.get(py)?, address.bind(py)))?;
        }
        Ok(())
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        let Some(socket) = self.0.take() else { return };
        // At the end of the interpreter the process's end closes it.
        _ = Python::try_attach(|py| {
            // An exception that is being handled must be there afterwards too.
            let raised = PyErr::take(py);
            // What closing a socket that never was connected reports is of no use to anybody.
            _ = socket.into_bound(py).call_method0(intern!(py, "close"));
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}
