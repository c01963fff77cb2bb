//! From the protocol to a pipe, and flow control.
//!
//! What is written is written at once. What the kernel does not take is kept, without a copy if it is `bytes`, and
//! flushed by one vectored call whenever there is room.
//!
//! That nobody reads any more is noticed although nothing is read: the kernel reports a broken pipe, or a socket whose
//! peer has closed it, as readable.

use std::io;
use std::sync::OnceLock;

use ferrio::engine::{Direction, Flow};
use ferrio::net::{PipeKind, Transfer, pipe};
use ferrio::stream::{FlowControl, Limits, WriteBuffer};
use pyo3::exceptions::{PyBrokenPipeError, PyNotImplementedError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, ffi, intern};

use super::NewPipe;
use super::end::{self, End, PipeTransport};
use crate::asyncio;
use crate::ffi::buffer::with_bytes;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::ffi::newborn;
use crate::ffi::raise::raised;
use crate::ffi::runnable::Job;
use crate::loop_ref::LoopCore;
use crate::os_error::os_error;
use crate::transports::chunk::{Chunk, check_sendable};
use crate::transports::mark::mark;
use crate::transports::transport::{DescriptorTransport, Transport};

/// After so many writes to a lost connection the log is told, as asyncio's constant of a longer name says.
const WRITES_BEFORE_WARNING: u32 = 5;

/// The writing end of a pipe, as `asyncio.WriteTransport`.
#[pyclass(frozen, dict, weakref, module = "ferrio")]
pub(crate) struct WritePipeTransport {
    end: End,
    kind: PipeKind,
    output: GilCell<Output>,
    /// How often something was written since the connection began to close.
    lost_writes: GilCopy<u32>,
}

#[derive(Debug, Default)]
struct Output {
    buffer: WriteBuffer<Chunk>,
    flow: FlowControl,
}

/// A transport whose other end is closed.
struct Hangup;

impl Job for Hangup {
    type Class = WritePipeTransport;

    fn run(this: &Bound<'_, WritePipeTransport>) -> Flow {
        end::run(this, || WritePipeTransport::hangup(this))
    }
}

/// A transport that has room for output, or an error to be told of.
struct WriteReady;

impl Job for WriteReady {
    type Class = WritePipeTransport;

    fn run(this: &Bound<'_, WritePipeTransport>) -> Flow {
        end::run(this, || WritePipeTransport::flush(this))
    }
}

impl PipeTransport for WritePipeTransport {
    #[inline]
    fn end<'a>(this: &'a Bound<'_, Self>) -> &'a End {
        &this.get().end
    }

    fn start(this: &Bound<'_, Self>) -> PyResult<()> {
        // A terminal is readable when somebody types.
        match this.get().kind {
            PipeKind::Device => Ok(()),
            _ => this.get().end.watch::<Hangup>(Direction::Read, this),
        }
    }
}

impl DescriptorTransport for WritePipeTransport {
    fn is_open(this: &Bound<'_, Self>) -> bool {
        !this.get().end.flags.get(this.py()).closed
    }

    fn give_up(this: &Bound<'_, Self>) -> PyResult<()> {
        this.get().end.give_up(this.py())
    }

    fn force_close(this: &Bound<'_, Self>, failure: Option<Py<PyAny>>) -> PyResult<()> {
        drop(this.get().output.with(this.py(), |output| output.buffer.take()));
        end::lose(this, failure)
    }
}

impl WritePipeTransport {
    /// Makes a transport, and queues its beginning.
    ///
    /// # Errors
    ///
    /// As for a pipe of any kind: `ValueError` for what is no pipe.
    pub(crate) fn create<'py>(new: NewPipe<'py>) -> PyResult<Bound<'py, Self>> {
        let py = new.core.py();
        let (end, kind) = End::new(new, "Pipe transport is only for pipes, sockets and character devices")?;
        let (output, lost_writes) = (GilCell::default(), GilCopy::new(0));
        let this = newborn::make(py, Self { end, kind, output, lost_writes })?.into_bound(py);
        end::open(&this)?;
        Ok(this)
    }

    fn buffered(&self, py: Python<'_>) -> usize {
        self.output.with(py, |output| output.buffer.len())
    }

    fn hangup(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        if this.get().end.flags.get(py).lost {
            return Ok(());
        }
        end::log_debug(this, "info", "%r was closed by peer", None);
        let is_broken = this.get().buffered(py) != 0;
        let failure = is_broken.then(|| raised(py, PyBrokenPipeError::new_err(())).into_any().unbind());
        Self::force_close(this, failure)
    }

    fn write_data(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let (transport, end) = (this.get(), &this.get().end);
        if with_bytes(data, <[u8]>::is_empty)? {
            return Ok(());
        }
        if end.flags.get(py).closing {
            let lost = transport.lost_writes.get(py);
            if lost >= WRITES_BEFORE_WARNING {
                let text = "pipe closed by peer or os.write(pipe, data) raised exception.";
                asyncio::logger(py)?.call_method1(intern!(py, "warning"), (text,))?;
            }
            transport.lost_writes.set(py, lost.saturating_add(1));
            return Ok(());
        }
        let mut sent = 0;
        if transport.buffered(py) == 0 {
            let (length, result) = with_bytes(data, |bytes| (bytes.len(), pipe::send(end.source.fd(), bytes)))?;
            match result {
                Ok(Transfer::Done(count)) if count >= length => return Ok(()),
                Ok(Transfer::Done(count)) => sent = count,
                Ok(Transfer::WouldBlock) => {}
                Err(error) => {
                    transport.lost_writes.set(py, 1);
                    return Self::fatal_error(this, os_error(py, &error), WRITE_FAILED);
                }
            }
            end.watch::<WriteReady>(Direction::Write, this)?;
        }
        let (chunk, skipped) = Chunk::from_rest(data, sent)?;
        transport.output.with(py, |output| match output.buffer.is_empty() {
            true => output.buffer.push_rest(chunk, skipped),
            false => output.buffer.push(chunk),
        });
        Self::output_grew(this)
    }

    /// One vectored call with what is buffered.
    fn send_buffered(&self, py: Python<'_>) -> io::Result<()> {
        // Inside, chunks are dropped, which runs no Python code.
        self.output.with(py, |output| {
            let slices = output.buffer.slices();
            let sent = match &slices[..] {
                [] => return Ok(()),
                [only] => pipe::send(self.end.source.fd(), only),
                several => pipe::send_vectored(self.end.source.fd(), several),
            };
            drop(slices);
            if let Transfer::Done(count) = sent? {
                output.buffer.advance(count);
            }
            Ok(())
        })
    }

    fn flush(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let (transport, end) = (this.get(), &this.get().end);
        if end.flags.get(py).lost {
            return Ok(());
        }
        if let Err(error) = transport.send_buffered(py) {
            transport.lost_writes.set(py, 1);
            return Self::fatal_error(this, os_error(py, &error), WRITE_FAILED);
        }
        Self::output_shrank(this)?;
        // The protocol has had its say in between.
        if transport.buffered(py) != 0 {
            return Ok(());
        }
        end.unwatch(py, Direction::Write);
        if end.flags.get(py).closing { end::lose(this, None) } else { Ok(()) }
    }

    fn end_output(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let end = &this.get().end;
        if end.flags.get(py).closing {
            return Ok(());
        }
        end.change(py, |flags| flags.closing = true);
        if this.get().buffered(py) == 0 { end::lose(this, None) } else { Ok(()) }
    }

    fn output_grew(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let pause = this.get().output.with(py, |output| output.flow.grown(output.buffer.len()));
        if pause { Self::tell_producer(this, intern!(py, "pause_writing")) } else { Ok(()) }
    }

    fn output_shrank(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let resume = this.get().output.with(py, |output| output.flow.shrunk(output.buffer.len()));
        if resume { Self::tell_producer(this, intern!(py, "resume_writing")) } else { Ok(()) }
    }
}

const WRITE_FAILED: &str = "Fatal write error on pipe transport";

#[pymethods]
impl WritePipeTransport {
    /// Writes `data`, a bytes, bytearray or memoryview, or buffers what the kernel does not take now. Does not block.
    ///
    /// A mutable object may be changed as soon as this returns. Raises TypeError for what is no such object.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        check_sendable(data)?;
        Self::write_data(slf, data)
    }

    /// Writes the chunks of an iterable, as one `write` of all of them would.
    fn writelines<'py>(slf: &Bound<'py, Self>, list_of_data: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let data = PyBytes::new(py, b"").call_method1(intern!(py, "join"), (list_of_data,))?;
        Self::write_data(slf, &data)
    }

    /// Closes the pipe behind what is buffered: `close()` by another name.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::end_output(slf)
    }

    /// True.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Closes the pipe when what is buffered has been written. The protocol's `connection_lost(None)` is called in a
    /// later turn.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::end_output(slf)
    }

    /// Closes the pipe without writing what is buffered. `connection_lost(None)` is called in a later turn.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(slf, None)
    }

    /// Raises NotImplementedError: a pipe is written only. So do the two that follow; a StreamReader that is to be
    /// paused asks its transport, and goes on without if it cannot be.
    fn is_reading(&self) -> PyResult<bool> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// Raises NotImplementedError.
    fn pause_reading(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// Raises NotImplementedError.
    fn resume_reading(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.end.flags.get(py).closing
    }

    /// Sets the sizes of the buffer, in bytes, above which the protocol's `pause_writing()` is called, and at which
    /// `resume_writing()` is. `high` is 64 KiB unless it is given, or four times `low`; `low` is a quarter of `high`.
    ///
    /// Raises ValueError unless high >= low >= 0.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        #[pyo3(from_py_with = mark)] high: Option<i64>,
        #[pyo3(from_py_with = mark)] low: Option<i64>,
    ) -> PyResult<()> {
        let limits = Limits::new(high, low).map_err(|error| PyValueError::new_err(error.to_string()))?;
        slf.get().output.with(slf.py(), |output| output.flow.set_limits(limits));
        Self::output_grew(slf)
    }

    /// The two sizes of `set_write_buffer_limits`, in bytes: `(low, high)`.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        let limits = self.output.with(py, |output| output.flow.limits());
        (limits.low(), limits.high())
    }

    /// How many bytes wait to be written.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.buffered(py)
    }

    /// Has `protocol` told of everything from now on.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) {
        self.end.protocol.set(protocol.py(), Some(protocol.clone().unbind()));
    }

    /// The protocol; None once the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.end.protocol.get(py)
    }

    /// The `pipe`, as the object that was given; `default` for other names.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.end.extra_info(name, default)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, LoopCore> {
        self.end.core(py).clone()
    }

    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.output.with(py, |output| output.flow.is_paused())
    }

    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        // asyncio's is one of both directions, because its flow control is.
        asyncio::transport_class(slf.py()).cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let class = slf.get_type().name()?.to_string();
        let size = format!("bufsize={}", slf.get().buffered(py));
        Ok(slf.get().end.describe(py, &class, slf.get().end.source.is_watched(py, Direction::Write), Some(size)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.end.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().end.clear(slf.py());
    }
}

impl Finalize for WritePipeTransport {
    /// A transport that was not closed says so, and closes its pipe.
    fn finalize(this: &Bound<'_, Self>) {
        Self::close_unclosed(this);
    }
}

impl FinalizeFirst for WritePipeTransport {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        Self::is_open(this)
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}
