//! Data by OpenSSL's own functions.

use ferrio::net::Transfer;
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::failure::{self, Method};
use super::{Decrypted, End, Progress};
use crate::asyncio;
use crate::ffi::buffer::Memory;
use crate::ffi::bytes;
use crate::ffi::openssl::{Outcome, Session};

/// Whether a connection of this context, which is `object`, may have its data taken past Python.
pub(super) fn is_wanted(context: &Bound<'_, PyAny>, object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = context.py();
    // Of the process, where a program's changes of `os.environ` arrive.
    if std::env::var_os("FERRIO_TLS").is_some_and(|asked| asked == "portable") {
        return Ok(false);
    }
    // A context can have a class of its own for its objects, which may do all that in a way of its own.
    let (class, standard) = (object.get_type(), asyncio::ssl_object_class(py)?);
    if !class.is(standard) {
        let methods = [intern!(py, "do_handshake"), intern!(py, "read"), intern!(py, "write"), intern!(py, "unwrap")];
        for method in methods {
            if !class.getattr(method)?.is(&standard.getattr(method)?) {
                return Ok(false);
            }
        }
    }
    // What this callback raises is kept in the object until its next call, and raised there.
    Ok(!is_set(context, intern!(py, "_msg_callback"))?)
}

fn is_set(context: &Bound<'_, PyAny>, attribute: &Bound<'_, PyString>) -> PyResult<bool> {
    Ok(context.getattr_opt(attribute)?.is_some_and(|value| !value.is_none()))
}

/// What a record can hold, in bytes.
const RECORD: usize = 16 * 1024;

pub(super) struct Direct {
    session: Session,
    /// Whether keys are logged in the handshake. A file that cannot be written is an error that is kept in the object,
    /// too, and which only the method that it belongs to raises.
    logs_keys: bool,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

impl Direct {
    pub(super) fn attach(
        context: &Bound<'_, PyAny>,
        object: &Bound<'_, PyAny>,
        incoming: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Self>> {
        let logs_keys = is_set(context, intern!(context.py(), "keylog_filename"))?;
        Ok(Session::attach(object, incoming).map(|session| Self { session, logs_keys }))
    }

    pub(super) fn feed(&mut self, data: Vec<u8>) -> Vec<u8> {
        self.session.feed(data)
    }

    pub(super) fn take_spent(&mut self) -> Vec<u8> {
        self.session.take_spent()
    }

    pub(super) fn unread(&mut self) -> usize {
        self.session.unread()
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(self.session.output())
    }

    pub(super) fn lend_output(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        let output = self.session.output();
        if output.capacity() == 0 { std::mem::replace(output, buffer) } else { buffer }
    }

    /// See `Engine::shake_hands`.
    pub(super) fn shake_hands(&mut self, object: &Bound<'_, PyAny>) -> PyResult<Progress> {
        if self.logs_keys {
            let result = object.call_method0(intern!(object.py(), "do_handshake"));
            return super::progress(object.py(), result);
        }
        let outcome = self.session.shake_hands(object.py());
        self.progress(object, outcome, Method::DoHandshake)
    }

    /// See `Engine::close`.
    pub(super) fn close(&mut self, object: &Bound<'_, PyAny>) -> PyResult<Progress> {
        let outcome = self.session.close(object.py());
        self.progress(object, outcome, Method::Unwrap)
    }

    /// See `Engine::read`.
    #[inline]
    pub(super) fn read(&mut self, object: &Bound<'_, PyAny>, input: &[u8], into: &mut [u8]) -> (usize, End) {
        let py = object.py();
        self.session.with_input(input, |session| {
            fill(object, session, into.len(), |session, count| session.read(py, &mut into[count..]))
        })
    }

    /// See `Engine::read_memory`.
    pub(super) fn read_memory(&mut self, object: &Bound<'_, PyAny>, input: &[u8], memory: &Memory<'_>) -> (usize, End) {
        let py = object.py();
        self.session.with_input(input, |session| {
            fill(object, session, memory.len(), |session, count| session.read_behind(py, memory, count))
        })
    }

    /// See `Engine::read_bytes`.
    #[inline]
    pub(super) fn read_bytes<'py>(
        &mut self,
        object: &Bound<'py, PyAny>,
        input: &[u8],
        limit: usize,
    ) -> PyResult<(Decrypted<'py>, End)> {
        self.session.with_input(input, |session| match fill_bytes(object, session, limit)? {
            (data, End::Full) => {
                let (rest, end) = fill_bytes(object, session, usize::MAX)?;
                Ok((Decrypted { data, rest: Some(rest).filter(|rest| !rest.as_bytes().is_empty()) }, end))
            }
            (data, end) => Ok((Decrypted { data, rest: None }, end)),
        })
    }

    #[inline]
    pub(super) fn write(&mut self, object: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<Progress> {
        let outcome = self.session.write(object.py(), data);
        self.progress(object, outcome, Method::Write)
    }

    #[inline]
    fn progress(&mut self, object: &Bound<'_, PyAny>, outcome: Outcome, method: Method) -> PyResult<Progress> {
        match outcome {
            Outcome::Done(_) => Ok(Progress::Done),
            Outcome::Again => Ok(Progress::Again),
            Outcome::Closed => Err(failure::closed(object.py(), method)),
            Outcome::Failed => Err(failure::raised(object, &mut self.session, method)),
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.session.owner())
    }
}

/// Reads until there are `room` bytes or there is nothing more; `read` is told how many there are.
#[inline]
fn fill(
    object: &Bound<'_, PyAny>,
    session: &mut Session,
    room: usize,
    mut read: impl FnMut(&mut Session, usize) -> Outcome,
) -> (usize, End) {
    let mut count = 0;
    let end = loop {
        if count == room {
            break End::Full;
        }
        match read(session, count) {
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
                break End::Failed(failure::raised(object, session, Method::Read));
            }
        }
    };
    (count, end)
}

/// As [`fill`], a `bytes` with room for all that there can be, `limit` bytes at most.
#[inline]
fn fill_bytes<'py>(
    object: &Bound<'py, PyAny>,
    session: &mut Session,
    limit: usize,
) -> PyResult<(Bound<'py, PyBytes>, End)> {
    let py = object.py();
    // Records are larger than what is in them; and of the first one, the beginning may be in the library.
    let in_library = if session.has_pending() { RECORD } else { 0 };
    let mut end = End::Again;
    let received = bytes::receive(py, (session.unread() + in_library).min(limit), |memory| {
        let (count, why) =
            fill(object, session, memory.len(), |session, count| session.read_uninit(py, &mut memory[count..]));
        end = why;
        Ok(Transfer::Done(count))
    });
    match received?? {
        Some(data) => Ok((data, end)),
        None => unreachable!("reading ends with a count"),
    }
}
