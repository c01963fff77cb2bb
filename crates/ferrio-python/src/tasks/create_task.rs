//! `create_task`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::asyncio;
use crate::ffi::call::{call0, method1};

/// A task of the running loop that runs `coro`; the keyword arguments are the loop's: `name`, `context` (asyncio 3.11),
/// `eager_start` (3.14).
#[pyfunction]
#[pyo3(signature = (coro, **kwargs))]
pub(crate) fn create_task<'py>(
    coro: &Bound<'py, PyAny>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coro.py();
    let event_loop = call0(asyncio::get_running_loop(py)?)?;
    let name = intern!(py, "create_task");
    match kwargs {
        None => method1(&event_loop, name, coro),
        Some(kwargs) => event_loop.call_method(name, (coro,), Some(kwargs)),
    }
}
