//! `iscoroutine`, `iscoroutinefunction` and `isfuture`.

use std::ffi::CString;

use pyo3::exceptions::PyDeprecationWarning;
use pyo3::intern;
use pyo3::prelude::*;

use crate::asyncio;
use crate::coroutine::Coroutine;
use crate::ffi::coroutine::{is_generator, is_native};
use crate::futures::awaited_by::is_future;

/// Whether `obj` is a coroutine: what an `async def` function returns, or any collections.abc.Coroutine.
#[pyfunction]
#[pyo3(name = "iscoroutine")]
pub(crate) fn iscoroutine_function(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    iscoroutine(obj)
}

/// [`iscoroutine_function`], for Rust.
#[inline]
pub(crate) fn iscoroutine(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    if is_native(object) || object.is_exact_instance_of::<Coroutine>() {
        return Ok(true);
    }
    // Coroutines written as generators are gone since Python 3.12, and programs for 3.11 may still have some.
    if object.py().version_info() < (3, 12) && is_generator(object) {
        return Ok(true);
    }
    object.is_instance(asyncio::coroutine_class(object.py())?)
}

/// Whether calling `func` returns a coroutine. Deprecated by asyncio 3.14, use inspect.iscoroutinefunction().
#[pyfunction]
pub(crate) fn iscoroutinefunction(func: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = func.py();
    let text = "'asyncio.iscoroutinefunction' is deprecated and slated for removal in Python 3.16; \
                use inspect.iscoroutinefunction() instead";
    PyErr::warn(py, &py.get_type::<PyDeprecationWarning>(), &CString::new(text)?, 1)?;
    if asyncio::module(py, "inspect")?.call_method1("iscoroutinefunction", (func,))?.is_truthy()? {
        return Ok(true);
    }
    // asyncio's own mark, for what cannot say it otherwise.
    let mark = asyncio::module(py, "asyncio.coroutines")?.getattr("_is_coroutine")?;
    Ok(func.getattr_opt(intern!(py, "_is_coroutine"))?.is_some_and(|own| own.is(&mark)))
}

/// Whether `obj` is a future: of ferrio, of asyncio, or of anything else that follows the protocol.
#[pyfunction]
pub(crate) fn isfuture(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    is_future(obj)
}
