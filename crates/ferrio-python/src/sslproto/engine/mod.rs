//! What encrypts and decrypts: an `ssl.SSLObject` of the user's `SSLContext`.
//!
//! | file | how data goes through it |
//! |---|---|
//! | [`direct`] | by the functions of the interpreter's own OpenSSL, [`Session`](crate::ffi::openssl::Session) |
//! | [`portable`] | by the object's own `read` and `write`, over two `ssl.MemoryBIO` |
//! | [`failure`] | the errors of the first way, which are those of the second |
//!
//! The second is for interpreters whose OpenSSL cannot be found, for contexts that see to reading and writing
//! themselves, and for those who ask for it by `FERRIO_TLS=portable` in the environment. What is rare goes through the
//! object in both: how it is made, every error, and what the program asks.
//!
//! Every function here can run Python code, by the context's callbacks, or let other threads run. The one who calls has
//! the engine exclusively meanwhile, and what comes back to the connection finds it in use.

mod direct;
mod failure;
mod portable;

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use self::direct::Direct;
use self::portable::Portable;
use crate::asyncio;
use crate::ffi::buffer::Memory;

/// The most that is decrypted at once, in bytes.
pub(super) const LARGEST_READ: usize = 256 * 1024;

/// A connection's cryptography.
#[derive(Debug)]
pub(super) struct Engine {
    /// The `ssl.SSLObject`.
    object: Py<PyAny>,
    io: Io,
}

#[derive(Debug)]
enum Io {
    Direct(Direct),
    Portable(Portable),
}

/// How far the handshake, or the closing, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// The peer must say something first.
    Again,
}

/// What [`Engine::read_bytes`] has decrypted.
pub(super) struct Decrypted<'py> {
    pub(super) data: Bound<'py, PyBytes>,
    /// What is more than the limit; not empty.
    pub(super) rest: Option<Bound<'py, PyBytes>>,
}

/// Why reading ended.
#[derive(Debug)]
pub(super) enum End {
    /// There is no room for more.
    Full,
    /// There is nothing more yet.
    Again,
    /// The peer has said that there will be no more.
    Closed,
    Failed(PyErr),
}

impl Engine {
    /// # Errors
    ///
    /// What `SSLContext.wrap_bio` raises, `ValueError` if it needs a host name for one.
    pub(super) fn new(
        context: &Bound<'_, PyAny>,
        server_side: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = context.py();
        let class = asyncio::memory_bio_class(py)?;
        let (incoming, outgoing) = (class.call0()?, class.call0()?);
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "server_side"), server_side)?;
        keywords.set_item(intern!(py, "server_hostname"), server_hostname)?;
        let object = context.call_method(intern!(py, "wrap_bio"), (&incoming, &outgoing), Some(&keywords))?;
        let direct = match direct::is_wanted(context, &object)? {
            true => Direct::attach(context, &object, &incoming)?,
            false => None,
        };
        let io = match direct {
            Some(direct) => Io::Direct(direct),
            None => Io::Portable(Portable::new(incoming, outgoing)),
        };
        Ok(Self { object: object.unbind(), io })
    }

    pub(super) fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Whether data goes through it without Python objects.
    pub(super) fn is_direct(&self) -> bool {
        matches!(self.io, Io::Direct(_))
    }

    /// Takes what was received. Returns a buffer that is no longer needed.
    pub(super) fn feed(&mut self, py: Python<'_>, data: Vec<u8>) -> PyResult<Vec<u8>> {
        match &mut self.io {
            Io::Direct(direct) => Ok(direct.feed(data)),
            Io::Portable(portable) => portable.feed(py, &data).map(|()| data),
        }
    }

    /// The buffer of what was received, if all of it is used.
    pub(super) fn take_spent(&mut self) -> Vec<u8> {
        match &mut self.io {
            Io::Direct(direct) => direct.take_spent(),
            Io::Portable(_) => Vec::new(),
        }
    }

    /// How many bytes that were received are not decrypted.
    pub(super) fn unread(&mut self, py: Python<'_>) -> PyResult<usize> {
        match &mut self.io {
            Io::Direct(direct) => Ok(direct.unread()),
            Io::Portable(portable) => portable.unread(py),
        }
    }

    /// What is to be sent.
    pub(super) fn take_output(&mut self, py: Python<'_>) -> PyResult<Vec<u8>> {
        match &mut self.io {
            Io::Direct(direct) => Ok(direct.take_output()),
            Io::Portable(portable) => portable.take_output(py),
        }
    }

    /// Gives a buffer for what will have to be sent.
    pub(super) fn lend_output(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        match &mut self.io {
            Io::Direct(direct) => direct.lend_output(buffer),
            Io::Portable(_) => buffer,
        }
    }

    /// # Errors
    ///
    /// `ssl.SSLError`, and what the context's callbacks raise.
    pub(super) fn shake_hands(&mut self, py: Python<'_>) -> PyResult<Progress> {
        let object = self.object.bind(py);
        match &mut self.io {
            Io::Direct(direct) => direct.shake_hands(object),
            Io::Portable(_) => progress(py, object.call_method0(intern!(py, "do_handshake"))),
        }
    }

    /// Says that there will be no more, and waits for the peer to say it.
    ///
    /// # Errors
    ///
    /// `ssl.SSLError`, if the peer sends data for one.
    pub(super) fn close(&mut self, py: Python<'_>) -> PyResult<Progress> {
        let object = self.object.bind(py);
        match &mut self.io {
            Io::Direct(direct) => direct.close(object),
            Io::Portable(_) => progress(py, object.call_method0(intern!(py, "unwrap"))),
        }
    }

    /// Decrypts into `into`, behind `input` being received, until it is full or there is nothing more.
    #[inline]
    pub(super) fn read(&mut self, py: Python<'_>, input: &[u8], into: &mut [u8]) -> (usize, End) {
        let object = self.object.bind(py);
        match &mut self.io {
            Io::Direct(direct) => direct.read(object, input, into),
            Io::Portable(portable) => match portable.feed(py, input) {
                Ok(()) => portable::read(object, into),
                Err(error) => (0, End::Failed(error)),
            },
        }
    }

    /// As [`read`](Self::read), into memory that may be written to while Python code runs; `None` if it goes the other
    /// way, and nothing has been done.
    pub(super) fn read_memory(&mut self, py: Python<'_>, input: &[u8], memory: &Memory<'_>) -> Option<(usize, End)> {
        match &mut self.io {
            Io::Direct(direct) => Some(direct.read_memory(self.object.bind(py), input, memory)),
            Io::Portable(_) => None,
        }
    }

    /// As [`read`](Self::read), into a new `bytes` that has all that there is in the input, or two of which the first
    /// has `limit` bytes; `None` if it goes the other way, and nothing has been done.
    #[inline]
    pub(super) fn read_bytes<'py>(
        &mut self,
        py: Python<'py>,
        input: &[u8],
        limit: usize,
    ) -> Option<PyResult<(Decrypted<'py>, End)>> {
        match &mut self.io {
            Io::Direct(direct) => Some(direct.read_bytes(self.object.bind(py), input, limit)),
            Io::Portable(_) => None,
        }
    }

    /// Encrypts `data`, which is not empty: all of it, or nothing if the peer must say something first.
    ///
    /// # Errors
    ///
    /// `ssl.SSLError`.
    #[inline]
    pub(super) fn write(&mut self, py: Python<'_>, data: &[u8]) -> PyResult<Progress> {
        match &mut self.io {
            Io::Direct(direct) => direct.write(self.object.bind(py), data),
            Io::Portable(_) => portable::write(self.object.bind(py), data),
        }
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        match &self.io {
            Io::Direct(direct) => direct.traverse(visit),
            Io::Portable(portable) => portable.traverse(visit),
        }
    }
}

fn progress(py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<Progress> {
    match result {
        Ok(_) => Ok(Progress::Done),
        Err(error) if wants_more(py, &error) => Ok(Progress::Again),
        Err(error) => Err(error),
    }
}

/// Whether `error` only says that the peer must say something first.
fn wants_more(py: Python<'_>, error: &PyErr) -> bool {
    let is = |class: PyResult<&Bound<'_, PyAny>>| class.is_ok_and(|class| error.matches(py, class).unwrap_or(false));
    is(asyncio::ssl_want_read_error(py)) || is(asyncio::ssl_syscall_error(py))
}
