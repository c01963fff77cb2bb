//! `StreamWriter`: a transport, and the coroutines that wait for it.

use std::ffi::CStr;
use std::sync::OnceLock;

use pyo3::exceptions::{PyAssertionError, PyAttributeError, PyResourceWarning};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, ffi, intern};

use super::flow::Drain;
use super::{FlowControlMixin, StreamReader, StreamReaderProtocol, attributes};
use crate::asyncio;
use crate::classes::stands_for;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::async_function::AsyncFunction;
use crate::ffi::call::{method0, method1};
use crate::ffi::cell::GilCell;
use crate::ffi::finalizer::{Finalize, FinalizeFirst};
use crate::ffi::method::{CallArguments, FastMethod};
use crate::ffi::{newborn, pool};
use crate::futures::Future;
use crate::loop_ref::LoopRef;
use crate::transports::SocketTransport;

/// The writing side of a stream.
#[pyclass(frozen, subclass, dict, weakref, module = "ferrio")]
pub(crate) struct StreamWriter {
    transport: GilCell<Option<Py<PyAny>>>,
    protocol: GilCell<Option<Py<PyAny>>>,
    reader: GilCell<Option<Py<PyAny>>>,
    loop_object: GilCell<Option<Py<PyAny>>>,
    /// Made when somebody asks for it.
    complete: GilCell<Option<Py<PyAny>>>,
}

impl StreamWriter {
    fn uninitialized() -> Self {
        Self {
            transport: GilCell::default(),
            protocol: GilCell::default(),
            reader: GilCell::default(),
            loop_object: GilCell::default(),
            complete: GilCell::default(),
        }
    }

    /// A writer of this very class.
    pub(crate) fn create<'py>(
        transport: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        reader: Option<&Bound<'py, PyAny>>,
        loop_object: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = transport.py();
        let this = newborn::make(py, Self::uninitialized())?.into_bound(py);
        this.get().initialize(transport, protocol, reader, loop_object);
        Ok(this)
    }

    fn initialize(
        &self,
        transport: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        reader: Option<&Bound<'_, PyAny>>,
        loop_object: &Bound<'_, PyAny>,
    ) {
        let py = transport.py();
        drop(self.transport.replace(py, Some(transport.clone().unbind())));
        drop(self.protocol.replace(py, Some(protocol.clone().unbind())));
        drop(self.reader.replace(py, reader.map(|reader| reader.clone().unbind())));
        drop(self.loop_object.replace(py, Some(loop_object.clone().unbind())));
    }

    /// The transport.
    ///
    /// # Errors
    ///
    /// `AttributeError` if a subclass has not called `__init__`.
    #[inline]
    fn transport<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        required(py, &self.transport, "_transport")
    }

    fn is_transport_closing(&self, py: Python<'_>) -> PyResult<bool> {
        let transport = self.transport(py)?;
        match transport.cast_exact::<SocketTransport>() {
            Ok(transport) => Ok(transport.get().closes(py)),
            Err(_) => method0(&transport, intern!(py, "is_closing"))?.is_truthy(),
        }
    }

    /// What `__del__` does: warns of a writer that was not closed, and closes it.
    fn close_unclosed(this: &Bound<'_, Self>) -> PyResult<()> {
        let (py, writer) = (this.py(), this.get());
        if writer.transport.with(py, |transport| transport.is_none()) || writer.is_transport_closing(py)? {
            return Ok(());
        }
        let loop_object = required(py, &writer.loop_object, "_loop")?;
        let text = if loop_object.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            "loop is closed".to_owned()
        } else {
            this.call_method0(intern!(py, "close"))?;
            format!("unclosed {}", this.repr()?)
        };
        asyncio::warn(py)?.call1((text, py.get_type::<PyResourceWarning>())).map(drop)
    }
}

/// # Errors
///
/// `AttributeError` if there is nothing: a subclass has not called `__init__`.
#[inline]
fn required<'py>(py: Python<'py>, cell: &GilCell<Option<Py<PyAny>>>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    match cell.clone_ref(py) {
        Some(object) => Ok(object.into_bound(py)),
        None => Err(PyAttributeError::new_err(format!("'StreamWriter' object has no attribute '{name}'"))),
    }
}

/// `StreamWriter.write`.
pub(super) struct Write;

impl FastMethod for Write {
    type Class = StreamWriter;

    const NAME: &'static CStr = c"write";

    const DOC: &'static CStr = c"write($self, data)\n--\n\n\
        Sends `data`, a bytes, bytearray or memoryview, or buffers what is not taken now. Does not block.\n\n\
        To be followed by `await drain()`, which waits while too much is buffered.";

    #[inline]
    fn call<'py>(slf: &Bound<'py, StreamWriter>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let data = arguments.only("write", "data")?;
        let transport = slf.get().transport(py)?;
        match transport.cast_exact::<SocketTransport>() {
            Ok(transport) => SocketTransport::write(transport, &data)?,
            Err(_) => drop(method1(&transport, intern!(py, "write"), &data)?),
        }
        Ok(py.None().into_bound(py))
    }
}

#[pymethods]
impl StreamWriter {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(transport, protocol, reader, loop)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::uninitialized()
    }

    /// A writer to `transport`, whose protocol has flow control. drain() raises the exception of `reader`, a
    /// StreamReader or None.
    fn __init__(
        &self,
        transport: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        reader: Option<&Bound<'_, PyAny>>,
        r#loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = transport.py();
        if let Some(reader) = reader
            && !reader.is_instance_of::<StreamReader>()
            && !reader.is_instance(asyncio::stream_reader_class(py)?)?
        {
            return Err(PyAssertionError::new_err(()));
        }
        self.initialize(transport, protocol, reader, r#loop);
        Ok(())
    }

    /// The transport.
    #[getter(transport)]
    fn transport_attribute<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.transport(py)
    }

    /// Writes the chunks of an iterable, as one write() of all of them would.
    fn writelines<'py>(&self, data: &Bound<'py, PyAny>) -> PyResult<()> {
        method1(&self.transport(data.py())?, intern!(data.py(), "writelines"), data).map(drop)
    }

    /// Ends the sending side behind what is buffered. Raises NotImplementedError if the transport cannot do that.
    fn write_eof<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        method0(&self.transport(py)?, intern!(py, "write_eof"))
    }

    /// Whether the sending side can be ended alone.
    fn can_write_eof<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        method0(&self.transport(py)?, intern!(py, "can_write_eof"))
    }

    /// Closes the stream when what is buffered has been sent. To be followed by `await wait_closed()`.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        method0(&self.transport(py)?, intern!(py, "close"))
    }

    /// Whether the stream is closed or closing.
    fn is_closing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        method0(&self.transport(py)?, intern!(py, "is_closing"))
    }

    /// What the transport knows under `name`, such as "peername"; `default` if it knows nothing.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = name.py();
        self.transport(py)?.call_method1(intern!(py, "get_extra_info"), (name, default))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let writer = slf.get();
        let class = slf.as_any().getattr(intern!(py, "__class__"))?.getattr(intern!(py, "__name__"))?;
        let mut text = format!("<{class} transport={}", writer.transport(py)?.repr()?);
        if let Some(reader) = writer.reader.clone_ref(py) {
            text += &format!(" reader={}", reader.bind(py).repr()?);
        }
        Ok(text + ">")
    }

    #[getter]
    fn _complete_fut<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(future) = self.complete.clone_ref(py) {
            return Ok(future.into_bound(py));
        }
        let loop_ref = LoopRef::new(&required(py, &self.loop_object, "_loop")?);
        let future = pool::make(py, Future::new(py, loop_ref)?)?;
        Future::resolve(&future, py.None().into_bound(py))?;
        drop(self.complete.replace(py, Some(future.clone().into_any().unbind())));
        Ok(future.into_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        [&self.transport, &self.protocol, &self.reader, &self.loop_object, &self.complete]
            .into_iter()
            .try_for_each(|cell| cell.traverse(visit, |object, visit| visit.call(object)))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let (py, writer) = (slf.py(), slf.get());
        for cell in [&writer.transport, &writer.protocol, &writer.reader, &writer.loop_object, &writer.complete] {
            drop(cell.take(py));
        }
    }
}

attributes!(StreamWriter {
    _transport: transport, get_transport, set_transport;
    _protocol: protocol, get_protocol, set_protocol;
    _reader: reader, get_reader, set_reader;
    _loop: loop_object, get_loop, set_loop;
});
stands_for!(StreamWriter, stream_writer_class);

impl Finalize for StreamWriter {
    fn finalize(this: &Bound<'_, Self>) {
        if let Err(error) = Self::close_unclosed(this) {
            error.write_unraisable(this.py(), Some(this));
        }
    }
}

impl FinalizeFirst for StreamWriter {
    fn is_due(this: &Bound<'_, Self>) -> bool {
        let py = this.py();
        this.get().transport.with(py, |transport| match transport {
            Some(transport) => {
                transport.bind(py).cast_exact::<SocketTransport>().map_or(true, |transport| !transport.get().closes(py))
            }
            None => false,
        })
    }

    fn deallocator() -> &'static OnceLock<ffi::destructor> {
        static DEALLOCATOR: OnceLock<ffi::destructor> = OnceLock::new();
        &DEALLOCATOR
    }
}

/// Flow control that is ours and not overridden.
#[inline]
fn native_flow<'a, 'py>(protocol: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, FlowControlMixin>> {
    protocol.cast::<FlowControlMixin>().ok().filter(|flow| flow.get().is_plain(flow.py()))
}

/// `StreamWriter.drain`.
pub(super) struct StreamWriterDrain;

struct Draining {
    writer: Py<StreamWriter>,
    stage: Stage,
}

enum Stage {
    Begins,
    /// The transport is closing: the protocol is to hear of that first.
    Pauses,
    Drains(Drain),
    /// A protocol of somebody else's.
    DrainsForeign,
}

impl Draining {
    /// # Errors
    ///
    /// The reader's exception.
    #[inline]
    fn check(writer: &StreamWriter, py: Python<'_>) -> PyResult<()> {
        let Some(reader) = writer.reader.clone_ref(py) else { return Ok(()) };
        let reader = reader.bind(py);
        if let Ok(reader) = reader.cast::<StreamReader>()
            && reader.get().is_plain(py)
        {
            return reader.get().check(py);
        }
        let exception = method0(reader, intern!(py, "exception"))?;
        if exception.is_none() { Ok(()) } else { Err(PyErr::from_value(exception)) }
    }

    #[inline]
    fn drain<'py>(&mut self, py: Python<'py>) -> PyResult<Next<'py>> {
        let protocol = required(py, &self.writer.get().protocol, "_protocol")?;
        let Some(flow) = native_flow(&protocol) else {
            self.stage = Stage::DrainsForeign;
            return method0(&protocol, intern!(py, "_drain_helper")).map(Next::Await);
        };
        let Some(mut drain) = Drain::begin(flow)? else { return Ok(Next::Return(py.None().into_bound(py))) };
        let next = drain.step(py, Ok(py.None().into_bound(py)));
        self.stage = Stage::Drains(drain);
        next
    }
}

impl Frame for Draining {
    #[inline]
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match &mut self.stage {
            Stage::Begins => {
                let writer = self.writer.get();
                Self::check(writer, py)?;
                if writer.is_transport_closing(py)? {
                    // Who writes and drains in a loop would never leave it otherwise.
                    self.stage = Stage::Pauses;
                    return Ok(Next::Pause);
                }
                self.drain(py)
            }
            Stage::Pauses => {
                outcome?;
                self.drain(py)
            }
            Stage::Drains(drain) => drain.step(py, outcome),
            Stage::DrainsForeign => outcome.map(|_| Next::Return(py.None().into_bound(py))),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.writer)?;
        match &self.stage {
            Stage::Drains(drain) => drain.traverse(visit),
            Stage::Begins | Stage::Pauses | Stage::DrainsForeign => Ok(()),
        }
    }
}

impl AsyncFunction for StreamWriterDrain {
    const NAME: &'static str = "StreamWriter.drain";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Waits while too much is buffered; not at all, if it is not too much.\n\n\
        Raises the reader's exception, or ConnectionResetError if the connection is lost.";

    #[inline]
    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (writer, _) = arguments.method::<StreamWriter, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, Draining { writer: writer.to_owned().unbind(), stage: Stage::Begins })
    }
}

/// `StreamWriter.wait_closed`.
pub(super) struct StreamWriterWaitClosed;

/// Waits for the protocol's word that the stream is closed.
struct WaitClosed {
    writer: Option<Py<StreamWriter>>,
}

impl Frame for WaitClosed {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        outcome?;
        let Some(writer) = self.writer.take() else { return Ok(Next::Return(py.None().into_bound(py))) };
        let protocol = required(py, &writer.get().protocol, "_protocol")?;
        if let Ok(protocol) = protocol.cast_exact::<StreamReaderProtocol>() {
            return StreamReaderProtocol::closed(protocol).map(|closed| Next::Await(closed.into_any()));
        }
        method1(&protocol, intern!(py, "_get_close_waiter"), writer.bind(py).as_any()).map(Next::Await)
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.writer)
    }
}

impl AsyncFunction for StreamWriterWaitClosed {
    const NAME: &'static str = "StreamWriter.wait_closed";

    const PARAMETERS: &'static str = "(self)";

    const DOC: &'static str = "Waits until the stream is closed, after close(). Raises what has ended the connection.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (writer, _) = arguments.method::<StreamWriter, 1>(Self::NAME, ["self"])?;
        Coroutine::of(py, Self::NAME, WaitClosed { writer: Some(writer.to_owned().unbind()) })
    }
}

/// `StreamWriter.start_tls`.
pub(super) struct StreamWriterStartTls;

struct StartTls {
    writer: Py<StreamWriter>,
    sslcontext: Py<PyAny>,
    keywords: Py<PyDict>,
    stage: TlsStage,
}

enum TlsStage {
    Begins,
    Drains(Py<PyAny>),
    Handshakes(Py<PyAny>),
}

impl StartTls {
    /// Puts the new transport in the place of the old one.
    fn replace(writer: &Bound<'_, StreamWriter>, protocol: &Bound<'_, PyAny>, new: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = writer.py();
        drop(writer.get().transport.replace(py, Some(new.clone().unbind())));
        // The protocol of Python 3.11's own streams is told by another name.
        if protocol.hasattr(intern!(py, "_replace_transport"))? {
            method1(protocol, intern!(py, "_replace_transport"), new).map(drop)
        } else {
            method1(protocol, intern!(py, "_replace_writer"), writer.as_any()).map(drop)
        }
    }
}

impl Frame for StartTls {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        let outcome = outcome?;
        let writer = self.writer.bind(py);
        match &self.stage {
            TlsStage::Begins => {
                let protocol = required(py, &writer.get().protocol, "_protocol")?;
                let is_server = !protocol.getattr(intern!(py, "_client_connected_cb"))?.is_none();
                self.keywords.bind(py).set_item(intern!(py, "server_side"), is_server)?;
                let draining = method0(writer.as_any(), intern!(py, "drain"))?;
                self.stage = TlsStage::Drains(protocol.unbind());
                Ok(Next::Await(draining))
            }
            TlsStage::Drains(protocol) => {
                let protocol = protocol.clone_ref(py);
                let loop_object = required(py, &writer.get().loop_object, "_loop")?;
                let arguments = (writer.get().transport(py)?, &protocol, &self.sslcontext);
                let keywords = self.keywords.bind(py);
                let handshake = loop_object.call_method(intern!(py, "start_tls"), arguments, Some(keywords))?;
                self.stage = TlsStage::Handshakes(protocol);
                Ok(Next::Await(handshake))
            }
            TlsStage::Handshakes(protocol) => {
                Self::replace(writer, protocol.bind(py), &outcome)?;
                Ok(Next::Return(py.None().into_bound(py)))
            }
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.writer)?;
        visit.call(&self.sslcontext)?;
        visit.call(&self.keywords)?;
        match &self.stage {
            TlsStage::Begins => Ok(()),
            TlsStage::Drains(protocol) | TlsStage::Handshakes(protocol) => visit.call(protocol),
        }
    }
}

impl AsyncFunction for StreamWriterStartTls {
    const NAME: &'static str = "StreamWriter.start_tls";

    const PARAMETERS: &'static str =
        "(self, sslcontext, *, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None)";

    const DOC: &'static str = "Upgrades the stream to TLS (asyncio 3.11).\n\n\
        `server_hostname` is what the certificate of a server is to be for; the timeouts are seconds. On the side that\n\
        start_server() has accepted, the handshake is a server's.";

    fn call<'py>(py: Python<'py>, arguments: &CallArguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        const NAMES: [&str; 5] =
            ["self", "sslcontext", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout"];
        let [writer, sslcontext, rest @ ..] = arguments.bind(Self::NAME, NAMES, 2, 2)?;
        let (Some(writer), Some(sslcontext)) = (writer, sslcontext) else {
            return Err(PyAssertionError::new_err("a required argument is missing"));
        };
        let keywords = PyDict::new(py);
        for (name, value) in NAMES.into_iter().skip(2).zip(rest) {
            keywords.set_item(PyString::new(py, name), value)?;
        }
        let frame = StartTls {
            writer: writer.to_owned().cast_into::<StreamWriter>()?.unbind(),
            sslcontext: sslcontext.to_owned().unbind(),
            keywords: keywords.unbind(),
            stage: TlsStage::Begins,
        };
        Coroutine::of(py, Self::NAME, frame)
    }
}
