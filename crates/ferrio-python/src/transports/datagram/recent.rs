//! The peer that a datagram came from last.
//!
//! Most datagrams come from where the one before came from, and most answers go there. So its address is kept as the
//! kernel and as Python have it, and neither is made again. Python's is a tuple of a text and numbers, which nobody can
//! change; that an address which is to be sent to is this very object says that it is the same.

use std::net::SocketAddr;

use ferrio::net::Address;
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;

use crate::ffi::cell::GilCell;
use crate::transports::address;

#[derive(Debug, Default)]
pub(super) struct Recent(GilCell<Option<(Address, Py<PyAny>)>>);

impl Recent {
    /// The address of a datagram's sender, for Python; None for a family that is not known.
    #[inline]
    pub(super) fn to_python<'py>(&self, py: Python<'py>, sender: Address) -> PyResult<Bound<'py, PyAny>> {
        let known = self.0.with(py, |own| match own {
            Some((address, object)) if *address == sender => Some(object.bind(py).clone()),
            _ => None,
        });
        match known {
            Some(object) => Ok(object),
            None => self.learn(py, sender),
        }
    }

    #[cold]
    fn learn<'py>(&self, py: Python<'py>, sender: Address) -> PyResult<Bound<'py, PyAny>> {
        let Some(object) = address::to_python(py, &sender)? else { return Ok(py.None().into_bound(py)) };
        drop(self.0.replace(py, Some((sender, object.clone().unbind()))));
        Ok(object)
    }

    /// The address that `object` is, if it is the one that was given out last.
    #[inline]
    pub(super) fn find(&self, object: &Bound<'_, PyAny>) -> Option<SocketAddr> {
        self.0.with(object.py(), |own| match own {
            Some((Address::V4(address), own)) if own.is(object) => Some(SocketAddr::V4(*address)),
            Some((Address::V6(address), own)) if own.is(object) => Some(SocketAddr::V6(**address)),
            _ => None,
        })
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit, |own, visit| visit.call(own.as_ref().map(|(_, object)| object)))
    }
}
