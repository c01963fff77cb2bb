//! Who waits for a future by other means than a task's await: the edges of the call graph.
//!
//! A task that awaits a future of ours, and who is told by it natively, is found among the future's callbacks, which
//! costs nothing. What is recorded here is the rest.

use pyo3::exceptions::{PyAttributeError, PyImportError};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PySet};

use super::Future;

/// Records that `waiter` waits for `future`. Does nothing if one of them is no future.
pub(crate) fn add(future: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    match future.cast::<Future>() {
        Ok(future) if is_future(waiter)? => future.get().add_awaited_by(waiter),
        Ok(_) => Ok(()),
        Err(_) => standard("future_add_to_awaited_by", future, waiter),
    }
}

/// Takes back what [`add`] recorded.
pub(crate) fn discard(future: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    match future.cast::<Future>() {
        Ok(future) => future.get().discard_awaited_by(waiter),
        Err(_) => standard("future_discard_from_awaited_by", future, waiter),
    }
}

/// Whether asyncio takes `object` for a future: what says that it knows the protocol counts.
pub(crate) fn is_future(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    if object.cast::<Future>().is_ok() {
        return Ok(true);
    }
    let py = object.py();
    let blocking = pyo3::intern!(py, "_asyncio_future_blocking");
    if !object.getattr(pyo3::intern!(py, "__class__"))?.hasattr(blocking)? {
        return Ok(false);
    }
    Ok(!object.getattr(blocking)?.is_none())
}

/// Has the standard library record an edge between futures of its own; before 3.14 it records none.
fn standard(function: &str, future: &Bound<'_, PyAny>, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    // From where they cannot be replaced by ferrio's own functions. Each takes no notice of futures of the other make,
    // those in C and those in Python.
    let functions = [("_asyncio", function), ("asyncio.futures", &format!("_py_{function}"))];
    for (module, function) in functions {
        match py.import(module).and_then(|module| module.getattr(function)) {
            Ok(function) => drop(function.call1((future, waiter))?),
            Err(error) if error.is_instance_of::<PyAttributeError>(py) || error.is_instance_of::<PyImportError>(py) => {
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Future {
    /// Records that `waiter` waits for this future.
    pub(crate) fn add_awaited_by(&self, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiter.py();
        let set = match self.recorded(py) {
            Some(set) => set,
            None => {
                let set = PySet::empty(py)?.unbind();
                self.inner.with(py, |inner| inner.rare().awaited_by = Some(set.clone_ref(py)));
                set
            }
        };
        set.bind(py).add(waiter)
    }

    /// Takes back what [`add_awaited_by`](Self::add_awaited_by) recorded.
    pub(crate) fn discard_awaited_by(&self, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiter.py();
        match self.recorded(py) {
            Some(set) => set.bind(py).discard(waiter).map(drop),
            None => Ok(()),
        }
    }

    pub(super) fn recorded(&self, py: Python<'_>) -> Option<Py<PySet>> {
        self.inner.with(py, |inner| {
            inner.rare.as_ref().and_then(|rare| rare.awaited_by.as_ref().map(|set| set.clone_ref(py)))
        })
    }
}
