//! What Python sees of a reader.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{DEFAULT_LIMIT, StreamReader, limit_of};
use crate::classes::stands_for;
use crate::convert::Argument;
use crate::ffi::newborn;
use crate::loop_ref::LoopRef;
use crate::streams::attributes;

#[pymethods]
impl StreamReader {
    #[new]
    #[pyo3(signature = (*args, **_kwargs), text_signature = "(limit=65536, loop=None)")]
    fn __new__(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        newborn::has_dict(args.py());
        Self::uninitialized()
    }

    /// A reader that messages of up to `limit` bytes can be read from, on `loop` or the current one.
    ///
    /// Raises ValueError unless `limit` is positive.
    #[pyo3(signature = (limit=Argument::default(), r#loop=None))]
    fn __init__(slf: &Bound<'_, Self>, limit: Argument<'_>, r#loop: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::initialize(slf, limit.0.as_ref(), r#loop)
    }

    /// The exception that was set, or None.
    #[pyo3(name = "exception")]
    fn exception_method(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.exception.clone_ref(py)
    }

    /// Has reading raise `exc` from now on, also who waits.
    fn set_exception(&self, exc: Bound<'_, PyAny>) -> PyResult<()> {
        self.fail(exc)
    }

    /// Says which transport is to pause when there is too much to read.
    #[pyo3(name = "set_transport")]
    fn set_transport_method(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::set_transport(slf, transport)
    }

    #[pyo3(name = "_replace_transport")]
    fn replace_transport_method(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        self.replace_transport(transport)
    }

    /// Puts data behind what there is to read, a copy of it.
    fn feed_data(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.feed(data)
    }

    /// Says that nothing more will come.
    fn feed_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py)
    }

    /// Whether nothing is left to read, and nothing will come.
    fn at_eof(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.eof.get(py) && self.buffer.len(py)? == 0)
    }

    fn _wakeup_waiter(&self, py: Python<'_>) -> PyResult<()> {
        self.wake(py).map(drop)
    }

    fn _maybe_resume_transport(&self, py: Python<'_>) -> PyResult<()> {
        self.taken(py)
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = "<StreamReader".to_owned();
        let length = self.buffer.len(py)?;
        if length != 0 {
            text += &format!(" {length} bytes");
        }
        if self.eof.get(py) {
            text += " eof";
        }
        let limit = self.limit.get(py);
        if limit != DEFAULT_LIMIT {
            text += &format!(" limit={limit}");
        }
        let attributes = [("waiter", &self.waiter), ("exception", &self.exception), ("transport", &self.transport)];
        for (name, value) in attributes {
            if let Some(value) = value.clone_ref(py) {
                text += &format!(" {name}={}", value.bind(py).repr()?);
            }
        }
        if self.paused.get(py) {
            text += " paused";
        }
        Ok(text + ">")
    }

    #[getter(_buffer)]
    fn get_buffer<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.buffer.to_object(py)
    }

    #[setter(_buffer)]
    fn set_buffer(&self, value: Bound<'_, PyAny>) {
        self.buffer.set(value);
    }

    #[getter(_limit)]
    fn get_limit(&self, py: Python<'_>) -> usize {
        self.limit.get(py)
    }

    #[setter(_limit)]
    fn set_limit(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.limit.set(value.py(), limit_of(value)?);
        Ok(())
    }

    #[getter(_eof)]
    fn get_eof(&self, py: Python<'_>) -> bool {
        self.eof.get(py)
    }

    #[setter(_eof)]
    fn set_eof(&self, py: Python<'_>, value: bool) {
        self.eof.set(py, value);
    }

    #[getter(_paused)]
    fn get_paused(&self, py: Python<'_>) -> bool {
        self.paused.get(py)
    }

    #[setter(_paused)]
    fn set_paused(&self, py: Python<'_>, value: bool) {
        self.paused.set(py, value);
    }

    #[getter(_loop)]
    fn get_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.loop_ref.with(py, |bound| bound.as_ref().map(|bound| bound.bind(py).clone()))
    }

    #[setter(_loop)]
    fn set_loop(&self, value: &Bound<'_, PyAny>) {
        drop(self.loop_ref.replace(value.py(), Some(LoopRef::new(value))));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.loop_ref.traverse(visit, |bound, visit| bound.iter().try_for_each(|bound| bound.traverse(visit)))?;
        self.buffer.traverse(visit)?;
        [&self.waiter, &self.exception, &self.transport, &self.source_traceback]
            .into_iter()
            .try_for_each(|cell| cell.traverse(visit, |object, visit| visit.call(object)))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let (py, reader) = (slf.py(), slf.get());
        reader.buffer.clear(py);
        drop((reader.waiter.take(py), reader.exception.take(py), reader.transport.take(py)));
        drop((reader.source_traceback.take(py), reader.loop_ref.take(py)));
    }
}

attributes!(StreamReader {
    _waiter: waiter, get_waiter, set_waiter;
    _exception: exception, get_exception, put_exception;
    _transport: transport, get_transport, put_transport;
    _source_traceback: source_traceback, get_source_traceback, set_source_traceback;
});
stands_for!(StreamReader, stream_reader_class);
