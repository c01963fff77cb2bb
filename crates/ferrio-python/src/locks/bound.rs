//! The loop that an object belongs to.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::asyncio;
use crate::ffi::cell::GilCell;
use crate::ffi::pool;
use crate::futures::Future;
use crate::loop_ref::LoopRef;

/// The loop of the first who had to wait: nothing before that needs one, and nobody waits on another afterwards.
#[derive(Debug, Default)]
pub(crate) struct LoopBound(GilCell<Option<LoopRef>>);

impl LoopBound {
    /// A future to wait for, of the running loop. `object` is whose waiter it is.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if no loop runs, or if another one does than the one the object belongs to.
    #[inline]
    pub(crate) fn waiter<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Future>> {
        let py = object.py();
        pool::make(py, Future::new(py, self.bind(object)?)?)
    }

    /// The loop that runs, to which the object belongs from now on.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if none runs, or the object belongs to another.
    #[inline]
    pub(crate) fn bind(&self, object: &Bound<'_, PyAny>) -> PyResult<LoopRef> {
        let py = object.py();
        match self.0.with(py, |bound| bound.as_ref().map(|bound| bound.clone_ref(py))) {
            Some(LoopRef::Ours(core)) if core.get().runs_here(py) => Ok(LoopRef::Ours(core)),
            bound => self.bind_running(object, bound),
        }
    }

    #[cold]
    fn bind_running(&self, object: &Bound<'_, PyAny>, bound: Option<LoopRef>) -> PyResult<LoopRef> {
        let py = object.py();
        let running = asyncio::running_loop_or_none(py)?;
        match bound {
            Some(bound) if bound.bind(py).is(&running) => Ok(bound),
            Some(_) => Err(elsewhere(object)),
            None if running.is_none() => Err(PyRuntimeError::new_err("no running event loop")),
            None => {
                let bound = LoopRef::new(&running);
                self.set(py, Some(bound.clone_ref(py)));
                Ok(bound)
            }
        }
    }

    /// The `_loop` attribute.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.0.with(py, |bound| bound.as_ref().map(|bound| bound.bind(py).clone()))
    }

    pub(crate) fn set(&self, py: Python<'_>, bound: Option<LoopRef>) {
        drop(self.0.replace(py, bound));
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |bound, visit| bound.iter().try_for_each(|bound| bound.traverse(visit)))
    }
}

#[cold]
fn elsewhere(object: &Bound<'_, PyAny>) -> PyErr {
    match object.repr() {
        Ok(repr) => PyRuntimeError::new_err(format!("{repr} is bound to a different event loop")),
        Err(error) => error,
    }
}

/// The `_loop` attribute of a class with such a field, which programs put a loop into to test themselves.
macro_rules! loop_attribute {
    ($class:ident, $($bound:ident).+) => {
        #[pymethods]
        impl $class {
            #[getter(_loop)]
            fn get_loop_attribute<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
                self.$($bound).+.get(py)
            }

            #[setter(_loop)]
            fn set_loop_attribute(&self, py: Python<'_>, value: Option<&Bound<'_, PyAny>>) {
                self.$($bound).+.set(py, value.map(crate::loop_ref::LoopRef::new));
            }

            fn _get_loop<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                slf.get().$($bound).+.bind(slf.as_any()).map(|bound| bound.bind(slf.py()).clone())
            }
        }
    };
}

pub(crate) use loop_attribute;
