//! Files that the kernel sends: `sendfile` and `sock_sendfile`.
//!
//! `sendfile(2)` does the work where it can, in portions, so that a fast peer does not keep the loop's turn. Where it
//! cannot, for what is no regular file, the file is read by its own `readinto` in a thread, and what it read is sent.
//!
//! Either way the file's position is behind what was sent when the coroutine ends, however it ends; where it is read, a
//! chunk of which a part was sent counts as not sent. (asyncio leaves it where it was if the coroutine is cancelled.)
//!
//! | file | noun |
//! |---|---|
//! | [`kernel`] | a file that the kernel sends |
//! | [`reading`] | a file that is read in a thread |
//! | [`stand_in`] | who stands in the protocol's place while a file is written to its transport |

mod kernel;
mod reading;
mod stand_in;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use self::kernel::{Sending, To};
use self::reading::Reading;
use self::stand_in::StandIn;
use super::EventLoop;
use super::sock::Socket;
use super::weak_loop::WeakLoop;
use crate::asyncio;
use crate::convert::{Argument, Truth};
use crate::coroutine::{Coroutine, await_};
use crate::transports::{SendingFile, SocketTransport};

/// How much is read at once where the kernel cannot send, in bytes: to a socket, and to a transport, which buffers.
const READ_FOR_SOCKET: usize = 256 * 1024;
const READ_FOR_TRANSPORT: usize = 16 * 1024;

#[pymethods]
impl EventLoop {
    /// Sends `count` bytes of `file`, a regular file opened in binary mode, or all of it, from `offset` on; returns the
    /// number of bytes. The file's position is behind them afterwards, also after an error.
    ///
    /// Raises SendfileNotAvailableError for what the kernel cannot send, or reads and sends it if `fallback`.
    #[pyo3(
        signature = (sock, file, offset=Argument::default(), count=None, *, fallback=Truth(true)),
        text_signature = "($self, sock, file, offset=0, count=None, *, fallback=True)"
    )]
    fn sock_sendfile<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        file: Py<PyAny>,
        offset: Argument<'py>,
        count: Option<Py<PyAny>>,
        fallback: Truth,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        let offset = offset.0.map(Bound::unbind);
        Coroutine::new(slf.py(), "BaseEventLoop.sock_sendfile", async move {
            socket.check()?;
            let part = Part::new(file, offset, count)?;
            Python::attach(|py| part.check(py, socket.object.bind(py)))?;
            let native = Python::attach(|py| {
                // By name: programs put their own in its place.
                let method = (socket.event_loop.get(py)?, intern!(py, "_sock_sendfile_native"));
                method
                    .0
                    .call_method1(method.1, (&socket.object, &part.file, &part.offset, &part.count))
                    .map(Bound::unbind)
            })?;
            match await_(native).await {
                Err(error) if fallback.0 && is_not_available(&error) => part.read_to_socket(&socket).await,
                result => result,
            }
        })
    }

    fn _sock_sendfile_native<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        file: Py<PyAny>,
        offset: Py<PyAny>,
        count: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "_UnixSelectorEventLoop._sock_sendfile_native", async move {
            Part::new(file, Some(offset), count)?.send(&To::Socket(&socket)).await
        })
    }

    /// Sends `count` bytes of `file`, a regular file opened in binary mode, or all of it, from `offset` on; returns the
    /// number of bytes. The file's position is behind them afterwards, also after an error. What was written before
    /// goes first; nothing can be written, and nothing is received, before this is done.
    ///
    /// Raises RuntimeError if the transport is closing or knows no sendfile, SendfileNotAvailableError for what the
    /// kernel cannot send, or reads and writes it if `fallback`.
    #[pyo3(
        signature = (transport, file, offset=Argument::default(), count=None, *, fallback=Truth(true)),
        text_signature = "($self, transport, file, offset=0, count=None, *, fallback=True)"
    )]
    fn sendfile<'py>(
        slf: &Bound<'py, Self>,
        transport: Py<PyAny>,
        file: Py<PyAny>,
        offset: Argument<'py>,
        count: Option<Py<PyAny>>,
        fallback: Truth,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        let offset = offset.0.map(Bound::unbind);
        Coroutine::new(slf.py(), "BaseEventLoop.sendfile", async move {
            let part = Part::new(file, offset, count)?;
            let native = Python::attach(|py| {
                if !tries_native(transport.bind(py))? {
                    return Ok(None);
                }
                let method = (event_loop.get(py)?, intern!(py, "_sendfile_native"));
                method
                    .0
                    .call_method1(method.1, (&transport, &part.file, &part.offset, &part.count))
                    .map(Some)
                    .map(|native| native.map(Bound::unbind))
            })?;
            if let Some(native) = native {
                match await_(native).await {
                    Err(error) if fallback.0 && is_not_available(&error) => {}
                    result => return result,
                }
            }
            if !fallback.0 {
                let transport = Python::attach(|py| PyResult::Ok(transport.bind(py).repr()?.to_string()))?;
                return Err(PyRuntimeError::new_err(format!(
                    "fallback is disabled and native sendfile is not supported for transport {transport}"
                )));
            }
            part.read_to_transport(&event_loop, &transport).await
        })
    }

    fn _sendfile_native<'py>(
        slf: &Bound<'py, Self>,
        transp: Py<PyAny>,
        file: Py<PyAny>,
        offset: Py<PyAny>,
        count: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        Coroutine::new(slf.py(), "BaseSelectorEventLoop._sendfile_native", async move {
            let part = Part::new(file, Some(offset), count)?;
            let sending = Python::attach(|py| match transp.bind(py).cast::<SocketTransport>() {
                Ok(transport) => SendingFile::begin(transport),
                Err(_) => Err(not_available(py, "sendfile syscall is not supported")),
            })?;
            // The caller has it, for as long as this runs.
            drop(transp);
            let result = part.send_by_transport(&sending).await;
            Python::attach(|py| sending.end(py))?;
            result
        })
    }
}

fn not_available(py: Python<'_>, text: &'static str) -> PyErr {
    asyncio::sendfile_not_available_error::new_err(py, text)
}

fn is_not_available(error: &PyErr) -> bool {
    Python::attach(|py| asyncio::sendfile_not_available_error::is(error.value(py)))
}

/// Whether the transport is one that the kernel may send by; false if all must be written.
///
/// # Errors
///
/// `RuntimeError` if it is closing, or neither.
fn tries_native(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = transport.py();
    if transport.call_method0(intern!(py, "is_closing"))?.is_truthy()? {
        return Err(PyRuntimeError::new_err("Transport is closing"));
    }
    let modes = asyncio::sendfile_mode(py)?;
    let mode = transport.getattr_opt(intern!(py, "_sendfile_compatible"))?;
    let is =
        |name: &str| PyResult::Ok(mode.as_ref().is_some_and(|mode| modes.getattr(name).is_ok_and(|own| own.is(mode))));
    if mode.is_none() || is("UNSUPPORTED")? {
        let text = format!("sendfile is not supported for transport {}", transport.repr()?);
        return Err(PyRuntimeError::new_err(text));
    }
    is("TRY_NATIVE")
}

/// What is to be sent.
struct Part {
    file: Py<PyAny>,
    offset: Py<PyAny>,
    count: Option<Py<PyAny>>,
}

impl Part {
    fn new(file: Py<PyAny>, offset: Option<Py<PyAny>>, count: Option<Py<PyAny>>) -> PyResult<Self> {
        let offset = match offset {
            Some(offset) => offset,
            None => Python::attach(|py| PyResult::Ok(0i32.into_pyobject(py)?.into_any().unbind()))?,
        };
        Ok(Self { file, offset, count })
    }

    /// # Errors
    ///
    /// `ValueError` and `TypeError` for arguments that will not do.
    fn check(&self, py: Python<'_>, sock: &Bound<'_, PyAny>) -> PyResult<()> {
        self.check_mode(py)?;
        if !sock.getattr(intern!(py, "type"))?.eq(libc::SOCK_STREAM)? {
            return Err(PyValueError::new_err("only SOCK_STREAM type sockets are supported"));
        }
        self.check_numbers(py)
    }

    fn check_mode(&self, py: Python<'_>) -> PyResult<()> {
        match self.file.bind(py).getattr_opt(intern!(py, "mode"))? {
            Some(mode) if !mode.contains("b")? => Err(PyValueError::new_err("file should be opened in binary mode")),
            _ => Ok(()),
        }
    }

    fn check_numbers(&self, py: Python<'_>) -> PyResult<()> {
        let check = |number: &Bound<'_, PyAny>, least: i32, what: &str| {
            let text = || PyResult::Ok(format!("{what} integer (got {})", number.repr()?));
            if !number.is_instance_of::<PyInt>() {
                return Err(PyTypeError::new_err(text()?));
            }
            if number.lt(least)? { Err(PyValueError::new_err(text()?)) } else { Ok(()) }
        };
        if let Some(count) = &self.count {
            check(count.bind(py), 1, "count must be a positive")?;
        }
        check(self.offset.bind(py), 0, "offset must be a non-negative")
    }

    async fn send_by_transport(&self, sending: &SendingFile) -> PyResult<Py<PyAny>> {
        if let Some(drained) = Python::attach(|py| sending.drained(py))? {
            await_(drained.into_any()).await?;
        }
        Python::attach(|py| self.check_mode(py).and_then(|()| self.check_numbers(py)))?;
        self.send(&To::Transport(sending)).await
    }

    /// Has the kernel send it.
    async fn send(&self, to: &To<'_>) -> PyResult<Py<PyAny>> {
        let sending = Python::attach(|py| Sending::new(py, self))?;
        let Some(mut sending) = sending else { return int(0) };
        let result = loop {
            match Python::attach(|py| sending.attempt(py, to)) {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(error),
            }
            if let Err(error) = to.room().await {
                break Err(error);
            }
            sending.has_waited = true;
        };
        Python::attach(|py| sending.set_position(py))?;
        result.and_then(|()| int(sending.sent))
    }

    /// Reads it and sends it.
    async fn read_to_socket(&self, socket: &Socket) -> PyResult<Py<PyAny>> {
        let mut reading = Python::attach(|py| Reading::new(py, self, READ_FOR_SOCKET))?;
        let result = loop {
            let chunk = match reading.read(&socket.event_loop).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let sending = Python::attach(|py| {
                let event_loop = socket.event_loop.get(py)?;
                event_loop.call_method1(intern!(py, "sock_sendall"), (&socket.object, &chunk)).map(Bound::unbind)
            });
            let sent = match sending {
                Ok(sending) => await_(sending).await,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                break Err(error);
            }
            reading.count_chunk();
        };
        Python::attach(|py| reading.set_position(py))?;
        result.and_then(|()| int(reading.sent))
    }

    /// Reads it and writes it to the transport, whose protocol is another one meanwhile.
    async fn read_to_transport(&self, event_loop: &WeakLoop, transport: &Py<PyAny>) -> PyResult<Py<PyAny>> {
        let (mut reading, stand_in) = Python::attach(|py| {
            let reading = Reading::new(py, self, READ_FOR_TRANSPORT)?;
            let stand_in = StandIn::begin(&event_loop.get(py)?, transport.bind(py))?;
            PyResult::Ok((reading, stand_in))
        })?;
        let result = loop {
            let chunk = match reading.read(event_loop).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let room = Python::attach(|py| {
                transport.bind(py).call_method1(intern!(py, "write"), (chunk,))?;
                // The transport's from here on, which sends it also if this ends before there is room for more.
                reading.count_chunk();
                stand_in.get().room(py)
            });
            let drained = match room {
                Ok(Some(room)) => await_(room.into_any()).await.map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = drained {
                break Err(error);
            }
        };
        Python::attach(|py| {
            let positioned = reading.set_position(py);
            StandIn::end(stand_in.bind(py))?;
            positioned
        })?;
        result.and_then(|()| int(reading.sent))
    }
}

fn int(number: u64) -> PyResult<Py<PyAny>> {
    Python::attach(|py| Ok(number.into_pyobject(py)?.into_any().unbind()))
}
