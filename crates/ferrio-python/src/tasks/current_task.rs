//! `current_task` and `all_tasks`.
//!
//! Both are the interpreter's to say: tasks of ours and of any other make are entered in the same places.

use pyo3::prelude::*;

use super::any_future;
use crate::asyncio;

/// The task that `loop`, or the running loop, runs now; None if it runs a callback.
#[pyfunction]
#[pyo3(signature = (r#loop=None))]
pub(crate) fn current_task<'py>(
    py: Python<'py>,
    r#loop: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match r#loop {
        Some(event_loop) => any_future::current_task(event_loop),
        None => any_future::current_task(&asyncio::running_loop(py)?),
    }
}

/// The set of tasks of `loop`, or of the running loop, that are not done.
#[pyfunction]
#[pyo3(signature = (r#loop=None))]
pub(crate) fn all_tasks<'py>(py: Python<'py>, r#loop: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    match r#loop {
        Some(event_loop) => asyncio::all_tasks(py)?.call1((event_loop,)),
        None => asyncio::all_tasks(py)?.call1((asyncio::running_loop(py)?,)),
    }
}
