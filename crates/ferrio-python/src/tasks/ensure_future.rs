//! `ensure_future`.

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use super::any_future::AnyFuture;
use super::iscoroutine::iscoroutine;
use crate::asyncio;
use crate::coroutine::{Coroutine, Frame, Next, Outcome};
use crate::ffi::call::method1;
use crate::ffi::coroutine::is_awaitable_generator;
use crate::futures::awaited_by::is_future;

/// A future for `coro_or_future`: itself if it is one, a task of `loop` or of the current loop otherwise.
///
/// Raises ValueError if it is a future of another loop than `loop`, TypeError if it cannot be awaited.
#[pyfunction]
#[pyo3(name = "ensure_future", signature = (coro_or_future, *, r#loop=None))]
pub(crate) fn ensure_future_function<'py>(
    coro_or_future: &Bound<'py, PyAny>,
    r#loop: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    ensure_future(coro_or_future, r#loop)
}

/// [`ensure_future_function`], for Rust.
pub(crate) fn ensure_future<'py>(
    object: &Bound<'py, PyAny>,
    event_loop: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let (coroutine, own) = if iscoroutine(object)? {
        (object.clone(), false)
    } else if is_future(object)? {
        if let Some(event_loop) = event_loop
            && !AnyFuture::of(object).get_loop()?.is(event_loop)
        {
            let text = "The future belongs to a different loop than the one specified as the loop argument";
            return Err(PyValueError::new_err(text));
        }
        return Ok(object.clone());
    } else if is_awaitable(object)? {
        (Coroutine::of(py, "_wrap_awaitable", WrapAwaitable(Some(object.clone().unbind())))?, true)
    } else {
        return Err(PyTypeError::new_err("An asyncio.Future, a coroutine or an awaitable is required"));
    };
    let current;
    let event_loop = match event_loop {
        Some(event_loop) => event_loop,
        None => {
            current = asyncio::get_event_loop(py)?.call0()?;
            &current
        }
    };
    match method1(event_loop, intern!(py, "create_task"), &coroutine) {
        Err(error) if error.is_instance_of::<PyRuntimeError>(py) && !own => {
            // It will never be awaited, and that is not its maker's fault.
            coroutine.call_method0(intern!(py, "close"))?;
            Err(error)
        }
        result => result,
    }
}

/// `inspect.isawaitable`, for what is no coroutine.
pub(super) fn is_awaitable(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(is_awaitable_generator(object) || object.is_instance(asyncio::awaitable_class(object.py())?)?)
}

/// Awaits an object that is no coroutine, for a task.
struct WrapAwaitable(Option<Py<PyAny>>);

impl Frame for WrapAwaitable {
    fn step<'py>(&mut self, py: Python<'py>, outcome: Outcome<'py>) -> PyResult<Next<'py>> {
        match self.0.take() {
            Some(awaitable) => outcome.map(|_| Next::Await(awaitable.into_bound(py))),
            None => outcome.map(Next::Return),
        }
    }

    fn traverse(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.0)
    }
}
