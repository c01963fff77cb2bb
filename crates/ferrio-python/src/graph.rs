//! Who waits for whom: the edges of the call graph.
//!
//! A task that awaits a future of ours is found among the future's callbacks. What waits in other ways (gather, groups,
//! shields) says so by the two functions here, which stand in the place of asyncio's.

use pyo3::exceptions::{PyAttributeError, PyImportError};
use pyo3::prelude::*;

use crate::futures::Future;

/// Records that `waiter` waits for `fut` (asyncio 3.14). Does nothing if one of them is no future.
#[pyfunction]
#[pyo3(signature = (fut, waiter, /))]
pub(crate) fn future_add_to_awaited_by(fut: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    match fut.cast::<Future>() {
        Ok(future) if is_future(waiter)? => future.get().add_awaited_by(waiter),
        Ok(_) => Ok(()),
        Err(_) => standard("future_add_to_awaited_by", fut, waiter),
    }
}

/// Takes back what `future_add_to_awaited_by(fut, waiter)` recorded (asyncio 3.14).
#[pyfunction]
#[pyo3(signature = (fut, waiter, /))]
pub(crate) fn future_discard_from_awaited_by(fut: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    match fut.cast::<Future>() {
        Ok(future) => future.get().discard_awaited_by(waiter),
        Err(_) => standard("future_discard_from_awaited_by", fut, waiter),
    }
}

/// What `asyncio.isfuture` knows by: duck-typed futures count.
fn is_future(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    if object.cast::<Future>().is_ok() {
        return Ok(true);
    }
    crate::asyncio::isfuture(object.py())?.call1((object,))?.is_truthy()
}

/// Has the standard library record an edge between futures of its own; before 3.14 it records none.
fn standard(function: &str, fut: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = fut.py();
    // From where it cannot be replaced by the functions above.
    let function = match py.import("_asyncio").and_then(|module| module.getattr(function)) {
        Ok(function) => function,
        Err(error) if error.is_instance_of::<PyAttributeError>(py) || error.is_instance_of::<PyImportError>(py) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    function.call1((fut, waiter)).map(drop)
}
