//! `StreamReader`.
//!
//! | file | topic |
//! |---|---|
//! | this one | the state: what is fed to a reader, who waits for it, and when the transport pauses |
//! | [`buffer`] | what was received and not given out |
//! | [`read`] | `read` and `readexactly` |
//! | [`until`] | `readuntil`, `readline`, `async for` |
//! | [`methods`] | what Python sees |

mod buffer;
mod methods;
mod read;
mod until;

use ferrio::net::socket;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyAssertionError, PyNotImplementedError, PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use self::buffer::Buffer;
use super::DEFAULT_LIMIT;
use super::flow::{bound_loop, loop_or_current};
use crate::asyncio;
use crate::classes;
use crate::coroutine::{Next, Outcome};
use crate::ffi::async_function::install;
use crate::ffi::call::method0;
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::newborn;
use crate::ffi::pool;
use crate::futures::Future;
use crate::loop_ref::{LoopCore, LoopRef};
use crate::sslproto::TlsTransport;
use crate::transports::native::Ran;
use crate::transports::{Fetched, SocketTransport};

/// What a stream has received, for coroutines to read: messages of up to `limit` bytes.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct StreamReader {
    loop_ref: GilCell<Option<LoopRef>>,
    /// In bytes. A message may be so long, and twice as much is buffered before the transport has to pause.
    limit: GilCopy<usize>,
    buffer: Buffer,
    /// Whether no method of it is overridden.
    plain: GilCopy<bool>,
    /// Nothing more will come.
    eof: GilCopy<bool>,
    /// The transport was asked to pause.
    paused: GilCopy<bool>,
    /// What the coroutine that waits for more awaits: a future of ours, unless Python has put another one here.
    waiter: GilCell<Option<Py<PyAny>>>,
    /// How many bytes the `read` that waits wants at most, or the `readexactly` still wants, if these are many; 0 if
    /// something else waits, or nothing.
    wanted: GilCopy<usize>,
    /// Who waits was woken to fetch by itself what the transport has.
    fetches: GilCopy<bool>,
    exception: GilCell<Option<Py<PyAny>>>,
    transport: GilCell<Option<Py<PyAny>>>,
    source_traceback: GilCell<Option<Py<PyAny>>>,
}

/// Who waits for so many bytes fetches them by itself when there is much. Who waits for less would come too often.
const FETCHED: usize = 32 * 1024;

/// What a reader calls through Python if a subclass has another version of it.
const OVERRIDABLE: [&str; 8] =
    ["feed_data", "feed_eof", "set_exception", "exception", "read", "readline", "readuntil", "_wait_for_data"];

/// Adds the class to the module.
pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    classes::add::<StreamReader>(module)?;
    let class = &module.py().get_type::<StreamReader>();
    install::<read::StreamReaderRead>(class)?;
    install::<read::StreamReaderReadExactly>(class)?;
    install::<read::StreamReaderWaitForData>(class)?;
    install::<until::StreamReaderReadUntil>(class)?;
    install::<until::StreamReaderReadLine>(class)?;
    install::<until::StreamReaderNext>(class)
}

impl StreamReader {
    fn uninitialized() -> Self {
        Self {
            loop_ref: GilCell::default(),
            limit: GilCopy::new(DEFAULT_LIMIT),
            buffer: Buffer::default(),
            plain: GilCopy::new(false),
            eof: GilCopy::new(false),
            paused: GilCopy::new(false),
            waiter: GilCell::default(),
            wanted: GilCopy::new(0),
            fetches: GilCopy::new(false),
            exception: GilCell::default(),
            transport: GilCell::default(),
            source_traceback: GilCell::default(),
        }
    }

    /// A reader of this very class.
    pub(crate) fn create<'py>(
        py: Python<'py>,
        limit: Option<&Bound<'py, PyAny>>,
        loop_object: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let this = newborn::make(py, Self::uninitialized())?.into_bound(py);
        Self::initialize(&this, limit, Some(loop_object))?;
        Ok(this)
    }

    fn initialize(
        this: &Bound<'_, Self>,
        limit: Option<&Bound<'_, PyAny>>,
        loop_object: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (py, reader) = (this.py(), this.get());
        reader.limit.set(py, limit.map_or(Ok(DEFAULT_LIMIT), limit_of)?);
        let loop_ref = loop_or_current(py, loop_object)?;
        if loop_ref.debug(py)? {
            let stack = asyncio::stack_here(py)?;
            drop(reader.source_traceback.replace(py, Some(stack)));
        }
        drop(reader.loop_ref.replace(py, Some(loop_ref)));
        reader.buffer.clear(py);
        reader.eof.set(py, false);
        reader.paused.set(py, false);
        drop((reader.waiter.take(py), reader.exception.take(py), reader.transport.take(py)));
        reader.plain.set(py, this.is_exact_instance_of::<Self>() || inherits_all(&this.get_type())?);
        Ok(())
    }

    /// Whether none of its methods is overridden.
    #[inline]
    pub(super) fn is_plain(&self, py: Python<'_>) -> bool {
        self.plain.get(py)
    }

    pub(crate) fn set_transport(this: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, reader) = (this.py(), this.get());
        if reader.transport.with(py, |transport| transport.is_some()) {
            return Err(PyAssertionError::new_err("Transport already set"));
        }
        drop(reader.transport.replace(py, Some(transport.clone().unbind())));
        Ok(())
    }

    fn replace_transport(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = transport.py();
        if self.transport.with(py, |transport| transport.is_none()) {
            return Err(PyAssertionError::new_err("Transport not set"));
        }
        drop(self.transport.replace(py, Some(transport.clone().unbind())));
        Ok(())
    }

    /// Puts what was received into the buffer if that runs no Python code; [`fed`](Self::fed) is to be called next.
    #[inline]
    #[must_use]
    pub(super) fn try_feed(&self, py: Python<'_>, data: &[u8]) -> bool {
        !self.eof.get(py) && self.is_plain(py) && self.buffer.try_push(py, data, self.wanted.get(py))
    }

    /// Wakes a `read` that waits on the loop of `core` for many bytes, to fetch them by itself; `None` if there is
    /// none.
    pub(super) fn wake_to_fetch(&self, core: &Bound<'_, LoopCore>) -> PyResult<Option<Ran>> {
        let py = core.py();
        if self.wanted.get(py) < FETCHED || self.eof.get(py) || !self.is_plain(py) {
            return Ok(None);
        }
        let can_fetch = if self.buffer.is_expecting(py) {
            self.transport.with(py, |transport| {
                transport.as_ref().is_some_and(|transport| transport.bind(py).is_exact_instance_of::<SocketTransport>())
            })
        } else {
            self.buffer.len(py)? == 0
        };
        if !can_fetch {
            return Ok(None);
        }
        let is_here = self.waiter.with(py, |waiter| {
            let future = Future::native(waiter.as_ref()?.bind(py))?.get();
            let is_core = future.loop_ref(py)?.ours().is_some_and(|ours| std::ptr::eq(ours, core.get()));
            Some(is_core && future.is_pending(py))
        });
        if is_here != Some(true) {
            return Ok(None);
        }
        self.fetches.set(py, true);
        self.wake(py).map(Some)
    }

    /// Fetches what the transport has, if it is one of ours, and keeps what is more than `count` bytes; `None` if there
    /// is nothing to be had so.
    fn fetch<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some(transport) = self.transport.clone_ref(py) else { return Ok(None) };
        let transport = transport.bind(py);
        let fetched = if let Ok(socket) = transport.cast_exact::<SocketTransport>() {
            SocketTransport::fetch(socket, count)?
        } else if let Ok(tls) = transport.cast_exact::<TlsTransport>() {
            TlsTransport::fetch(tls, count)?
        } else {
            None
        };
        let Some(Fetched { data, rest }) = fetched else { return Ok(None) };
        if let Some(rest) = rest {
            self.buffer.push(rest.as_any(), usize::MAX)?;
            self.pause_if_full(py)?;
        }
        Ok(Some(data))
    }

    /// Fetches what is expected, if the transport is a socket's of ours.
    fn fetch_expected(&self, py: Python<'_>) -> PyResult<()> {
        let Some(transport) = self.transport.clone_ref(py) else { return Ok(()) };
        let Ok(transport) = transport.bind(py).cast_exact::<SocketTransport>() else { return Ok(()) };
        SocketTransport::fetch_into(transport, |fd| {
            self.buffer.receive_expected(py, |room| socket::recv_uninit(fd, room))
        })
    }

    /// What follows when the buffer has got more: who waits goes on, and the transport pauses if it is too much.
    #[inline]
    pub(super) fn fed(&self, py: Python<'_>) -> PyResult<Ran> {
        let ran = self.wake(py)?;
        Ok(if self.pause_if_full(py)? { Ran::Anybodys } else { ran })
    }

    /// Has the transport pause, unless it does, if there is too much. Whether it was asked to.
    #[inline]
    fn pause_if_full(&self, py: Python<'_>) -> PyResult<bool> {
        if self.paused.get(py) || self.buffer.len(py)? <= self.limit.get(py).saturating_mul(2) {
            return Ok(false);
        }
        self.pause(py).map(|()| true)
    }

    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        let Some(transport) = self.transport.clone_ref(py) else { return Ok(()) };
        match method0(transport.bind(py), intern!(py, "pause_reading")) {
            Ok(_) => self.paused.set(py, true),
            // It cannot pause. All data has to be buffered, and it is not asked again.
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => drop(self.transport.take(py)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// `feed_data`.
    pub(super) fn feed(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        if self.eof.get(py) {
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        if !data.is_truthy()? {
            return Ok(());
        }
        self.buffer.push(data, self.wanted.get(py))?;
        self.fed(py).map(drop)
    }

    /// `feed_eof`.
    pub(super) fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.eof.set(py, true);
        self.wake(py).map(drop)
    }

    /// `set_exception`.
    pub(super) fn fail(&self, exception: Bound<'_, PyAny>) -> PyResult<()> {
        let py = exception.py();
        drop(self.exception.replace(py, Some(exception.clone().unbind()).filter(|_| !exception.is_none())));
        let Some(waiter) = self.waiter.take(py) else { return Ok(()) };
        let waiter = waiter.bind(py);
        if let Some(future) = Future::native(waiter) {
            return if future.get().is_pending(py) { Future::reject(future, exception) } else { Ok(()) };
        }
        if waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            return Ok(());
        }
        waiter.call_method1(intern!(py, "set_exception"), (exception,)).map(drop)
    }

    /// Who waits goes on.
    #[inline]
    fn wake(&self, py: Python<'_>) -> PyResult<Ran> {
        let Some(waiter) = self.waiter.take(py) else { return Ok(Ran::Ours) };
        let waiter = waiter.bind(py);
        let Some(future) = Future::native(waiter) else { return Self::wake_foreign(waiter).map(|()| Ran::Anybodys) };
        if future.get().is_pending(py) {
            Future::resolve(future, py.None().into_bound(py))?;
        }
        // A loop that is not ours has been called.
        let is_ours = future.get().loop_ref(py).is_some_and(|loop_ref| loop_ref.ours().is_some());
        Ok(if is_ours { Ran::Ours } else { Ran::Anybodys })
    }

    #[cold]
    fn wake_foreign(waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiter.py();
        if waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            return Ok(());
        }
        waiter.call_method1(intern!(py, "set_result"), (py.None(),)).map(drop)
    }

    /// The exception that reading raises, if one was set.
    #[inline]
    pub(super) fn check(&self, py: Python<'_>) -> PyResult<()> {
        match self.exception.clone_ref(py) {
            Some(exception) => Err(PyErr::from_value(exception.into_bound(py))),
            None => Ok(()),
        }
    }

    /// To be called when bytes were given out: the transport goes on once there is no more than the limit.
    #[inline]
    fn taken(&self, py: Python<'_>) -> PyResult<()> {
        if self.paused.get(py) && self.buffer.len(py)? <= self.limit.get(py) { self.resume(py) } else { Ok(()) }
    }

    #[cold]
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.paused.set(py, false);
        match self.transport.clone_ref(py) {
            Some(transport) => method0(transport.bind(py), intern!(py, "resume_reading")).map(drop),
            None => Ok(()),
        }
    }
}

/// How a frame waits for more, and comes back from that.
#[derive(Default)]
struct Waiting(Option<Py<Future>>);

impl Waiting {
    /// Waits for `reader` to get more, on behalf of its method `name`.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if another coroutine waits already; the reader's exception if it has one, as nothing will come
    /// then.
    #[inline]
    fn begin<'py>(&mut self, reader: &Bound<'py, StreamReader>, name: &str) -> PyResult<Next<'py>> {
        let py = reader.py();
        if !reader.get().is_plain(py) {
            return reader.call_method1(intern!(py, "_wait_for_data"), (name,)).map(Next::Await);
        }
        self.begin_natively(reader, name)
    }

    #[inline]
    fn begin_natively<'py>(&mut self, this: &Bound<'py, StreamReader>, name: &str) -> PyResult<Next<'py>> {
        let (py, reader) = (this.py(), this.get());
        if reader.waiter.with(py, |waiter| waiter.is_some()) {
            let text = format!("{name}() called while another coroutine is already waiting for incoming data");
            return Err(PyRuntimeError::new_err(text));
        }
        if reader.eof.get(py) {
            return Err(PyAssertionError::new_err("_wait_for_data after EOF"));
        }
        reader.check(py)?;
        // What is waited for could never come.
        if reader.paused.get(py) {
            reader.resume(py)?;
        }
        let waiter = pool::make(py, Future::new(py, bound_loop(py, &reader.loop_ref)?)?)?;
        drop(reader.waiter.replace(py, Some(waiter.clone().into_any().unbind())));
        self.0 = Some(waiter.clone().unbind());
        Ok(Next::Await(waiter.into_any()))
    }

    /// Comes back. Another coroutine can have begun to wait since this one was woken: its waiter stays.
    ///
    /// # Errors
    ///
    /// What waiting has raised.
    #[inline]
    fn end(&mut self, py: Python<'_>, reader: &StreamReader, outcome: Outcome<'_>) -> PyResult<()> {
        reader.wanted.set(py, 0);
        if let Some(own) = self.0.take() {
            let kept = reader.waiter.with(py, |waiter| waiter.take_if(|waiter| waiter.is(&own)));
            drop((kept.map(|waiter| waiter.into_bound(py)), own.into_bound(py)));
        }
        outcome.map(drop)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// The limit as a number of bytes; what is no whole number is exceeded by the next one.
fn limit_of(limit: &Bound<'_, PyAny>) -> PyResult<usize> {
    if limit.le(0)? {
        return Err(PyValueError::new_err("Limit cannot be <= 0"));
    }
    match limit.extract::<usize>() {
        Ok(limit) => Ok(limit),
        Err(_) => limit.extract::<f64>().map(|limit| limit as usize),
    }
}

/// Whether a subclass has none of the methods that matter of its own.
fn inherits_all(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let base = class.py().get_type::<StreamReader>();
    for name in OVERRIDABLE {
        if !class.getattr(name)?.is(&base.getattr(name)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The object of a method whose other parameters are optional.
#[inline]
fn this<'py>(argument: Option<Borrowed<'_, 'py, PyAny>>) -> PyResult<Bound<'py, StreamReader>> {
    match argument {
        Some(argument) => Ok(argument.to_owned().cast_into::<StreamReader>()?),
        None => Err(PyAssertionError::new_err("a method without its object")),
    }
}
