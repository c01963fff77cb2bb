//! From a pipe to the protocol.
//!
//! A turn that finds input makes one `read`, into memory that is sized to what came before, and one call of the
//! protocol.

use std::sync::OnceLock;

use ferrio::engine::{Direction, Flow};
use ferrio::net::{Transfer, pipe};
use ferrio::stream::{ReadSize, Room, SCRATCH};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, ffi, intern};

use super::NewPipe;
use super::end::{self, End, PipeTransport};
use crate::asyncio;
use crate::ffi::buffer::with_bytes_mut;
use crate::ffi::bytes;
use crate::ffi::call::call1;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::ffi::newborn;
use crate::ffi::runnable::{Job, runnable};
use crate::loop_ref::LoopCore;
use crate::os_error::os_error;
use crate::transports::native::Native;
use crate::transports::protocol::Receiver;
use crate::transports::transport::DescriptorTransport;

/// Where small chunks are read, all pipes' in turn. Nothing is in it between two calls.
static SHARED: GilCell<[u8; SCRATCH]> = GilCell::new([0; SCRATCH]);

/// The reading end of a pipe, as `asyncio.ReadTransport`.
#[pyclass(frozen, dict, weakref, module = "ferrio")]
pub(crate) struct ReadPipeTransport {
    end: End,
    read_size: GilCopy<ReadSize>,
}

/// A transport that has input, an end of file or an error to read.
struct ReadReady;

impl Job for ReadReady {
    type Class = ReadPipeTransport;

    fn run(this: &Bound<'_, ReadPipeTransport>) -> Flow {
        end::run(this, || ReadPipeTransport::read_ready(this))
    }
}

/// A transport whose other end is closed: `eof_received`.
struct EndOfInput;

impl Job for EndOfInput {
    type Class = ReadPipeTransport;

    fn run(this: &Bound<'_, ReadPipeTransport>) -> Flow {
        // There is no other direction that could be kept open, so the answer does not matter.
        end::run(this, || this.get().end.protocol.call0(intern!(this.py(), "eof_received")).map(drop))
    }
}

impl PipeTransport for ReadPipeTransport {
    #[inline]
    fn end<'a>(this: &'a Bound<'_, Self>) -> &'a End {
        &this.get().end
    }

    fn start(this: &Bound<'_, Self>) -> PyResult<()> {
        let flags = this.get().end.flags.get(this.py());
        if flags.paused { Ok(()) } else { this.get().end.watch::<ReadReady>(Direction::Read, this) }
    }
}

impl DescriptorTransport for ReadPipeTransport {
    fn is_open(this: &Bound<'_, Self>) -> bool {
        !this.get().end.flags.get(this.py()).closed
    }

    fn give_up(this: &Bound<'_, Self>) -> PyResult<()> {
        this.get().end.give_up(this.py())
    }

    fn force_close(this: &Bound<'_, Self>, failure: Option<Py<PyAny>>) -> PyResult<()> {
        end::lose(this, failure)
    }

    /// How a terminal ends.
    fn is_commonplace(py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance_of::<PyOSError>(py)
            && error.value(py).getattr(intern!(py, "errno")).is_ok_and(|number| number.eq(libc::EIO).unwrap_or(false))
    }
}

impl ReadPipeTransport {
    /// Makes a transport, and queues its beginning.
    ///
    /// # Errors
    ///
    /// As for a pipe of any kind: `ValueError` for what is no pipe.
    pub(crate) fn create<'py>(new: NewPipe<'py>) -> PyResult<Bound<'py, Self>> {
        let py = new.core.py();
        let (end, _) = End::new(new, "Pipe transport is for pipes/sockets only.")?;
        let this = newborn::make(py, Self { end, read_size: GilCopy::default() })?.into_bound(py);
        end::open(&this)?;
        Ok(this)
    }

    fn read_ready(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let end = &this.get().end;
        let flags = end.flags.get(py);
        // What became ready may have been given up by what ran since.
        if flags.closing {
            return Ok(());
        }
        if flags.paused {
            // Only now: a pause is mostly over before there is more, and then it has cost no system call.
            end.unwatch(py, Direction::Read);
            return Ok(());
        }
        // What the protocol raises goes to the exception handler, and as with asyncio the connection goes on.
        match end.protocol.receiver(py)? {
            Some(Receiver::Data(data_received)) => match this.get().receive(py) {
                Ok(Some(data)) if data.as_bytes().is_empty() => Self::end_of_input(this),
                Ok(Some(data)) => call1(data_received.bind(py), data.as_any()).map(drop),
                Ok(None) => Ok(()),
                Err(error) => Self::fatal_error(this, error, READ_FAILED),
            },
            Some(Receiver::Native(native)) => Self::read_natively(this, &native),
            Some(Receiver::Buffered { get_buffer, buffer_updated }) => {
                Self::read_into_buffer(this, get_buffer.bind(py), buffer_updated.bind(py))
            }
            None => Ok(()),
        }
    }

    fn read_natively(this: &Bound<'_, Self>, protocol: &Native) -> PyResult<()> {
        let py = this.py();
        let received = SHARED.with(py, |shared| {
            let received = pipe::receive(this.get().end.source.fd(), shared);
            if let Ok(Transfer::Done(count @ 1..)) = received {
                protocol.take_in(py, &shared[..count]);
            }
            received
        });
        match received {
            Ok(Transfer::Done(0)) => Self::end_of_input(this),
            Ok(Transfer::Done(_)) => protocol.received(py).map(drop),
            Ok(Transfer::WouldBlock) => Ok(()),
            Err(error) => Self::fatal_error(this, os_error(py, &error), READ_FAILED),
        }
    }

    /// One `read`; `None` if it would block.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut read_size = self.read_size.get(py);
        let fd = self.end.source.fd();
        let received = match read_size.next() {
            Room::Scratch => SHARED.with(py, |shared| match pipe::receive(fd, shared) {
                Ok(Transfer::Done(count)) => bytes::copy(py, &shared[..count]).map(|data| Ok(Some(data))),
                Ok(Transfer::WouldBlock) => Ok(Ok(None)),
                Err(error) => Ok(Err(error)),
            }),
            Room::Own(room) => bytes::receive(py, room, |buffer| pipe::receive_uninit(fd, buffer)),
        };
        let received = received?.map_err(|error| os_error(py, &error))?;
        if let Some(data) = &received {
            read_size.record(data.as_bytes().len());
            self.read_size.set(py, read_size);
        }
        Ok(received)
    }

    /// asyncio has no buffered protocols for pipes; a transport that reads into a caller's memory can serve one all the
    /// same.
    fn read_into_buffer<'py>(
        this: &Bound<'py, Self>,
        get_buffer: &Bound<'py, PyAny>,
        buffer_updated: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let py = this.py();
        let end = &this.get().end;
        let unknown_size = (-1i32).into_pyobject(py)?;
        let buffer = call1(get_buffer, unknown_size.as_any())?;
        if buffer.len()? == 0 {
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        // The protocol has had its say in between.
        if end.flags.get(py).closing {
            return Ok(());
        }
        match with_bytes_mut(&buffer, |bytes| pipe::receive(end.source.fd(), bytes))? {
            Ok(Transfer::Done(0)) => Self::end_of_input(this),
            Ok(Transfer::Done(count)) => call1(buffer_updated, count.into_pyobject(py)?.as_any()).map(drop),
            Ok(Transfer::WouldBlock) => Ok(()),
            Err(error) => Self::fatal_error(this, os_error(py, &error), READ_FAILED),
        }
    }

    fn end_of_input(this: &Bound<'_, Self>) -> PyResult<()> {
        end::log_debug(this, "info", "%r was closed by peer", None);
        this.get().end.core(this.py()).get().push(this.py(), runnable::<EndOfInput>(this.clone().unbind()));
        end::lose(this, None)
    }
}

const READ_FAILED: &str = "Fatal read error on pipe transport";

#[pymethods]
impl ReadPipeTransport {
    /// Closes the pipe. The protocol's `connection_lost(None)` is called in a later turn.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        end::lose(slf, None)
    }

    /// Whether the transport is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.end.flags.get(py).closing
    }

    /// Whether data is received.
    fn is_reading(&self, py: Python<'_>) -> bool {
        let flags = self.end.flags.get(py);
        !flags.closing && !flags.paused
    }

    /// Stops reading: `data_received` is not called until `resume_reading()`. Does nothing if it is paused or closing.
    fn pause_reading(slf: &Bound<'_, Self>) {
        let py = slf.py();
        if slf.get().is_reading(py) {
            slf.get().end.change(py, |flags| flags.paused = true);
            end::log_debug(slf, "debug", "%r pauses reading", None);
        }
    }

    /// Reads again. Does nothing if it is not paused, or closing.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let end = &slf.get().end;
        let flags = end.flags.get(py);
        if flags.closing || !flags.paused {
            return Ok(());
        }
        end.change(py, |flags| flags.paused = false);
        // Before it has begun, the beginning will see to it.
        if flags.begun {
            Self::start(slf)?;
        }
        end::log_debug(slf, "debug", "%r resumes reading", None);
        Ok(())
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
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        asyncio::read_transport_class(slf.py()).cloned()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let flags = slf.get().end.flags.get(py);
        let class = slf.get_type().name()?.to_string();
        Ok(slf.get().end.describe(
            py,
            &class,
            !flags.paused && slf.get().end.source.is_watched(py, Direction::Read),
            None,
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.end.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().end.clear(slf.py());
    }
}

impl Finalize for ReadPipeTransport {
    /// A transport that was not closed says so, and closes its pipe.
    fn finalize(this: &Bound<'_, Self>) {
        Self::close_unclosed(this);
    }
}

impl FinalizeFirst for ReadPipeTransport {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        Self::is_open(this)
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}
