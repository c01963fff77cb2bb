//! What `wait_closed` awaits.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;

use super::FlowControlMixin;
use crate::ffi::call::{method0, method1};
use crate::ffi::cell::GilCell;
use crate::futures::Future;

/// A future that is done when a connection has ended, made when somebody asks for it.
///
/// Nobody has to: an exception that has ended the connection is no news, and not reported as never retrieved.
#[derive(Default)]
pub(crate) struct Closed {
    future: GilCell<Option<Py<PyAny>>>,
    ending: GilCell<Ending>,
}

/// How the connection ended.
#[derive(Default)]
enum Ending {
    #[default]
    NotYet,
    Closed,
    Failed(Py<PyAny>),
}

impl Closed {
    /// The future, on the loop of `flow`, whose connection it is.
    pub(crate) fn future<'py>(&self, flow: &FlowControlMixin, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(future) = self.future.clone_ref(py) {
            return Ok(future.into_bound(py));
        }
        let future = flow.future(py)?;
        let ending = self.ending.with(py, |ending| match ending {
            Ending::NotYet => None,
            Ending::Closed => Some(py.None()),
            Ending::Failed(exc) => Some(exc.clone_ref(py)),
        });
        if let Some(exc) = ending {
            end(&future, exc.bind(py))?;
        }
        let future = future.into_any();
        drop(self.future.replace(py, Some(future.clone().unbind())));
        Ok(future)
    }

    /// Ends the future: with a result if `exc` is None.
    pub(crate) fn finish(&self, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = exc.py();
        let ending = if exc.is_none() { Ending::Closed } else { Ending::Failed(exc.clone().unbind()) };
        drop(self.ending.replace(py, ending));
        let Some(future) = self.future.clone_ref(py) else { return Ok(()) };
        let future = future.bind(py);
        if let Some(future) = Future::native(future) {
            return if future.get().is_pending(py) { end(future, exc) } else { Ok(()) };
        }
        if method0(future, intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        let method = if exc.is_none() { intern!(py, "set_result") } else { intern!(py, "set_exception") };
        method1(future, method, exc).map(drop)
    }

    /// Puts a future of Python's in the place.
    pub(crate) fn set(&self, future: Bound<'_, PyAny>) {
        let py = future.py();
        drop(self.future.replace(py, Some(future.unbind())));
    }

    pub(crate) fn clear(&self, py: Python<'_>) {
        drop((self.future.take(py), self.ending.take(py)));
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.future.traverse(visit, |future, visit| visit.call(future))?;
        self.ending.traverse(visit, |ending, visit| match ending {
            Ending::Failed(exc) => visit.call(exc),
            Ending::NotYet | Ending::Closed => Ok(()),
        })
    }
}

fn end<'py>(future: &Bound<'py, Future>, exc: &Bound<'py, PyAny>) -> PyResult<()> {
    if exc.is_none() {
        return Future::resolve(future, exc.clone());
    }
    Future::reject(future, exc.clone())?;
    future.get().log_traceback_off(future.py());
    Ok(())
}
