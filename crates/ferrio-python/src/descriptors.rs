//! Which descriptors belong to transports.
//!
//! A descriptor can be watched by one owner only. `add_reader` and its family ask here before they touch one, and a
//! transport asks before it takes one.

use ferrio::net::pipe;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::ffi::cell::GilCell;
use crate::ffi::descriptor::borrow;
use crate::os_error::os_error;

/// So many descriptors more than are known are opened at once by nobody.
const FAR: usize = 4096;

/// The transports of one loop by their descriptors' numbers, which are small and dense.
///
/// The references are weak: a transport that nobody keeps must be able to go, and to complain that it was not closed.
#[derive(Debug, Default)]
pub(crate) struct Descriptors(GilCell<Vec<Option<Py<PyWeakrefReference>>>>);

impl Descriptors {
    /// Writes down that `transport` has the descriptor from now on.
    pub(crate) fn insert(&self, py: Python<'_>, fd: i32, transport: Py<PyWeakrefReference>) {
        let Ok(place) = usize::try_from(fd) else { return };
        let previous = self.0.with(py, |table| {
            if table.len() <= place {
                table.resize_with(place + 1, || None);
            }
            table[place].replace(transport)
        });
        drop(previous);
    }

    /// Forgets who has the descriptor.
    pub(crate) fn remove(&self, py: Python<'_>, fd: i32) {
        let Ok(place) = usize::try_from(fd) else { return };
        let previous = self.0.with(py, |table| table.get_mut(place).and_then(Option::take));
        drop(previous);
    }

    /// The transport that has the descriptor and is not closing. Calls its `is_closing`.
    pub(crate) fn transport_of(&self, py: Python<'_>, fd: i32) -> Option<Py<PyAny>> {
        let place = usize::try_from(fd).ok()?;
        let weak = self.0.with(py, |table| table.get(place)?.as_ref().map(|weak| weak.clone_ref(py)))?;
        let transport = weak.bind(py).upgrade()?;
        let closing = transport.call_method0(intern!(py, "is_closing")).and_then(|closing| closing.is_truthy());
        (!closing.unwrap_or(false)).then(|| transport.unbind())
    }

    /// Whether a transport can have the descriptor.
    ///
    /// # Errors
    ///
    /// As [`check_free`](Self::check_free); `OSError` for a number far beyond all that are known, if it is no
    /// descriptor's: such a number can be any, and there would be room for everyone below it.
    pub(crate) fn admit(&self, py: Python<'_>, fd: i32) -> PyResult<()> {
        let known = self.0.with(py, |table| table.len());
        if usize::try_from(fd).is_ok_and(|place| place >= known + FAR) {
            pipe::kind(borrow(fd)).map_err(|error| os_error(py, &error))?;
        }
        self.check_free(py, fd)
    }

    /// # Errors
    ///
    /// `RuntimeError` if a transport that is not closing has the descriptor.
    pub(crate) fn check_free(&self, py: Python<'_>, fd: i32) -> PyResult<()> {
        let Some(other) = self.transport_of(py, fd) else { return Ok(()) };
        let text = format!("File descriptor {fd} is used by transport {}", other.bind(py).repr()?);
        Err(PyRuntimeError::new_err(text))
    }

    pub(crate) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |table, visit| table.iter().flatten().try_for_each(|weak| visit.call(weak)))
    }
}
