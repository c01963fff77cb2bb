//! `SubprocessStreamProtocol`: from the process's pipes to readers.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::classes::stands_for;
use crate::ffi::call::{method0, method1};
use crate::ffi::cell::{GilCell, GilCopy};
use crate::ffi::newborn;
use crate::loop_ref::LoopRef;
use crate::streams::{Closed, FlowControlMixin, StreamReader, StreamWriter, attributes};

/// The protocol of a process whose pipes are streams.
#[pyclass(frozen, extends = FlowControlMixin, subclass, module = "ferrio")]
pub(crate) struct SubprocessStreamProtocol {
    limit: GilCell<Option<Py<PyAny>>>,
    pub(super) stdin: GilCell<Option<Py<PyAny>>>,
    pub(super) stdout: GilCell<Option<Py<PyAny>>>,
    pub(super) stderr: GilCell<Option<Py<PyAny>>>,
    transport: GilCell<Option<Py<PyAny>>>,
    process_exited: GilCopy<bool>,
    /// Which output is open, by its number in the process.
    open: GilCopy<[bool; 3]>,
    stdin_closed: Closed,
}

impl SubprocessStreamProtocol {
    fn uninitialized() -> Self {
        Self {
            limit: GilCell::default(),
            stdin: GilCell::default(),
            stdout: GilCell::default(),
            stderr: GilCell::default(),
            transport: GilCell::default(),
            process_exited: GilCopy::new(false),
            open: GilCopy::new([false; 3]),
            stdin_closed: Closed::default(),
        }
    }

    /// A protocol of this very class.
    pub(super) fn create<'py>(
        limit: Option<&Bound<'py, PyAny>>,
        loop_object: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = loop_object.py();
        let flow = FlowControlMixin::new(Some(LoopRef::new(loop_object)));
        let new = PyClassInitializer::from(flow).add_subclass(Self::uninitialized());
        let this = newborn::make(py, new)?.into_bound(py);
        drop(this.get().limit.replace(py, limit.map(|limit| limit.clone().unbind())));
        Ok(this)
    }

    /// The reader of an output, by its number.
    fn reader(&self, py: Python<'_>, fd: i32) -> Option<Py<PyAny>> {
        match fd {
            1 => self.stdout.clone_ref(py),
            2 => self.stderr.clone_ref(py),
            _ => None,
        }
    }

    fn set_open(&self, py: Python<'_>, fd: usize, is_open: bool) {
        let mut open = self.open.get(py);
        open[fd] = is_open;
        self.open.set(py, open);
    }

    /// Closes the transport when nothing will come any more.
    fn close_if_over(&self, py: Python<'_>) -> PyResult<()> {
        if self.open.get(py).contains(&true) || !self.process_exited.get(py) {
            return Ok(());
        }
        match self.transport.take(py) {
            Some(transport) => method0(transport.bind(py), intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }
}

#[pymethods]
impl SubprocessStreamProtocol {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(limit, loop)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        newborn::has_dict(args.py());
        PyClassInitializer::from(FlowControlMixin::new(None)).add_subclass(Self::uninitialized())
    }

    fn __init__(slf: &Bound<'_, Self>, limit: Bound<'_, PyAny>, r#loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        FlowControlMixin::initialize(slf.as_super(), r#loop)?;
        let (py, protocol) = (slf.py(), slf.get());
        drop(protocol.limit.replace(py, Some(limit.unbind())));
        protocol.process_exited.set(py, false);
        protocol.open.set(py, [false; 3]);
        protocol.stdin_closed.clear(py);
        drop((protocol.stdin.take(py), protocol.stdout.take(py), protocol.stderr.take(py)));
        drop(protocol.transport.take(py));
        Ok(())
    }

    /// Called by the transport when there is a process: makes a stream of each of its pipes.
    fn connection_made(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, protocol) = (slf.py(), slf.get());
        drop(protocol.transport.replace(py, Some(transport.clone().unbind())));
        let loop_ref = slf.as_super().get().loop_ref(py)?;
        let loop_object = loop_ref.bind(py);
        let pipe = |fd: i32| method1(transport, intern!(py, "get_pipe_transport"), fd.into_pyobject(py)?.as_any());
        let limit = protocol.limit.clone_ref(py);
        for (fd, place) in [(1, &protocol.stdout), (2, &protocol.stderr)] {
            let pipe = pipe(fd)?;
            if !pipe.is_none() {
                let reader = StreamReader::create(py, limit.as_ref().map(|limit| limit.bind(py)), loop_object)?;
                StreamReader::set_transport(&reader, &pipe)?;
                drop(place.replace(py, Some(reader.into_any().unbind())));
                protocol.set_open(py, fd.unsigned_abs() as usize, true);
            }
        }
        let pipe = pipe(0)?;
        if !pipe.is_none() {
            let writer = StreamWriter::create(&pipe, slf.as_any(), None, loop_object)?;
            drop(protocol.stdin.replace(py, Some(writer.into_any().unbind())));
        }
        Ok(())
    }

    /// Called by the transport with what the process has written.
    fn pipe_data_received(&self, fd: i32, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        match self.reader(py, fd) {
            Some(reader) => method1(reader.bind(py), intern!(py, "feed_data"), data).map(drop),
            None => Ok(()),
        }
    }

    /// Called by the transport when one of the pipes is closed.
    fn pipe_connection_lost(slf: &Bound<'_, Self>, fd: i32, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, protocol) = (slf.py(), slf.get());
        if fd == 0 {
            if let Some(stdin) = protocol.stdin.clone_ref(py) {
                method0(stdin.bind(py), intern!(py, "close"))?;
            }
            method1(slf.as_any(), intern!(py, "connection_lost"), exc)?;
            return protocol.stdin_closed.finish(exc);
        }
        if let Some(reader) = protocol.reader(py, fd) {
            let reader = reader.bind(py);
            match exc.is_none() {
                true => method0(reader, intern!(py, "feed_eof"))?,
                false => method1(reader, intern!(py, "set_exception"), exc)?,
            };
        }
        if let (1 | 2, Ok(fd)) = (fd, usize::try_from(fd)) {
            protocol.set_open(py, fd, false);
        }
        protocol.close_if_over(py)
    }

    /// Called by the transport when the process has ended.
    #[pyo3(name = "process_exited")]
    fn process_exited_method(&self, py: Python<'_>) -> PyResult<()> {
        self.process_exited.set(py, true);
        self.close_if_over(py)
    }

    fn _get_close_waiter<'py>(
        slf: &Bound<'py, Self>,
        stream: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, protocol) = (slf.py(), slf.get());
        let is_stdin = protocol.stdin.with(py, |stdin| stdin.as_ref().is_some_and(|stdin| stdin.is(stream)));
        is_stdin.then(|| protocol.stdin_closed.future(slf.as_super().get(), py)).transpose()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let mut text = format!("<{}", slf.get_type().name()?);
        let protocol = slf.get();
        for (name, stream) in [("stdin", &protocol.stdin), ("stdout", &protocol.stdout), ("stderr", &protocol.stderr)] {
            if let Some(stream) = stream.clone_ref(py) {
                text += &format!(" {name}={}", stream.bind(py).repr()?);
            }
        }
        Ok(text + ">")
    }

    #[getter]
    fn _process_exited(&self, py: Python<'_>) -> bool {
        self.process_exited.get(py)
    }

    #[getter]
    fn _pipe_fds<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let open = self.open.get(py);
        PyList::new(py, (0..open.len()).filter(|fd| open[*fd]))
    }

    #[getter]
    fn _stdin_closed<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().stdin_closed.future(slf.as_super().get(), slf.py())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        [&self.limit, &self.stdin, &self.stdout, &self.stderr, &self.transport]
            .into_iter()
            .try_for_each(|cell| cell.traverse(visit, |object, visit| visit.call(object)))?;
        self.stdin_closed.traverse(visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let (py, protocol) = (slf.py(), slf.get());
        drop((protocol.stdin.take(py), protocol.stdout.take(py), protocol.stderr.take(py)));
        drop((protocol.transport.take(py), protocol.limit.take(py)));
        protocol.stdin_closed.clear(py);
    }
}

attributes!(SubprocessStreamProtocol {
    /// The StreamWriter of the process's input; None unless that is a pipe.
    stdin: stdin, get_stdin, set_stdin;
    /// The StreamReader of the process's output; None unless that is a pipe.
    stdout: stdout, get_stdout, set_stdout;
    /// The StreamReader of the process's error output; None unless that is a pipe.
    stderr: stderr, get_stderr, set_stderr;
    _transport: transport, get_transport, set_transport;
    _limit: limit, get_limit, set_limit;
});
stands_for!(SubprocessStreamProtocol, subprocess_stream_protocol_class);
