//! What receives.

use ferrio::engine::Direction;
use ferrio::net::{Transfer, socket};
use ferrio::stream::SCRATCH;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};

use super::attempts::{Attempt, Call, Tried, plain, tried};
use crate::ffi::buffer::with_bytes_mut;
use crate::ffi::bytes;
use crate::ffi::call::method1;
use crate::ffi::cell::GilCell;
use crate::ffi::descriptor::borrow;
use crate::os_error::os_error;

/// Where small messages are received. Nothing is in it between two calls.
static SHARED: GilCell<[u8; SCRATCH]> = GilCell::new([0; SCRATCH]);

pub(super) struct Recv {
    pub(super) n: Py<PyAny>,
}

impl Call for Recv {
    const DIRECTION: Direction = Direction::Read;

    #[inline]
    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let n = self.n.bind(py);
        // No number, a negative one, none at all: the socket's method knows what to do.
        let (Ok(room @ 1..), Some(fd)) = (n.extract::<usize>(), plain(sock, intern!(py, "recv"))?) else {
            return tried(sock, method1(sock, intern!(py, "recv"), n));
        };
        let received = if room <= SCRATCH {
            SHARED.with(py, |shared| match socket::recv(borrow(fd), &mut shared[..room]) {
                Ok(Transfer::Done(count)) => bytes::copy(py, &shared[..count]).map(|data| Ok(Some(data))),
                Ok(Transfer::WouldBlock) => Ok(Ok(None)),
                Err(error) => Ok(Err(error)),
            })
        } else {
            bytes::receive(py, room, |buffer| socket::recv_uninit(borrow(fd), buffer))
        };
        let received = received?.map_err(|error| os_error(py, &error))?;
        Ok(received.map_or(Tried::Blocked, |data| Tried::Done(data.into_any())))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.n)
    }
}

pub(super) struct RecvInto {
    pub(super) buf: Py<PyAny>,
}

impl Call for RecvInto {
    const DIRECTION: Direction = Direction::Read;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let buf = self.buf.bind(py);
        if let Some(fd) = plain(sock, intern!(py, "recv_into"))? {
            let received = with_bytes_mut(buf, |bytes| match bytes {
                [] => Ok(Transfer::Done(0)),
                bytes => socket::recv(borrow(fd), bytes),
            });
            // What is no buffer to us is none to the method either, which has its own words for that.
            if let Ok(received) = received {
                return match received.map_err(|error| os_error(py, &error))? {
                    Transfer::Done(count) => Ok(Tried::Done(count.into_pyobject(py)?.into_any())),
                    Transfer::WouldBlock => Ok(Tried::Blocked),
                };
            }
        }
        tried(sock, method1(sock, intern!(py, "recv_into"), buf))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.buf)
    }
}

pub(super) struct RecvFrom {
    pub(super) bufsize: Py<PyAny>,
}

impl Call for RecvFrom {
    const DIRECTION: Direction = Direction::Read;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        tried(sock, method1(sock, intern!(py, "recvfrom"), self.bufsize.bind(py)))
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.bufsize)
    }
}

pub(super) struct RecvFromInto {
    pub(super) buf: Py<PyAny>,
    pub(super) nbytes: Option<Py<PyAny>>,
}

impl Call for RecvFromInto {
    const DIRECTION: Direction = Direction::Read;

    fn attempt<'py>(&mut self, sock: &Bound<'py, PyAny>) -> Attempt<'py> {
        let py = sock.py();
        let received = match &self.nbytes {
            Some(nbytes) => sock.call_method1(intern!(py, "recvfrom_into"), (&self.buf, nbytes)),
            None => sock.call_method1(intern!(py, "recvfrom_into"), (&self.buf,)),
        };
        tried(sock, received)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.buf)?;
        visit.call(&self.nbytes)
    }
}
