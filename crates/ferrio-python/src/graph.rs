//! Who waits for whom, as `asyncio.graph` tells it.

use pyo3::prelude::*;

use crate::futures::awaited_by;

/// Records that `waiter` waits for `fut` (asyncio 3.14). Does nothing if one of them is no future.
#[pyfunction]
#[pyo3(signature = (fut, waiter, /))]
pub(crate) fn future_add_to_awaited_by(fut: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    awaited_by::add(fut, waiter)
}

/// Takes back what `future_add_to_awaited_by(fut, waiter)` recorded (asyncio 3.14).
#[pyfunction]
#[pyo3(signature = (fut, waiter, /))]
pub(crate) fn future_discard_from_awaited_by(fut: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    awaited_by::discard(fut, waiter)
}
