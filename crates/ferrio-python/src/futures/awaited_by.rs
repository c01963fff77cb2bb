//! Who waits for a future by other means than a task's await: the edges of the call graph.
//!
//! A task that awaits a future of ours, and who is told by it natively, is found among the future's callbacks, which
//! costs nothing. What is recorded here is the rest.

use pyo3::exceptions::{PyAttributeError, PyImportError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PySet};
use pyo3::{PyTraverseError, intern};

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
    let blocking = intern!(py, "_asyncio_future_blocking");
    if !object.getattr(intern!(py, "__class__"))?.hasattr(blocking)? {
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

/// Who was recorded. Nearly always it is one, which needs no set; asyncio does the same.
#[derive(Debug)]
pub(super) enum Awaiters {
    One(Py<PyAny>),
    Many(Py<PySet>),
}

impl Awaiters {
    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::One(one) => visit.call(one),
            Self::Many(set) => visit.call(set),
        }
    }
}

/// What recording one more, or one less, finds.
enum Found {
    /// It is done.
    Nothing,
    Another(Py<PyAny>),
    Set(Py<PySet>),
}

impl Future {
    /// Records that `waiter` waits for this future.
    pub(crate) fn add_awaited_by(&self, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiter.py();
        let found = self.inner.with(py, |inner| {
            let awaited_by = &mut inner.rare().awaited_by;
            match awaited_by {
                None => {
                    *awaited_by = Some(Awaiters::One(waiter.clone().unbind()));
                    Found::Nothing
                }
                Some(Awaiters::One(one)) if one.is(waiter) => Found::Nothing,
                Some(Awaiters::One(one)) => Found::Another(one.clone_ref(py)),
                Some(Awaiters::Many(set)) => Found::Set(set.clone_ref(py)),
            }
        });
        match found {
            Found::Nothing => Ok(()),
            Found::Set(set) => set.bind(py).add(waiter),
            Found::Another(one) => {
                let set = PySet::new(py, [one.bind(py), waiter])?.unbind();
                let previous = self.inner.with(py, |inner| inner.rare().awaited_by.replace(Awaiters::Many(set)));
                drop(previous);
                Ok(())
            }
        }
    }

    /// Takes back what [`add_awaited_by`](Self::add_awaited_by) recorded.
    pub(crate) fn discard_awaited_by(&self, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = waiter.py();
        let found = self.inner.with(py, |inner| {
            let Some(rare) = &mut inner.rare else { return Found::Nothing };
            match &mut rare.awaited_by {
                Some(Awaiters::One(one)) if one.is(waiter) => match rare.awaited_by.take() {
                    Some(Awaiters::One(one)) => Found::Another(one),
                    _ => Found::Nothing,
                },
                Some(Awaiters::Many(set)) => Found::Set(set.clone_ref(py)),
                Some(Awaiters::One(_)) | None => Found::Nothing,
            }
        });
        match found {
            Found::Nothing => Ok(()),
            Found::Set(set) => set.bind(py).discard(waiter).map(drop),
            Found::Another(one) => {
                drop(one.into_bound(py));
                Ok(())
            }
        }
    }

    /// Those that were recorded.
    pub(super) fn recorded(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let found = self.inner.with(py, |inner| match inner.rare.as_ref().and_then(|rare| rare.awaited_by.as_ref()) {
            None => Found::Nothing,
            Some(Awaiters::One(one)) => Found::Another(one.clone_ref(py)),
            Some(Awaiters::Many(set)) => Found::Set(set.clone_ref(py)),
        });
        match found {
            Found::Nothing => Vec::new(),
            Found::Another(one) => vec![one],
            Found::Set(set) => set.bind(py).iter().map(Bound::unbind).collect(),
        }
    }
}
