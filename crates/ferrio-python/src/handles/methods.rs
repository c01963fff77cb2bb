//! What Python sees of a `Handle`.

use ferrio::engine::Flow;
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::given::Given;
use super::handle::Handle;
use super::sharing::{self, Sharing};
use super::work::Work;
use crate::asyncio;
use crate::contexts::LazyContext;
use crate::ffi::runnable::take_leaving;

#[pymethods]
impl Handle {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(callback, args, loop, context=None)")]
    fn __new__(
        cls: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = cls.py();
        if !cls.is(py.get_type::<Self>()) {
            return Ok(Self::unmade());
        }
        Self::of(py, Given::new(args, kwargs, false)?)
    }

    /// For subclasses, whose `__new__` is given the arguments of their own `__init__`, whatever these are.
    #[pyo3(signature = (*args, **kwargs))]
    fn __init__(slf: &Bound<'_, Self>, args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        if slf.is_exact_instance_of::<Self>() {
            return Ok(());
        }
        slf.get().initialize(slf.py(), Given::new(args, kwargs, false)?)
    }

    /// Takes the callback back; it will not be called, and nothing that it holds is kept. Calling it again does
    /// nothing.
    ///
    /// On a handle of `call_soon_threadsafe`, and on another thread than the loop's, it waits for a callback that runs
    /// (asyncio 3.14), as `cancelled()` does.
    pub(crate) fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().made(slf.py())?;
        sharing::wait_until_run(slf)?;
        Self::cancel_once(slf.as_any(), slf.get()).map(drop)
    }

    /// Whether the callback was taken back.
    fn cancelled(slf: &Bound<'_, Self>) -> PyResult<bool> {
        sharing::wait_until_run(slf)?;
        Ok(slf.get().is_cancelled(slf.py()))
    }

    /// The context that the callback is called in; `None` once a handle of ferrio's own loop is cancelled (asyncio has
    /// it since 3.12).
    fn get_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.work.with(py, |work| work.as_ref().map(|work| work.context.clone_ref(py))) {
            Some(LazyContext::Known(context)) => Ok(Some(context.into_bound(py))),
            Some(LazyContext::Copy(snapshot, ())) => {
                let context = self.know_context(py, &snapshot);
                snapshot.dispose(py);
                context.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Calls the callback now, for a loop of another make.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().made(slf.py())?;
        match Self::run_seen(slf) {
            Flow::Continue => Ok(()),
            Flow::Break => take_leaving().map_or(Ok(()), Err),
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Self::describe(slf.as_any(), slf.get(), None)
    }

    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if slf.is_exact_instance_of::<Self>() {
            return match slf.get().sharing.get(py) {
                Sharing::Not => asyncio::handle_class(py).cloned(),
                _ => sharing::asyncios_class(py).cloned(),
            };
        }
        Ok(slf.get_type().into_any())
    }

    #[getter]
    pub(super) fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.work.with(py, |work| work.as_ref().map(|work| work.callback.clone_ref(py)))
    }

    #[getter]
    pub(super) fn _args<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // What a handle of another loop keeps when it is cancelled has neither. A cancelled one that describes itself
        // has.
        let is_bare = |work: &Work| self.cancelled.get(py) && work.callback.is_none(py);
        let arguments = self
            .work
            .with(py, |work| work.as_ref().filter(|work| !is_bare(work)).map(|work| work.arguments.clone_ref(py)));
        arguments.map(|arguments| arguments.to_tuple(py)).transpose()
    }

    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.get_context(py)
    }

    #[getter]
    fn _cancelled(&self, py: Python<'_>) -> bool {
        self.cancelled.get(py)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.made(py).map(|loop_ref| loop_ref.bind(py).clone())
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.source_traceback(py)
    }

    #[getter]
    pub(super) fn _repr(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.origin.with(py, |origin| origin.as_ref().and_then(|o| o.repr.as_ref().map(|repr| repr.clone_ref(py))))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(loop_ref) = self.loop_ref.get_in_traverse(&visit) {
            loop_ref.traverse(visit)?;
        }
        self.work.traverse(visit, |work, visit| match work {
            Some(work) => {
                visit.call(&work.callback)?;
                work.context.traverse(visit)?;
                work.arguments.traverse(visit)
            }
            None => Ok(()),
        })?;
        self.origin.traverse(visit, |origin, visit| match origin {
            Some(origin) => visit.call(&origin.source_traceback),
            None => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        if let Some(work) = slf.get().work.take(py) {
            work.dispose(py);
        }
        drop(slf.get().origin.take(py));
    }
}
