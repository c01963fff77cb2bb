//! Data by OpenSSL's own functions.

use ferrio::net::Transfer;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{End, Progress};
use crate::asyncio;
use crate::ffi::bytes;
use crate::ffi::openssl::{Outcome, Session};

/// Whether a connection of this context, which is `object`, may have its data taken past Python.
pub(super) fn is_wanted(context: &Bound<'_, PyAny>, object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = context.py();
    let environ = py.import(intern!(py, "os"))?.getattr(intern!(py, "environ"))?;
    let asked = environ.call_method1(intern!(py, "get"), (intern!(py, "FERRIO_TLS"),))?;
    if asked.eq("portable")? {
        return Ok(false);
    }
    // A context can have a class of its own for its objects, which may read and write in a way of its own.
    let (class, standard) = (object.get_type(), asyncio::ssl_object_class(py)?);
    for method in [intern!(py, "read"), intern!(py, "write")] {
        if !class.getattr(method)?.is(&standard.getattr(method)?) {
            return Ok(false);
        }
    }
    // What this callback raises is kept in the object until its next call, and raised there.
    Ok(context.getattr_opt(intern!(py, "_msg_callback"))?.is_none_or(|callback| callback.is_none()))
}

/// What a record can hold, in bytes.
const RECORD: usize = 16 * 1024;

pub(super) struct Direct(Session);

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

impl Direct {
    pub(super) fn attach(object: &Bound<'_, PyAny>, incoming: &Bound<'_, PyAny>) -> Option<Self> {
        Session::attach(object, incoming).map(Self)
    }

    pub(super) fn feed(&mut self, data: Vec<u8>) -> Vec<u8> {
        self.0.feed(data)
    }

    pub(super) fn take_spent(&mut self) -> Vec<u8> {
        self.0.take_spent()
    }

    pub(super) fn unread(&mut self) -> usize {
        self.0.unread()
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(self.0.output())
    }

    pub(super) fn lend_output(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        let output = self.0.output();
        if output.capacity() == 0 { std::mem::replace(output, buffer) } else { buffer }
    }

    /// See `Engine::read`.
    #[inline]
    pub(super) fn read(&mut self, object: &Bound<'_, PyAny>, input: &[u8], into: &mut [u8]) -> (usize, End) {
        self.0.with_input(input, |session| fill(object, session, into, |session, rest| session.read(object.py(), rest)))
    }

    /// See `Engine::read_bytes`.
    #[inline]
    pub(super) fn read_bytes<'py>(
        &mut self,
        object: &Bound<'py, PyAny>,
        input: &[u8],
    ) -> PyResult<(Bound<'py, PyBytes>, End)> {
        let py = object.py();
        // Records are larger than what is in them; and of the first one, the beginning may have come before.
        let room = input.len() + if self.0.is_drained() { 0 } else { RECORD };
        self.0.with_input(input, |session| {
            let mut end = End::Again;
            let received = bytes::receive(py, room, |memory| {
                let (count, why) = fill(object, session, memory, |session, rest| session.read_uninit(py, rest));
                end = why;
                Ok(Transfer::Done(count))
            });
            match received?? {
                Some(data) => Ok((data, end)),
                None => unreachable!("reading ends with a count"),
            }
        })
    }

    #[inline]
    pub(super) fn write(&mut self, object: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<Progress> {
        match self.0.write(object.py(), data) {
            Outcome::Done(_) => Ok(Progress::Done),
            Outcome::Again => Ok(Progress::Again),
            Outcome::Closed | Outcome::Failed => Err(failure(object, |object| {
                let data = PyBytes::new(object.py(), data);
                object.call_method1(intern!(object.py(), "write"), (data,))
            })),
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.0.owner())
    }
}

/// Reads until `into` is full or there is nothing more.
#[inline]
fn fill<T>(
    object: &Bound<'_, PyAny>,
    session: &mut Session,
    into: &mut [T],
    read: impl Fn(&mut Session, &mut [T]) -> Outcome,
) -> (usize, End) {
    let mut count = 0;
    let end = loop {
        if count == into.len() {
            break End::Full;
        }
        match read(session, &mut into[count..]) {
            Outcome::Done(more) => {
                count += more;
                // The usual end, told without another look into the library's depths.
                if session.is_drained() {
                    break End::Again;
                }
            }
            Outcome::Again => break End::Again,
            Outcome::Closed => break End::Closed,
            Outcome::Failed => {
                break End::Failed(failure(object, |object| object.call_method1(intern!(object.py(), "read"), (1,))));
            }
        }
    };
    (count, end)
}

/// The error that is in the library's queue, as the object raises it: with the library's name, the reason and the text.
///
/// A connection that has failed fails again at once, and adds nothing to the queue.
#[cold]
fn failure<'py>(
    object: &Bound<'py, PyAny>,
    again: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyErr {
    match again(object) {
        Err(error) => error,
        Ok(_) => PyRuntimeError::new_err("a TLS connection that had failed went on"),
    }
}
