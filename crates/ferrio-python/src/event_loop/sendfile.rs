//! Files that the kernel sends: `sendfile` and `sock_sendfile`.
//!
//! `sendfile(2)` does the work where it can, in portions, so that a fast peer does not keep the loop's turn. Where it cannot,
//! for what is no regular file, the file is read by its own `readinto` in a thread, and what it read is sent.
//!
//! Either way the file's position is behind what was sent when the coroutine ends, however it ends. (asyncio leaves it
//! where it was if the coroutine is cancelled.)

use std::os::fd::RawFd;

use ferrio::engine::Direction;
use ferrio::net::{Transfer, socket};
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyAttributeError, PyConnectionError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyInt, PyMemoryView, PySlice};

use super::EventLoop;
use super::fds::WeakLoop;
use super::sock::Socket;
use crate::asyncio;
use crate::coroutine::{Coroutine, await_};
use crate::ffi::call::method0;
use crate::ffi::cell::GilCell;
use crate::ffi::descriptor::borrow;
use crate::futures::Future;
use crate::loop_ref::LoopCore;
use crate::os_error::{os_error, os_error_of};
use crate::transports::{SendingFile, SocketTransport};

/// The most that one call of `sendfile(2)` sends, in bytes.
const PORTION: usize = 1 << 20;

/// How much is read at once where the kernel cannot send, in bytes: to a socket, and to a transport, which buffers.
const READ_FOR_SOCKET: usize = 256 * 1024;
const READ_FOR_TRANSPORT: usize = 16 * 1024;

#[pymethods]
impl EventLoop {
    /// Sends `count` bytes of `file`, a regular file opened in binary mode, or all of it, from `offset` on; returns the number
    /// of bytes. The file's position is behind them afterwards, also after an error.
    ///
    /// Raises SendfileNotAvailableError for what the kernel cannot send, or reads and sends it if `fallback`.
    #[pyo3(
        signature = (sock, file, offset=None, count=None, *, fallback=true),
        text_signature = "($self, sock, file, offset=0, count=None, *, fallback=True)"
    )]
    fn sock_sendfile<'py>(
        slf: &Bound<'py, Self>,
        sock: Bound<'py, PyAny>,
        file: Py<PyAny>,
        offset: Option<Py<PyAny>>,
        count: Option<Py<PyAny>>,
        fallback: bool,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let socket = Socket::new(slf, sock)?;
        Coroutine::new(slf.py(), "sock_sendfile", async move {
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
                Err(error) if fallback && is_not_available(&error) => part.read_to_socket(&socket).await,
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
        Coroutine::new(slf.py(), "_sock_sendfile_native", async move {
            Part::new(file, Some(offset), count)?.send(&To::Socket(&socket)).await
        })
    }

    /// Sends `count` bytes of `file`, a regular file opened in binary mode, or all of it, from `offset` on; returns the number
    /// of bytes. The file's position is behind them afterwards, also after an error. What was written before goes first;
    /// nothing can be written, and nothing is received, before this is done.
    ///
    /// Raises RuntimeError if the transport is closing or knows no sendfile, SendfileNotAvailableError for what the kernel
    /// cannot send, or reads and writes it if `fallback`.
    #[pyo3(
        signature = (transport, file, offset=None, count=None, *, fallback=true),
        text_signature = "($self, transport, file, offset=0, count=None, *, fallback=True)"
    )]
    fn sendfile<'py>(
        slf: &Bound<'py, Self>,
        transport: Py<PyAny>,
        file: Py<PyAny>,
        offset: Option<Py<PyAny>>,
        count: Option<Py<PyAny>>,
        fallback: bool,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let event_loop = WeakLoop::new(slf)?;
        Coroutine::new(slf.py(), "sendfile", async move {
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
                    Err(error) if fallback && is_not_available(&error) => {}
                    result => return result,
                }
            }
            if !fallback {
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
        Coroutine::new(slf.py(), "_sendfile_native", async move {
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

/// Who gets it.
enum To<'a> {
    Socket(&'a Socket),
    Transport(&'a SendingFile),
}

impl To<'_> {
    fn descriptor(&self, py: Python<'_>) -> PyResult<RawFd> {
        match self {
            Self::Socket(socket) => method0(socket.object.bind(py), intern!(py, "fileno"))?.extract(),
            Self::Transport(sending) => sending.descriptor(py),
        }
    }

    async fn room(&self) -> PyResult<()> {
        match self {
            Self::Socket(socket) => socket.ready(Direction::Write).await,
            Self::Transport(sending) => await_(Python::attach(|py| sending.room(py))?.into_any()).await.map(drop),
        }
    }
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
            reading.count_chunk();
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

/// How far the kernel has come.
struct Sending {
    file: Py<PyAny>,
    number: RawFd,
    offset: u64,
    left: Option<u64>,
    sent: u64,
    has_waited: bool,
}

impl Sending {
    /// `None` if the file is empty.
    ///
    /// # Errors
    ///
    /// `SendfileNotAvailableError` for what has no descriptor.
    fn new(py: Python<'_>, part: &Part) -> PyResult<Option<Self>> {
        let file = part.file.bind(py);
        let number: RawFd = match file.call_method0(intern!(py, "fileno")) {
            Ok(number) => number.extract()?,
            Err(error)
                if error.is_instance_of::<PyAttributeError>(py)
                    || error.is_instance(py, &py.import("io")?.getattr("UnsupportedOperation")?) =>
            {
                return Err(not_available(py, "not a regular file"));
            }
            Err(error) => return Err(error),
        };
        let size = match py.import("os")?.call_method1(intern!(py, "fstat"), (number,)) {
            Ok(stat) => stat.getattr(intern!(py, "st_size"))?,
            Err(error) if error.is_instance_of::<PyOSError>(py) => return Err(not_available(py, "not a regular file")),
            Err(error) => return Err(error),
        };
        let left = match &part.count {
            // What is more than can be counted is more than there is.
            Some(count) => Some(count.extract(py).unwrap_or(u64::MAX)),
            None if size.is_truthy()? => None,
            None => return Ok(None),
        };
        // The kernel's own offsets are signed.
        let offset: i64 = part.offset.extract(py)?;
        let offset = u64::try_from(offset).map_err(|_| PyOSError::new_err("negative offset"))?;
        Ok(Some(Self { file: file.clone().unbind(), number, offset, left, sent: 0, has_waited: false }))
    }

    /// Sends a portion; true if that was all.
    fn attempt(&mut self, py: Python<'_>, to: &To<'_>) -> PyResult<bool> {
        let count = self.left.map_or(PORTION, |left| usize::try_from(left).map_or(PORTION, |left| left.min(PORTION)));
        if count == 0 {
            return Ok(true);
        }
        let fd = to.descriptor(py)?;
        self.check_file(py)?;
        if fd < 0 {
            return Err(self.failed(py, &std::io::Error::from_raw_os_error(libc::EBADF)));
        }
        let (file, offset) = (self.number, self.offset);
        // The disk may be slow.
        match py.detach(|| socket::send_file(borrow(fd), borrow(file), offset, count)) {
            Ok(Transfer::Done(0)) => Ok(true),
            Ok(Transfer::Done(sent)) => {
                let sent = sent as u64;
                self.sent += sent;
                self.offset += sent;
                self.left = self.left.map(|left| left.saturating_sub(sent));
                Ok(self.left == Some(0))
            }
            Ok(Transfer::WouldBlock) => Ok(false),
            Err(error) => Err(self.failed(py, &error)),
        }
    }

    /// # Errors
    ///
    /// What the file says if it has been closed; `OSError` if it is another one by now.
    fn check_file(&self, py: Python<'_>) -> PyResult<()> {
        let number: RawFd = self.file.bind(py).call_method0(intern!(py, "fileno"))?.extract()?;
        if number == self.number { Ok(()) } else { Err(os_error_of(py, libc::EBADF)) }
    }

    fn failed(&self, py: Python<'_>, error: &std::io::Error) -> PyErr {
        if self.sent == 0 {
            // It may be the file, and reading may help; if it is the connection, that will find out.
            return not_available(py, "os.sendfile call failed");
        }
        let exception = os_error(py, error);
        if !self.has_waited || error.raw_os_error() != Some(libc::ENOTCONN) {
            return exception;
        }
        let lost = PyConnectionError::new_err(("socket is not connected", libc::ENOTCONN));
        lost.set_cause(py, Some(exception));
        lost
    }

    /// Has the file go on behind what was sent.
    fn set_position(&self, py: Python<'_>) -> PyResult<()> {
        // A file that was closed meanwhile has no position, and its number may be another's.
        if self.check_file(py).is_err() {
            return Ok(());
        }
        py.import("os")?.call_method1(intern!(py, "lseek"), (self.number, self.offset, 0)).map(drop)
    }
}

/// How far reading has come.
struct Reading {
    file: Py<PyAny>,
    buffer: Py<PyByteArray>,
    offset: Py<PyAny>,
    left: Option<u64>,
    size: usize,
    /// How much of the buffer was read, and is being sent.
    chunk: usize,
    sent: u64,
    can_seek: bool,
}

impl Reading {
    fn new(py: Python<'_>, part: &Part, size: usize) -> PyResult<Self> {
        let file = part.file.bind(py);
        let can_seek = file.hasattr(intern!(py, "seek"))?;
        if can_seek {
            file.call_method1(intern!(py, "seek"), (&part.offset,))?;
        }
        let left = match &part.count {
            Some(count) if count.is_truthy(py)? => Some(count.extract(py).unwrap_or(u64::MAX)),
            _ => None,
        };
        let size = left.map_or(size, |left| usize::try_from(left).map_or(size, |left| left.min(size)));
        let buffer = PyByteArray::new_with(py, size, |_| Ok(()))?.unbind();
        let (file, offset) = (file.clone().unbind(), part.offset.clone_ref(py));
        Ok(Self { file, buffer, offset, left, size, chunk: 0, sent: 0, can_seek })
    }

    /// Reads the next chunk; `None` if there is no more.
    async fn read(&mut self, event_loop: &WeakLoop) -> PyResult<Option<Py<PyAny>>> {
        let size =
            self.left.map_or(self.size, |left| usize::try_from(left).map_or(self.size, |left| left.min(self.size)));
        if size == 0 {
            return Ok(None);
        }
        let reading = Python::attach(|py| {
            let readinto = self.file.bind(py).getattr(intern!(py, "readinto"))?;
            let call = (py.None(), readinto, self.view(py, size)?);
            event_loop.get(py)?.call_method1(intern!(py, "run_in_executor"), call).map(Bound::unbind)
        })?;
        let read = await_(reading).await?;
        Python::attach(|py| {
            // None is what a file that would block has read.
            self.chunk = if read.is_truthy(py)? { read.extract(py)? } else { 0 };
            if self.chunk == 0 { Ok(None) } else { Ok(Some(self.view(py, self.chunk)?.unbind())) }
        })
    }

    fn view<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyAny>> {
        PyMemoryView::from(self.buffer.bind(py))?.get_item(PySlice::new(py, 0, isize::try_from(size)?, 1))
    }

    fn count_chunk(&mut self) {
        let chunk = self.chunk as u64;
        self.sent += chunk;
        self.left = self.left.map(|left| left.saturating_sub(chunk));
    }

    /// Has the file go on behind what was sent.
    fn set_position(&self, py: Python<'_>) -> PyResult<()> {
        if self.sent == 0 || !self.can_seek {
            return Ok(());
        }
        let position = self.offset.bind(py).add(self.sent)?;
        self.file.bind(py).call_method1(intern!(py, "seek"), (position,)).map(drop)
    }
}

/// The protocol of a transport to which a file is written: it only keeps the writer from going too fast.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct StandIn {
    core: Py<LoopCore>,
    transport: Py<PyAny>,
    protocol: Py<PyAny>,
    was_reading: bool,
    was_paused: bool,
    /// Done when the transport wants more; none while it does.
    room: GilCell<Option<Py<Future>>>,
}

impl StandIn {
    /// Takes the place of the transport's protocol.
    fn begin<'py>(event_loop: &Bound<'py, EventLoop>, transport: &Bound<'py, PyAny>) -> PyResult<Py<Self>> {
        let py = transport.py();
        let was_paused = transport.getattr(intern!(py, "_protocol_paused"))?.is_truthy()?;
        let stand_in = Self {
            core: event_loop.as_super().clone().unbind(),
            transport: transport.clone().unbind(),
            protocol: transport.call_method0(intern!(py, "get_protocol"))?.unbind(),
            was_reading: transport.call_method0(intern!(py, "is_reading"))?.is_truthy()?,
            was_paused,
            room: GilCell::default(),
        };
        let this = Bound::new(py, stand_in)?;
        if was_paused {
            Self::pause_writing(&this)?;
        }
        transport.call_method0(intern!(py, "pause_reading"))?;
        transport.call_method1(intern!(py, "set_protocol"), (&this,))?;
        Ok(this.unbind())
    }

    /// What to wait for before more is written; `None` if there is room.
    ///
    /// # Errors
    ///
    /// `ConnectionError` if the connection is closing.
    fn room(&self, py: Python<'_>) -> PyResult<Option<Py<Future>>> {
        if self.transport.bind(py).call_method0(intern!(py, "is_closing"))?.is_truthy()? {
            return Err(PyConnectionError::new_err("Connection closed by peer"));
        }
        Ok(self.room.clone_ref(py))
    }

    /// Gives the place back.
    fn end(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let stand_in = this.get();
        let transport = stand_in.transport.bind(py);
        transport.call_method1(intern!(py, "set_protocol"), (&stand_in.protocol,))?;
        if stand_in.was_reading {
            transport.call_method0(intern!(py, "resume_reading"))?;
        }
        if let Some(room) = stand_in.room.take(py) {
            // Nobody waits for it any more.
            Future::cancel(room.bind(py), None)?;
        }
        if stand_in.was_paused {
            stand_in.protocol.bind(py).call_method0(intern!(py, "resume_writing"))?;
        }
        Ok(())
    }
}

#[pymethods]
impl StandIn {
    fn connection_made(&self, _transport: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Invalid state: connection should have been established already."))
    }

    fn connection_lost<'py>(&self, exc: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = exc.py();
        if let Some(room) = self.room.clone_ref(py)
            && room.get().is_pending(py)
        {
            let failure = if exc.is_none() {
                PyConnectionError::new_err("Connection is closed by peer").into_value(py).into_bound(py).into_any()
            } else {
                exc.clone()
            };
            Future::reject(room.bind(py), failure)?;
        }
        self.protocol.bind(py).call_method1(intern!(py, "connection_lost"), (exc,)).map(drop)
    }

    fn pause_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.room.with(py, |room| room.is_some()) {
            return Ok(());
        }
        let event_loop = this.core.bind(py).cast::<EventLoop>()?;
        let room = Py::new(py, Future::new(py, EventLoop::loop_ref(event_loop))?)?;
        drop(this.room.replace(py, Some(room)));
        Ok(())
    }

    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        match self.room.take(py) {
            Some(room) if room.get().is_pending(py) => Future::resolve(room.bind(py), py.None().into_bound(py)),
            _ => Ok(()),
        }
    }

    fn data_received(&self, _data: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Invalid state: reading should be paused"))
    }

    fn eof_received(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Invalid state: reading should be paused"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.transport)?;
        visit.call(&self.protocol)?;
        self.room.traverse(visit, |room, visit| visit.call(room))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.room.take(py));
    }
}
