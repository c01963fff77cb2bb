//! Who closes the descriptor of a transport.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::asyncio;
use crate::ffi::cell::GilCell;

/// The owner of a transport's descriptor.
///
/// An accepted connection is a number until somebody asks for its socket, which few do.
#[derive(Debug, Default)]
pub(crate) enum Endpoint {
    /// The transport itself.
    Fd(OwnedFd),
    /// A `socket.socket`.
    Socket(Py<PyAny>),
    /// Nobody: it is closed.
    #[default]
    Closed,
}

impl Endpoint {
    /// The descriptor's number; -1 if it is closed. Runs Python code for a socket.
    pub(super) fn number(&self, py: Python<'_>) -> PyResult<RawFd> {
        match self {
            Self::Fd(fd) => Ok(fd.as_raw_fd()),
            Self::Socket(socket) => socket.bind(py).call_method0(intern!(py, "fileno"))?.extract(),
            Self::Closed => Ok(-1),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self, Self::Closed)
    }

    /// Closes the descriptor. Runs Python code for a socket.
    pub(super) fn close(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Fd(fd) => {
                drop(fd);
                Ok(())
            }
            Self::Socket(socket) => socket.bind(py).call_method0(intern!(py, "close")).map(drop),
            Self::Closed => Ok(()),
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Socket(socket) => visit.call(socket),
            Self::Fd(_) | Self::Closed => Ok(()),
        }
    }

    /// The `socket.socket` of an endpoint, which owns the descriptor from then on; `None` if it is closed.
    pub(super) fn socket<'py>(cell: &GilCell<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let number = match cell.with(py, |endpoint| endpoint.peek(py)) {
            Peek::Socket(socket) => return Ok(Some(socket.into_bound(py))),
            Peek::Fd(number) => number,
            Peek::Closed => return Ok(None),
        };
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "fileno"), number)?;
        let socket = asyncio::socket_class(py)?.call((), Some(&keywords))?;
        let made = socket.clone().unbind();
        // Making it may have run anything. Only one can own the number; another that was made here gives it up.
        let fd = cell.with(py, |endpoint| match std::mem::take(endpoint) {
            Self::Fd(fd) => {
                *endpoint = Self::Socket(made);
                Some(fd)
            }
            other => {
                *endpoint = other;
                None
            }
        });
        match fd {
            Some(fd) => {
                // The socket's now.
                _ = fd.into_raw_fd();
                Ok(Some(socket))
            }
            None => {
                socket.call_method0(intern!(py, "detach"))?;
                match cell.with(py, |endpoint| endpoint.peek(py)) {
                    Peek::Socket(socket) => Ok(Some(socket.into_bound(py))),
                    _ => Ok(None),
                }
            }
        }
    }

    fn peek(&self, py: Python<'_>) -> Peek {
        match self {
            Self::Fd(fd) => Peek::Fd(fd.as_raw_fd()),
            Self::Socket(socket) => Peek::Socket(socket.clone_ref(py)),
            Self::Closed => Peek::Closed,
        }
    }
}

/// What an endpoint is, without a borrow of it.
enum Peek {
    Fd(RawFd),
    Socket(Py<PyAny>),
    Closed,
}
