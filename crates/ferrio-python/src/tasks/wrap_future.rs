//! `wrap_future`: a future of another thread, as one of the loop's.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyAssertionError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use crate::asyncio;
use crate::ffi::call::{call0, method0, method1};
use crate::ffi::cell::GilCell;
use crate::futures::awaited_by::is_future;
use crate::futures::{Callback, Future, Notified, Notify};
use crate::loop_ref::LoopRef;

/// A future of `loop`, or of the current loop, that follows `future`, a concurrent.futures.Future.
///
/// To cancel the one is to cancel the other. A future of a loop is returned as it is.
#[pyfunction]
#[pyo3(name = "wrap_future", signature = (future, *, r#loop=None))]
pub(crate) fn wrap_future_function<'py>(
    future: &Bound<'py, PyAny>,
    r#loop: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match r#loop {
        Some(event_loop) => wrap_future(future, event_loop),
        None if is_future(future)? => Ok(future.clone()),
        None => {
            check(future)?;
            wrap_future(future, &asyncio::get_event_loop(future.py())?.call0()?)
        }
    }
}

/// [`wrap_future_function`], for Rust.
pub(crate) fn wrap_future<'py>(
    source: &Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = source.py();
    if is_future(source)? {
        return Ok(source.clone());
    }
    check(source)?;
    let future = Bound::new(py, Future::new(py, LoopRef::new(event_loop))?)?;
    let wrapped = (source.clone().unbind(), future.clone().unbind());
    let wrapped = Bound::new(py, Wrapped(GilCell::new(Some(wrapped))))?;
    Future::add_callback(&future, Callback::Notify(Notify::new::<FutureDone>(&wrapped, None)))?;
    method1(source, intern!(py, "add_done_callback"), wrapped.as_any())?;
    Ok(future.into_any())
}

/// # Errors
///
/// `AssertionError`, as asyncio raises it, if it is no `concurrent.futures.Future`.
fn check(source: &Bound<'_, PyAny>) -> PyResult<()> {
    if source.is_instance(asyncio::concurrent_future_class(source.py())?)? {
        return Ok(());
    }
    Err(PyAssertionError::new_err(format!("concurrent.futures.Future is expected, got {}", source.repr()?)))
}

/// The two futures. It is called by the source when that is done, with it, on any thread; then by the loop, with
/// nothing.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Wrapped(GilCell<Option<(Py<PyAny>, Py<Future>)>>);

#[pymethods]
impl Wrapped {
    #[pyo3(signature = (source=None))]
    fn __call__(slf: &Bound<'_, Self>, source: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let both = slf
            .get()
            .0
            .with(py, |both| both.as_ref().map(|(source, future)| (source.clone_ref(py), future.clone_ref(py))));
        let Some((own_source, future)) = both else { return Ok(()) };
        let future = future.bind(py);
        if source.is_none() {
            return settle(own_source.bind(py), future);
        }
        let loop_ref = Future::checked_loop(future)?;
        let event_loop = loop_ref.bind(py);
        if call0(asyncio::get_running_loop_or_none(py)?)?.is(event_loop) {
            return settle(own_source.bind(py), future);
        }
        if method0(event_loop, intern!(py, "is_closed"))?.is_truthy()? {
            return Ok(());
        }
        method1(event_loop, intern!(py, "call_soon_threadsafe"), slf.as_any()).map(drop)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "wrap_future"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |both, visit| match both {
            Some((source, future)) => {
                visit.call(source)?;
                visit.call(future)
            }
            None => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().0.take(slf.py()));
    }
}

/// The loop's future is done: if it was cancelled, so is the source.
struct FutureDone;

impl Notified for FutureDone {
    type Class = Wrapped;

    const NAME: &'static str = "_chain_future.<locals>._call_check_cancel";

    fn notified(wrapped: &Bound<'_, Wrapped>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = wrapped.py();
        let source = wrapped.get().0.take(py).map(|(source, _)| source);
        match source {
            Some(source) if super::any_future::AnyFuture::of(future).is_cancelled()? => {
                method0(source.bind(py), intern!(py, "cancel")).map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// Gives `future` the outcome of `source`, which is done.
fn settle(source: &Bound<'_, PyAny>, future: &Bound<'_, Future>) -> PyResult<()> {
    let py = future.py();
    if !future.get().is_pending(py) {
        return Ok(());
    }
    if method0(source, intern!(py, "cancelled"))?.is_truthy()? {
        return Future::cancel(future, None).map(drop);
    }
    let error = method0(source, intern!(py, "exception"))?;
    if error.is_none() {
        return Future::resolve(future, method0(source, intern!(py, "result"))?);
    }
    Future::reject(future, as_asyncio(error)?)
}

/// The exception that stands in asyncio for one of `concurrent.futures`; others stand for themselves.
pub(super) fn as_asyncio(error: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = error.py();
    let class = error.get_type();
    let class = if class.is(asyncio::concurrent_cancelled_error(py)?) {
        asyncio::cancelled_error::class(py)?
    } else if class.is(asyncio::concurrent_invalid_state_error(py)?) {
        asyncio::invalid_state_error::class(py)?
    } else {
        return Ok(error);
    };
    let arguments = error.getattr(intern!(py, "args"))?.cast_into::<pyo3::types::PyTuple>()?;
    let converted = class.call1(arguments)?;
    converted.setattr(intern!(py, "__traceback__"), error.getattr(intern!(py, "__traceback__"))?)?;
    Ok(converted)
}
