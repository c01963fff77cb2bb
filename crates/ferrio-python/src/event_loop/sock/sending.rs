//! What sends.

use ferrio::engine::Direction;
use ferrio::net::{Transfer, socket};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySlice};
use pyo3::{PyTraverseError, intern};

use super::attempts::{Attempt, Call, Tried, plain, tried};
use crate::ffi::buffer::with_bytes;
use crate::ffi::descriptor::borrow;
use crate::os_error::os_error;

pub(super) struct SendTo {
    pub(super) data: Py<PyAny>,
    pub(super) address: Py<PyAny>,
}

impl Call for SendTo {
    const DIRECTION: Direction = Direction::Write;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        tried(sock, sock.call_method1(intern!(py, "sendto"), (&self.data, &self.address)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.data)?;
        visit.call(&self.address)
    }
}

pub(super) struct SendAll {
    /// The data, or a view of it from the first wait on, so that its size cannot change.
    pub(super) data: Py<PyAny>,
    pub(super) sent: usize,
    pub(super) viewed: bool,
}

impl Call for SendAll {
    const DIRECTION: Direction = Direction::Write;

    #[inline]
    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let data = self.data.bind(py);
        let (sent, length, left) = match plain(sock, intern!(py, "send"))? {
            Some(fd) => {
                let rest = |bytes: &[u8]| {
                    let rest = bytes.get(self.sent..).unwrap_or_default();
                    socket::send(borrow(fd), rest).map(|sent| (sent, bytes.len()))
                };
                match with_bytes(data, rest)?.map_err(|error| os_error(py, &error))? {
                    // A part that was sent is all that there was room for.
                    (Transfer::Done(sent), length) => (sent, length, Tried::Blocked),
                    (Transfer::WouldBlock, length) => (0, length, Tried::Blocked),
                }
            }
            None => self.send_by_method(sock)?,
        };
        self.sent += sent;
        if self.sent >= length {
            return Ok(Tried::Done(py.None().into_bound(py)));
        }
        if !self.viewed {
            self.data = PyMemoryView::from(data)?.call_method1(intern!(py, "cast"), ("B",))?.unbind();
            self.viewed = true;
        }
        Ok(left)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.data)
    }
}

impl SendAll {
    fn send_by_method<'py>(&self, sock: &Bound<'py, PyAny>) -> PyResult<(usize, usize, Tried<'py>)> {
        let py = sock.py();
        let data = self.data.bind(py);
        let sent = if self.viewed {
            let rest = data.get_item(PySlice::new(py, isize::try_from(self.sent)?, isize::MAX, 1))?;
            sock.call_method1(intern!(py, "send"), (rest,))
        } else {
            sock.call_method1(intern!(py, "send"), (data,))
        };
        let sent = match tried(sock, sent)? {
            Tried::Done(sent) => sent.extract()?,
            Tried::Blocked | Tried::Again => 0,
        };
        Ok((sent, with_bytes(data, <[u8]>::len)?, Tried::Again))
    }
}
