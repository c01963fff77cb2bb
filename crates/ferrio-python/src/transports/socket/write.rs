//! From the protocol to the kernel, and flow control.
//!
//! What is written is sent at once. What the kernel does not take is kept, without a copy if it is `bytes`, and flushed
//! by one vectored call whenever there is room; only meanwhile does the reactor watch for room.
//!
//! Where the loop says so, a little is kept until the callback ends, or the turn ([`EventLoop::defers_sends`]).
//! Nobody here can tell: whoever asks for the size of the buffer, closes, or sends a file has it sent first.
//!
//! [`EventLoop::defers_sends`]: ferrio::engine::EventLoop::defers_sends

use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use ferrio::engine::{Direction, Flow};
use ferrio::net::{Transfer, socket};
use ferrio::stream::{FlowControl, Limits, WriteBuffer};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use smallvec::SmallVec;

use super::SocketTransport;
use crate::asyncio;
use crate::ffi::buffer::{has_bytes, with_bytes};
use crate::ffi::method::{CallArguments, FastMethod};
use crate::ffi::runnable::{Job, runnable};
use crate::futures::Future;
use crate::os_error::os_error;
use crate::transports::callback;
use crate::transports::chunk::{Chunk, check_sendable};
use crate::transports::transport::{DescriptorTransport, Transport};

/// After so many writes to a lost connection the log is told, as asyncio's constant of a longer name says.
const WRITES_BEFORE_WARNING: u32 = 5;

/// So many bytes at most are kept for later: to copy more takes longer than to wake who waits for it.
const MOST_DEFERRED: usize = 16 * 1024;

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) buffer: WriteBuffer<Chunk>,
    pub(super) flow: FlowControl,
    /// Done once the buffer is empty and there is room for more.
    pub(super) waiter: Option<Py<Future>>,
}

/// A transport that has room for output, or an error to be told of.
pub(super) struct WriteReady;

impl Job for WriteReady {
    type Class = SocketTransport;

    fn run(this: &Bound<'_, SocketTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        callback::run_of(transport.core(py), transport, this.as_any(), || SocketTransport::flush(this))
    }
}

/// A transport that has kept something to send.
struct Deferred;

impl Job for Deferred {
    type Class = SocketTransport;

    fn run(this: &Bound<'_, SocketTransport>) -> Flow {
        let (py, transport) = (this.py(), this.get());
        if !transport.take_deferred(py) {
            return Flow::Continue;
        }
        match transport.send_buffered(py) {
            Ok(true) => Flow::Continue,
            sent => {
                callback::run_of(transport.core(py), transport, this.as_any(), || SocketTransport::offered(this, sent))
            }
        }
    }
}

/// `SocketTransport.write`.
pub(crate) struct Write;

impl FastMethod for Write {
    type Class = SocketTransport;

    const NAME: &'static CStr = c"write";

    const DOC: &'static CStr = c"write($self, data)\n--\n\n\
        Sends `data`, a bytes, bytearray or memoryview, or buffers what the kernel does not take now. Does not block.\n\n\
        A mutable object may be changed as soon as this returns. Raises TypeError for what is no such object,\n\
        RuntimeError after write_eof().";

    #[inline]
    fn call<'py>(slf: &Bound<'py, SocketTransport>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        SocketTransport::write(slf, &arguments.only("write", "data")?)?;
        Ok(py.None().into_bound(py))
    }
}

impl SocketTransport {
    /// `write`, for who knows the class.
    #[inline]
    pub(crate) fn write<'py>(this: &Bound<'py, Self>, data: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let bytes = bytes.as_bytes();
            return match Self::check_write(this, bytes.len(), WRITE)? {
                true => Self::write_or_keep(this, data, bytes.len(), |socket| socket(bytes)),
                false => Ok(()),
            };
        }
        check_sendable(data)?;
        let length = with_bytes(data, <[u8]>::len)?;
        match Self::check_write(this, length, WRITE)? {
            true => Self::write_or_keep(this, data, length, |socket| with_bytes(data, socket)?),
            false => Ok(()),
        }
    }

    /// Whether there is something to write `length` bytes to.
    #[inline]
    fn check_write(this: &Bound<'_, Self>, length: usize, method: &str) -> PyResult<bool> {
        let py = this.py();
        let transport = this.get();
        let flags = transport.flags.get(py);
        if flags.output_ended {
            return Err(PyRuntimeError::new_err(format!("Cannot call {method}() after write_eof()")));
        }
        if flags.sending_file {
            return Err(PyRuntimeError::new_err(format!("unable to {method}; sendfile is in progress")));
        }
        if length == 0 {
            return Ok(false);
        }
        let lost = transport.lost.get(py);
        if lost == 0 {
            return Ok(true);
        }
        if lost >= WRITES_BEFORE_WARNING {
            asyncio::logger(py)?.call_method1(intern!(py, "warning"), ("socket.send() raised exception.",))?;
        }
        transport.lost.set(py, lost.saturating_add(1));
        Ok(false)
    }

    /// Sends `data`, of which `with` shows the `length` bytes to a function, and keeps what is left.
    #[inline]
    fn write_or_keep<'py>(
        this: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        length: usize,
        with: impl FnOnce(&dyn Fn(&[u8]) -> Sent) -> Sent,
    ) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if transport.defers(py, length) || transport.has_output(py) {
            let (chunk, _) = Chunk::from_rest(data, 0)?;
            return Self::keep(this, chunk);
        }
        let sent = with(&|bytes| match transport.send(py, bytes) {
            Ok(Transfer::Done(count)) if count == bytes.len() => Ok(Outcome::All),
            Ok(Transfer::Done(count)) => Ok(Outcome::Part(count)),
            Ok(Transfer::WouldBlock) => Ok(Outcome::Part(0)),
            Err(error) => Err(os_error(py, &error)),
        });
        match sent {
            Ok(Outcome::All) => Ok(()),
            Ok(Outcome::Part(sent)) => {
                let (chunk, skipped) = Chunk::from_rest(data, sent)?;
                transport.with_output(py, |output| output.buffer.push_rest(chunk, skipped));
                Self::watch_writes(this)?;
                Self::output_grew(this)
            }
            Err(error) => Self::fatal_error(this, error, "Fatal write error on socket transport"),
        }
    }

    /// As `write`, for a protocol of ours: what the kernel does not take is copied.
    #[inline]
    pub(crate) fn write_slice(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if !Self::check_write(this, data.len(), WRITE)? {
            return Ok(());
        }
        if transport.defers(py, data.len()) || transport.has_output(py) {
            return Self::keep(this, Chunk::Copied(data.into()));
        }
        let sent = match transport.send(py, data) {
            Ok(Transfer::Done(sent)) if sent == data.len() => return Ok(()),
            Ok(Transfer::Done(sent)) => sent,
            Ok(Transfer::WouldBlock) => 0,
            Err(error) => {
                return Self::fatal_error(this, os_error(py, &error), "Fatal write error on socket transport");
            }
        };
        transport.with_output(py, |output| output.buffer.push(Chunk::Copied(data[sent..].into())));
        Self::watch_writes(this)?;
        Self::output_grew(this)
    }

    /// Whether `length` bytes, if nothing waits before them, are to be sent later; to be asked once for each write.
    #[inline]
    fn defers(&self, py: Python<'_>, length: usize) -> bool {
        let engine = self.core(py).get().engine(py);
        let running = engine.running();
        let again = self.wrote_in.replace(py, running) == running && running != 0;
        let in_pieces = self.flags.get(py).in_pieces;
        if again {
            engine.sends_again();
        }
        if again != in_pieces {
            self.change(py, |flags| flags.in_pieces = again);
        }
        length <= MOST_DEFERRED && engine.defers_sends(again || in_pieces)
    }

    #[inline]
    fn send(&self, py: Python<'_>, bytes: &[u8]) -> io::Result<Transfer> {
        let send = || socket::send(self.source.fd(), bytes);
        if bytes.len() <= MOST_DEFERRED { self.core(py).get().engine(py).send(send) } else { send() }
    }

    /// Puts `chunk` behind what waits to be sent; if nothing does, to be sent later.
    fn keep(this: &Bound<'_, Self>, chunk: Chunk) -> PyResult<()> {
        let waits = this.get().has_output(this.py());
        this.get().with_output(this.py(), |output| output.buffer.push(chunk));
        Self::kept(this, waits)
    }

    /// Follows what was put into the buffer, behind something that `waits` or into an empty one.
    fn kept(this: &Bound<'_, Self>, waits: bool) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let engine = transport.core(py).get().engine(py);
        if !waits {
            transport.change(py, |flags| flags.deferred = true);
            engine.defer_send(runnable::<Deferred>(this.clone().unbind()));
            return Ok(());
        }
        if !transport.flags.get(py).deferred {
            return Self::output_grew(this);
        }
        engine.deferred_more();
        let length = transport.look_at_output(py, |output| output.buffer.len());
        if length > MOST_DEFERRED { Self::send_deferred(this) } else { Ok(()) }
    }

    /// Whether something was to be sent later; now it is the caller who sends it.
    #[inline]
    fn take_deferred(&self, py: Python<'_>) -> bool {
        let was_deferred = self.flags.get(py).deferred;
        if was_deferred {
            self.change(py, |flags| flags.deferred = false);
        }
        was_deferred
    }

    /// Sends what was to be sent later.
    #[inline]
    pub(super) fn send_deferred(this: &Bound<'_, Self>) -> PyResult<()> {
        match this.get().take_deferred(this.py()) {
            true => Self::offer(this),
            false => Ok(()),
        }
    }

    /// As [`send_deferred`](Self::send_deferred), for who drops what the socket does not take, and needs no reason.
    pub(super) fn send_last(&self, py: Python<'_>) {
        if self.take_deferred(py) {
            _ = self.send_buffered(py);
        }
    }

    /// Sends what is buffered, and waits for room for the rest.
    fn offer(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::offered(this, this.get().send_buffered(this.py()))
    }

    /// Follows a [`send_buffered`](Self::send_buffered) for which nobody has waited.
    fn offered(this: &Bound<'_, Self>, sent: io::Result<bool>) -> PyResult<()> {
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => {
                Self::watch_writes(this)?;
                Self::output_grew(this)
            }
            Err(error) => Self::fatal_error(this, os_error(this.py(), &error), "Fatal write error on socket transport"),
        }
    }

    /// Runs `f` on what waits to be sent. It must run no Python code.
    pub(super) fn with_output<R>(&self, py: Python<'_>, f: impl FnOnce(&mut Output) -> R) -> R {
        self.output.with(py, |output| f(output.get_or_insert_default()))
    }

    /// As [`with_output`](Self::with_output), for who changes nothing: where nothing has ever waited, that is not
    /// written down.
    #[inline]
    pub(super) fn look_at_output<R>(&self, py: Python<'_>, f: impl FnOnce(&Output) -> R) -> R {
        self.output.with(py, |output| match output {
            Some(output) => f(output),
            None => f(&Output::default()),
        })
    }

    /// Whether something waits to be sent.
    #[inline]
    pub(super) fn has_output(&self, py: Python<'_>) -> bool {
        self.output.with(py, |output| output.as_ref().is_some_and(|output| !output.buffer.is_empty()))
    }

    /// Takes out who waits for room.
    #[inline]
    pub(super) fn take_waiter(&self, py: Python<'_>) -> Option<Py<Future>> {
        self.output.with(py, |output| output.as_mut().and_then(|output| output.waiter.take()))
    }

    /// How many bytes wait to be sent because there is no room for them.
    #[inline]
    pub(crate) fn buffered(&self, py: Python<'_>) -> usize {
        match self.flags.get(py).deferred {
            true => 0,
            false => self.look_at_output(py, |output| output.buffer.len()),
        }
    }

    pub(super) fn write_all<'py>(this: &Bound<'py, Self>, list_of_data: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if !Self::check_write(this, usize::from(list_of_data.is_truthy()?), "writelines")? {
            return Ok(());
        }
        // All or nothing: a wrong object is found before anything is sent.
        let mut chunks: SmallVec<[Chunk; 8]> = SmallVec::new();
        for data in list_of_data.try_iter()? {
            let data = data?;
            if !has_bytes(&data) {
                let text =
                    format!("memoryview: a bytes-like object is required, not {}", data.get_type().name()?.repr()?);
                return Err(PyTypeError::new_err(text));
            }
            let (chunk, _) = Chunk::from_rest(&data, 0)?;
            if !chunk.as_ref().is_empty() {
                chunks.push(chunk);
            }
        }
        // Iterating may have run anything.
        if chunks.is_empty() || transport.is_lost(py) {
            return Ok(());
        }
        let waits = transport.with_output(py, |output| {
            let waits = !output.buffer.is_empty();
            chunks.into_iter().for_each(|chunk| output.buffer.push(chunk));
            waits
        });
        let length = transport.look_at_output(py, |output| output.buffer.len());
        if transport.defers(py, length) || waits {
            return Self::kept(this, waits);
        }
        Self::offer(this)
    }

    /// One vectored call with what is buffered; true if that was all.
    fn send_buffered(&self, py: Python<'_>) -> io::Result<bool> {
        // Inside, chunks are dropped, which runs no Python code.
        self.with_output(py, |output| {
            let slices = output.buffer.slices();
            let sent = match &slices[..] {
                [] => return Ok(true),
                [only] => socket::send(self.source.fd(), only),
                several => send_vectored(self.source.fd(), several),
            };
            drop(slices);
            if let Transfer::Done(count) = sent? {
                output.buffer.advance(count);
            }
            Ok(output.buffer.is_empty())
        })
    }

    fn flush(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        if transport.is_lost(py) {
            return Ok(());
        }
        transport.take_deferred(py);
        if let Err(error) = transport.send_buffered(py) {
            return Self::fatal_error(this, os_error(py, &error), "Fatal write error on socket transport");
        }
        Self::output_shrank(this)?;
        // The protocol has had its say in between.
        if transport.is_lost(py) || transport.has_output(py) {
            return Ok(());
        }
        transport.unwatch(py, Direction::Write);
        Self::tell_waiter(this, None)?;
        let flags = transport.flags.get(py);
        if flags.closing {
            transport.lost.set(py, 1);
            return Self::connection_lost(this);
        }
        if flags.output_ended
            && let Err(error) = socket::shutdown_write(transport.source.fd())
        {
            return Self::fatal_error(this, os_error(py, &error), "Fatal write error on socket transport");
        }
        Ok(())
    }

    pub(super) fn end_output(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        Self::send_deferred(this)?;
        let flags = transport.flags.get(py);
        if flags.closing || flags.output_ended {
            return Ok(());
        }
        transport.change(py, |flags| flags.output_ended = true);
        if !transport.has_output(py) {
            socket::shutdown_write(transport.source.fd()).map_err(|error| os_error(py, &error))?;
        }
        Ok(())
    }

    pub(super) fn watch_writes(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        transport.source.watch::<WriteReady>(transport.core(py), Direction::Write, this)
    }

    pub(crate) fn set_limits(this: &Bound<'_, Self>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let limits = Limits::new(high, low).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Self::send_deferred(this)?;
        this.get().with_output(this.py(), |output| output.flow.set_limits(limits));
        Self::output_grew(this)
    }

    fn output_grew(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let pause = this.get().with_output(py, |output| output.flow.grown(output.buffer.len()));
        if pause { Self::tell_producer(this, intern!(py, "pause_writing")) } else { Ok(()) }
    }

    fn output_shrank(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let resume = this.get().with_output(py, |output| output.flow.shrunk(output.buffer.len()));
        if resume { Self::tell_producer(this, intern!(py, "resume_writing")) } else { Ok(()) }
    }
}

const WRITE: &str = "write";

/// What came of sending.
enum Outcome {
    All,
    Part(usize),
}

type Sent = PyResult<Outcome>;

#[cold]
fn send_vectored(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<Transfer> {
    socket::send_vectored(fd, slices)
}
