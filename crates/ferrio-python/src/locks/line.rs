//! The line before a lock: who waits, and on which loop.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use super::bound::LoopBound;
use super::waiters::Waiters;
use crate::ffi::cell::GilCopy;
use crate::futures::Future;

/// Those who wait for an object, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) bound: LoopBound,
    pub(super) waiters: Waiters,
    /// Whether anybody has waited yet.
    used: GilCopy<bool>,
}

impl Line {
    /// Puts a new future of the running loop at the end. `object` is what the line stands before.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if no loop runs, or another than those before wait on.
    #[inline]
    pub(super) fn join<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Future>> {
        let waiter = self.bound.waiter(object)?;
        self.used.set(object.py(), true);
        self.waiters.push(&waiter)?;
        Ok(waiter)
    }

    /// Forgets who waits, for an object that is initialized.
    pub(super) fn reset(&self, py: Python<'_>) {
        self.waiters.clear(py);
        self.used.set(py, false);
    }

    /// The `_waiters` attribute.
    pub(super) fn deque<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.waiters.to_deque(py)
    }

    /// The `_waiters` attribute of a class that makes it for the first who waits.
    pub(super) fn deque_if_used<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.used.get(py) { self.deque(py).map(Some) } else { Ok(None) }
    }

    pub(super) fn set_deque(&self, waiters: &Bound<'_, PyAny>) -> PyResult<()> {
        self.used.set(waiters.py(), !waiters.is_none());
        self.waiters.set(waiters)
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.bound.traverse(visit)?;
        self.waiters.traverse(visit)
    }

    pub(super) fn clear(&self, py: Python<'_>) {
        self.waiters.clear(py);
        self.bound.set(py, None);
    }
}

/// The attributes `_waiters`, by a method of [`Line`], and `_loop` of a class with a field `line`.
macro_rules! line_attributes {
    ($class:ident, $deque:ident -> $result:ty) => {
        #[pymethods]
        impl $class {
            #[getter]
            fn _waiters<'py>(&self, py: Python<'py>) -> PyResult<$result> {
                self.line.$deque(py)
            }

            #[setter(_waiters)]
            fn set_waiters(&self, waiters: &Bound<'_, PyAny>) -> PyResult<()> {
                self.line.set_deque(waiters)
            }
        }

        crate::locks::bound::loop_attribute!($class, line.bound);
    };
}

pub(super) use line_attributes;
