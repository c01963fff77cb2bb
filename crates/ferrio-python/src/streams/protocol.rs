//! `StreamReaderProtocol`: from a transport to a reader.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyException;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use super::{Closed, FlowControlMixin, StreamReader, StreamWriter, attributes};
use crate::asyncio;
use crate::classes::stands_for;
use crate::ffi::call::{call2, method0, method1};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::raise::raised;
use crate::ffi::{bytes, coroutine, newborn};
use crate::loop_ref::{LoopCore, LoopRef, try_report_kept};
use crate::transports::SocketTransport;
use crate::transports::native::{NativeProtocol, Ran};

/// Hands what a transport receives to a StreamReader, and tells a server's callback of new connections.
///
/// The reader is held weakly: who gives up reader and writer gives up what will be received.
#[pyclass(frozen, extends = FlowControlMixin, subclass, module = "ferrio")]
pub(crate) struct StreamReaderProtocol {
    reader: GilCell<Option<Py<PyAny>>>,
    /// A server's reader, until its callback has it.
    strong_reader: GilCell<Option<Py<PyAny>>>,
    client_connected: GilCell<Option<Py<PyAny>>>,
    transport: GilCell<Option<Py<PyAny>>>,
    /// What the server's callback has become, if it is a coroutine.
    task: GilCell<Option<Py<PyAny>>>,
    source_traceback: GilCell<Option<Py<PyAny>>>,
    over_ssl: GilCopy<bool>,
    reject_connection: GilCopy<bool>,
    closed: Closed,
    /// Data for a reader that has to be told by its method, between the two calls of a transport.
    pending: GilCell<Option<PyResult<Py<PyBytes>>>>,
}

impl StreamReaderProtocol {
    fn uninitialized() -> Self {
        Self {
            reader: GilCell::default(),
            strong_reader: GilCell::default(),
            client_connected: GilCell::default(),
            transport: GilCell::default(),
            task: GilCell::default(),
            source_traceback: GilCell::default(),
            over_ssl: GilCopy::new(false),
            reject_connection: GilCopy::new(false),
            closed: Closed::default(),
            pending: GilCell::default(),
        }
    }

    /// A protocol of this very class.
    pub(super) fn create<'py>(
        reader: &Bound<'py, StreamReader>,
        client_connected: Option<&Bound<'py, PyAny>>,
        loop_object: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = reader.py();
        let flow = FlowControlMixin::new(Some(LoopRef::new(loop_object)));
        let new = PyClassInitializer::from(flow).add_subclass(Self::uninitialized());
        let this = newborn::make(py, new)?.into_bound(py);
        this.get().initialize(reader.as_any(), client_connected)?;
        Ok(this)
    }

    fn initialize(&self, reader: &Bound<'_, PyAny>, client_connected: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = reader.py();
        if !reader.is_none() {
            let weak = PyWeakrefReference::new(reader)?.into_any().unbind();
            drop(self.reader.replace(py, Some(weak)));
            let traceback = reader.getattr(intern!(py, "_source_traceback"))?;
            let traceback = Some(traceback).filter(|traceback| !traceback.is_none()).map(Bound::unbind);
            drop(self.source_traceback.replace(py, traceback));
        }
        let kept = client_connected.map(|_| reader.clone().unbind());
        drop(self.strong_reader.replace(py, kept));
        drop(self.client_connected.replace(py, client_connected.map(|callback| callback.clone().unbind())));
        Ok(())
    }

    /// The reader, if there still is one.
    #[inline]
    fn reader<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let weak = self.reader.clone_ref(py)?.into_bound(py);
        match weak.cast::<PyWeakrefReference>() {
            Ok(weak) => weak.upgrade(),
            Err(_) => weak.call0().ok().filter(|reader| !reader.is_none()),
        }
    }

    /// What `wait_closed` awaits.
    pub(super) fn closed<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.get().closed.future(this.as_super().get(), this.py())
    }

    /// Whether the transport encrypts.
    fn is_over_ssl(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        if transport.is_exact_instance_of::<SocketTransport>() {
            return Ok(false);
        }
        let py = transport.py();
        let context = method1(transport, intern!(py, "get_extra_info"), intern!(py, "sslcontext").as_any())?;
        Ok(!context.is_none())
    }

    /// A connection that is not wanted any more.
    #[cold]
    fn reject(this: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let text = "An open stream was garbage collected prior to establishing network connection; \
            call \"stream.close()\" explicitly.";
        let mut entries = vec![("message", PyString::new(py, text).into_any())];
        if let Some(traceback) = this.get().source_traceback.clone_ref(py) {
            entries.push(("source_traceback", traceback.into_bound(py)));
        }
        let loop_ref = this.as_super().get().loop_ref(py)?;
        try_report_kept(loop_ref.bind(py), &entries)?;
        method0(transport, intern!(py, "abort")).map(drop)
    }

    fn connected(this: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, protocol) = (this.py(), this.get());
        drop(protocol.transport.replace(py, Some(transport.clone().unbind())));
        let reader = protocol.reader(py);
        if let Some(reader) = &reader {
            match reader.cast_exact::<StreamReader>() {
                Ok(reader) => StreamReader::set_transport(reader, transport)?,
                Err(_) => drop(method1(reader, intern!(py, "set_transport"), transport)?),
            }
        }
        protocol.over_ssl.set(py, Self::is_over_ssl(transport)?);
        match protocol.client_connected.clone_ref(py) {
            Some(callback) => Self::announce(this, callback.bind(py), reader.as_ref(), transport),
            None => Ok(()),
        }
    }

    /// Tells a server's callback of the connection.
    fn announce<'py>(
        this: &Bound<'py, Self>,
        callback: &Bound<'py, PyAny>,
        reader: Option<&Bound<'py, PyAny>>,
        transport: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let (py, protocol) = (this.py(), this.get());
        let loop_ref = this.as_super().get().loop_ref(py)?;
        let loop_object = loop_ref.bind(py);
        let writer = StreamWriter::create(transport, this.as_any(), reader, loop_object)?;
        let none = py.None().into_bound(py);
        match call2(callback, reader.unwrap_or(&none), writer.as_any()) {
            Ok(result) => {
                let is_coroutine =
                    coroutine::is_native(&result) || asyncio::iscoroutine(py)?.call1((&result,))?.is_truthy()?;
                if is_coroutine {
                    let task = method1(loop_object, intern!(py, "create_task"), &result)?;
                    drop(protocol.task.replace(py, Some(task.clone().unbind())));
                    let ended = Bound::new(
                        py,
                        ClientEnded { event_loop: loop_object.clone().unbind(), transport: transport.clone().unbind() },
                    )?;
                    method1(&task, intern!(py, "add_done_callback"), ended.as_any())?;
                }
            }
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let error = raised(py, error).into_any();
                client_failed(loop_object, transport, error)?;
            }
            Err(error) => return Err(error),
        }
        drop(protocol.strong_reader.take(py));
        Ok(())
    }
}

/// Reports what a server's callback has raised, and closes its connection.
fn client_failed(event_loop: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>, error: Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let text = PyString::new(py, "Unhandled exception in client_connected_cb").into_any();
    try_report_kept(event_loop, &[("message", text), ("exception", error), ("transport", transport.clone())])?;
    method0(transport, intern!(py, "close")).map(drop)
}

/// The callback of the task that serves a client.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct ClientEnded {
    event_loop: Py<PyAny>,
    transport: Py<PyAny>,
}

#[pymethods]
impl ClientEnded {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        let transport = self.transport.bind(py);
        if task.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            return method0(transport, intern!(py, "close")).map(drop);
        }
        let exception = task.call_method0(intern!(py, "exception"))?;
        if exception.is_none() { Ok(()) } else { client_failed(self.event_loop.bind(py), transport, exception) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.transport)
    }
}

impl NativeProtocol for StreamReaderProtocol {
    fn wake_to_fetch(this: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<Option<Ran>> {
        let py = this.py();
        match this.get().reader(py).as_ref().map(|reader| reader.cast::<StreamReader>()) {
            Some(Ok(reader)) => reader.get().wake_to_fetch(core),
            _ => Ok(None),
        }
    }

    #[inline]
    fn take_in(this: &Bound<'_, Self>, data: &[u8]) {
        let (py, protocol) = (this.py(), this.get());
        let Some(reader) = protocol.reader(py) else { return };
        if let Ok(reader) = reader.cast::<StreamReader>()
            && reader.get().try_feed(py, data)
        {
            return;
        }
        let data = bytes::copy(py, data).map(Bound::unbind);
        drop(protocol.pending.replace(py, Some(data)));
    }

    #[inline]
    fn received(this: &Bound<'_, Self>) -> PyResult<Ran> {
        let (py, protocol) = (this.py(), this.get());
        let Some(reader) = protocol.reader(py) else { return Ok(Ran::Anybodys) };
        if let Some(data) = protocol.pending.take(py) {
            method1(&reader, intern!(py, "feed_data"), data?.bind(py).as_any())?;
            return Ok(Ran::Anybodys);
        }
        match reader.cast::<StreamReader>() {
            Ok(reader) => reader.get().fed(py),
            Err(_) => Ok(Ran::Anybodys),
        }
    }
}

#[pymethods]
impl StreamReaderProtocol {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(stream_reader, client_connected_cb=None, loop=None)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        newborn::has_dict(args.py());
        PyClassInitializer::from(FlowControlMixin::new(None)).add_subclass(Self::uninitialized())
    }

    /// A protocol that feeds `stream_reader`. With `client_connected_cb`, a function or coroutine function, that is
    /// called with a reader and a writer when the connection is made.
    #[pyo3(signature = (stream_reader, client_connected_cb=None, r#loop=None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        stream_reader: &Bound<'_, PyAny>,
        client_connected_cb: Option<&Bound<'_, PyAny>>,
        r#loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let protocol = slf.get();
        FlowControlMixin::initialize(slf.as_super(), r#loop)?;
        protocol.initialize(stream_reader, client_connected_cb)?;
        protocol.over_ssl.set(py, false);
        protocol.reject_connection.set(py, false);
        protocol.closed.clear(py);
        drop((protocol.transport.take(py), protocol.task.take(py)));
        Ok(())
    }

    /// Called by the transport when the connection is made.
    fn connection_made(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        if slf.get().reject_connection.get(slf.py()) {
            return Self::reject(slf, transport);
        }
        Self::connected(slf, transport)
    }

    /// Called by the transport when the connection is lost: the reader ends, or raises the exception.
    fn connection_lost(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let (py, protocol) = (slf.py(), slf.get());
        if let Some(reader) = protocol.reader(py) {
            match (reader.cast_exact::<StreamReader>(), exc.is_none()) {
                (Ok(reader), true) => reader.get().end(py)?,
                (Ok(reader), false) => reader.get().fail(exc.clone())?,
                (Err(_), true) => drop(method0(&reader, intern!(py, "feed_eof"))?),
                (Err(_), false) => drop(method1(&reader, intern!(py, "set_exception"), &exc)?),
            }
        }
        protocol.closed.finish(&exc)?;
        slf.as_super().get().lose(&exc)?;
        drop((protocol.reader.take(py), protocol.task.take(py), protocol.transport.take(py)));
        Ok(())
    }

    /// Called by the transport with what was received.
    fn data_received(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        let Some(reader) = self.reader(py) else { return Ok(()) };
        match reader.cast_exact::<StreamReader>() {
            Ok(reader) => reader.get().feed(data),
            Err(_) => method1(&reader, intern!(py, "feed_data"), data).map(drop),
        }
    }

    /// Called by the transport when nothing more will come. Returns whether the connection stays open: not if it is
    /// encrypted.
    fn eof_received(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(reader) = self.reader(py) {
            match reader.cast_exact::<StreamReader>() {
                Ok(reader) => reader.get().end(py)?,
                Err(_) => drop(method0(&reader, intern!(py, "feed_eof"))?),
            }
        }
        Ok(!self.over_ssl.get(py))
    }

    fn _get_close_waiter<'py>(slf: &Bound<'py, Self>, _stream: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::closed(slf)
    }

    fn _replace_transport(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = transport.py();
        drop(self.transport.replace(py, Some(transport.clone().unbind())));
        self.over_ssl.set(py, Self::is_over_ssl(transport)?);
        match self.reader(py) {
            Some(reader) => method1(&reader, intern!(py, "_replace_transport"), transport).map(drop),
            None => Ok(()),
        }
    }

    #[getter]
    fn _stream_reader<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.reader(py)
    }

    #[getter(_closed)]
    fn get_closed<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::closed(slf)
    }

    #[setter(_closed)]
    fn set_closed(&self, value: Bound<'_, PyAny>) {
        self.closed.set(value);
    }

    #[getter(_over_ssl)]
    fn get_over_ssl(&self, py: Python<'_>) -> bool {
        self.over_ssl.get(py)
    }

    #[setter(_over_ssl)]
    fn set_over_ssl(&self, py: Python<'_>, value: bool) {
        self.over_ssl.set(py, value);
    }

    #[getter(_reject_connection)]
    fn get_reject_connection(&self, py: Python<'_>) -> bool {
        self.reject_connection.get(py)
    }

    #[setter(_reject_connection)]
    fn set_reject_connection(&self, py: Python<'_>, value: bool) {
        self.reject_connection.set(py, value);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        [
            &self.reader,
            &self.strong_reader,
            &self.client_connected,
            &self.transport,
            &self.task,
            &self.source_traceback,
        ]
        .into_iter()
        .try_for_each(|cell| cell.traverse(visit, |object, visit| visit.call(object)))?;
        self.closed.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let (py, protocol) = (slf.py(), slf.get());
        drop((protocol.reader.take(py), protocol.strong_reader.take(py), protocol.client_connected.take(py)));
        drop((protocol.transport.take(py), protocol.task.take(py), protocol.source_traceback.take(py)));
        protocol.closed.clear(py);
    }
}

attributes!(StreamReaderProtocol {
    _stream_reader_wr: reader, get_reader_reference, set_reader_reference;
    _strong_reader: strong_reader, get_strong_reader, set_strong_reader;
    _client_connected_cb: client_connected, get_client_connected, set_client_connected;
    _transport: transport, get_transport, set_transport;
    _task: task, get_task, set_task;
    _source_traceback: source_traceback, get_source_traceback, set_source_traceback;
});
stands_for!(StreamReaderProtocol, stream_reader_protocol_class);
