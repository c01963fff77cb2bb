//! Addresses as Python knows them.

use std::ffi::OsStr;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;

use ferrio::net::Address;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The address as the methods of a `socket` give it; `None` for a family that only they know.
pub(super) fn to_python<'py>(py: Python<'py>, address: &Address) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(Some(match address {
        Address::V4(address) => v4(py, address)?,
        Address::V6(address) => v6(py, address)?,
        // A name in the abstract name space is no path.
        Address::Unix(name) if name.first() == Some(&0) => PyBytes::new(py, name).into_any(),
        Address::Unix(path) => OsStr::from_bytes(path).into_pyobject(py)?.into_any(),
        _ => return Ok(None),
    }))
}

fn v4<'py>(py: Python<'py>, address: &SocketAddrV4) -> PyResult<Bound<'py, PyAny>> {
    Ok((address.ip().to_string(), address.port()).into_pyobject(py)?.into_any())
}

fn v6<'py>(py: Python<'py>, address: &SocketAddrV6) -> PyResult<Bound<'py, PyAny>> {
    // The flow label alone is left in the order of the network by the structure.
    let flow_label = u32::from_be(address.flowinfo());
    Ok((address.ip().to_string(), address.port(), flow_label, address.scope_id()).into_pyobject(py)?.into_any())
}
