//! `run_coroutine_threadsafe`: a task of the loop, as a future of another thread.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use super::any_future::{self, AnyFuture, Ending};
use super::ensure_future::ensure_future;
use super::iscoroutine::iscoroutine;
use super::wrap_future::as_asyncio;
use crate::asyncio;
use crate::ffi::call::{call0, method0, method1};
use crate::ffi::cell::GilCell;
use crate::ffi::raise::settled;
use crate::ffi::staying::stay;
use crate::futures::Notified;

/// Has `loop`, on whatever thread it runs, run `coro` as a task; returns a concurrent.futures.Future of its result.
#[pyfunction]
#[pyo3(signature = (coro, r#loop))]
pub(crate) fn run_coroutine_threadsafe<'py>(
    coro: &Bound<'py, PyAny>,
    r#loop: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coro.py();
    if !iscoroutine(coro)? {
        return Err(PyTypeError::new_err("A coroutine object is required"));
    }
    stay();
    let result = call0(asyncio::concurrent_future_class(py)?)?;
    let inner = Inner {
        event_loop: r#loop.clone().unbind(),
        result: result.clone().unbind(),
        coroutine: Some(coro.clone().unbind()),
        task: None,
    };
    let submitted = Bound::new(py, Submitted(GilCell::new(Some(inner))))?;
    method1(r#loop, intern!(py, "call_soon_threadsafe"), submitted.as_any())?;
    Ok(result)
}

/// A coroutine on its way. The loop calls it with nothing; the future of the other thread, with itself when it is done.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Submitted(GilCell<Option<Inner>>);

struct Inner {
    event_loop: Py<PyAny>,
    /// What the other thread has.
    result: Py<PyAny>,
    coroutine: Option<Py<PyAny>>,
    task: Option<Py<PyAny>>,
}

#[pymethods]
impl Submitted {
    #[pyo3(signature = (result=None))]
    fn __call__(slf: &Bound<'_, Self>, result: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        match result {
            Some(result) => Self::result_done(slf, result),
            None => Self::begin(slf),
        }
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "run_coroutine_threadsafe.<locals>.callback"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |inner, visit| {
            let Some(inner) = inner else { return Ok(()) };
            visit.call(&inner.event_loop)?;
            visit.call(&inner.result)?;
            visit.call(&inner.coroutine)?;
            visit.call(&inner.task)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().0.take(slf.py()));
    }
}

impl Submitted {
    /// Makes the task, on the loop's thread.
    fn begin(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let parts = this.get().0.with(py, |inner| {
            inner
                .as_mut()
                .map(|inner| (inner.event_loop.clone_ref(py), inner.result.clone_ref(py), inner.coroutine.take()))
        });
        let Some((event_loop, result, Some(coroutine))) = parts else { return Ok(()) };
        let result = result.bind(py);
        let begun = ensure_future(coroutine.bind(py), Some(event_loop.bind(py))).and_then(|task| {
            let kept = task.clone().unbind();
            this.get().0.with(py, |inner| {
                if let Some(inner) = inner {
                    inner.task = Some(kept);
                }
            });
            method1(result, intern!(py, "add_done_callback"), this.as_any())?;
            AnyFuture::of(&task).notify::<TaskDone>(this, None)
        });
        let Err(error) = begun.map_err(|error| settled(py, error)) else { return Ok(()) };
        if !asyncio::leaves_the_loop(py, &error)
            && method0(result, intern!(py, "set_running_or_notify_cancel"))?.is_truthy()?
        {
            method1(result, intern!(py, "set_exception"), error.value(py).as_any())?;
        }
        Err(error)
    }

    /// If the other thread has cancelled, so does the loop.
    fn result_done(this: &Bound<'_, Self>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        if !method0(result, intern!(py, "cancelled"))?.is_truthy()? {
            return Ok(());
        }
        let parts = this.get().0.with(py, |inner| {
            let inner = inner.as_ref()?;
            Some((inner.event_loop.clone_ref(py), inner.task.as_ref()?.clone_ref(py)))
        });
        let Some((event_loop, task)) = parts else { return Ok(()) };
        let (event_loop, task) = (event_loop.bind(py), task.bind(py));
        if call0(asyncio::get_running_loop_or_none(py)?)?.is(event_loop) {
            return any_future::cancel(task, None).map(drop);
        }
        let cancel = task.getattr(intern!(py, "cancel"))?;
        method1(event_loop, intern!(py, "call_soon_threadsafe"), &cancel).map(drop)
    }
}

/// The task is done.
struct TaskDone;

impl Notified for TaskDone {
    type Class = Submitted;

    const NAME: &'static str = "_chain_future.<locals>._call_set_state";

    fn notified(this: &Bound<'_, Submitted>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let Some(inner) = this.get().0.take(py) else { return Ok(()) };
        let result = inner.result.bind(py);
        let task = AnyFuture::of(task);
        let cancelled = task.is_cancelled()?;
        if cancelled {
            method0(result, intern!(py, "cancel"))?;
        }
        if !method0(result, intern!(py, "set_running_or_notify_cancel"))?.is_truthy()? {
            return Ok(());
        }
        match task.ending()? {
            Ending::Raised(error) => method1(result, intern!(py, "set_exception"), &as_asyncio(error)?),
            Ending::Returned(value) => method1(result, intern!(py, "set_result"), &value),
            // Another callback has put the future of the other thread out of reach of a cancellation.
            Ending::Cancelled => method1(result, intern!(py, "set_exception"), &task.cancelled_error()?),
        }
        .map(drop)
    }
}
