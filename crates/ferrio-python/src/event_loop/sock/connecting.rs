//! What makes connections.

use ferrio::engine::Direction;
use pyo3::exceptions::PyOSError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};

use super::attempts::{Attempt, Call, Tried, is_blocked, tried};
use crate::ffi::call::{method0, method1};

/// True if the connection is being made, false if it stands.
pub(in crate::event_loop) fn begin_connect(sock: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = sock.py();
    match method1(sock, intern!(py, "connect"), address) {
        Ok(_) => Ok(false),
        Err(error) if is_blocked(py, &error) => {
            // No connection has begun, and the socket counts as writable: a wait would end at once, in what looks like
            // success.
            let refused = error.value(py).getattr(intern!(py, "errno"))?.eq(libc::EAGAIN)?;
            if refused { Err(error) } else { Ok(true) }
        }
        Err(error) => Err(error),
    }
}

pub(in crate::event_loop) fn end_connect(sock: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = sock.py();
    let error = sock.call_method1(intern!(py, "getsockopt"), (libc::SOL_SOCKET, libc::SO_ERROR))?;
    if error.eq(0)? {
        return Ok(());
    }
    let text = format!("Connect call failed {}", address.str()?);
    // By a call: it is the class that picks the subclass for the number.
    Err(PyErr::from_value(py.get_type::<PyOSError>().call1((error, text))?))
}

pub(super) struct Accept;

impl Call for Accept {
    const DIRECTION: Direction = Direction::Read;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let accepted = tried(sock, method0(sock, intern!(py, "accept")))?;
        if let Tried::Done(accepted) = &accepted {
            accepted.get_item(0)?.call_method1(intern!(py, "setblocking"), (false,))?;
        }
        Ok(accepted)
    }

    fn traverse(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}
