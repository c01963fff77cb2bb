//! A `bytes` object that the operating system writes into.

use std::io;
use std::mem::MaybeUninit;

use ferrio::net::Transfer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

unsafe extern "C" {
    /// PyO3 keeps its declaration to itself. The function is not in the stable interface, but in every version's.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, length: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// Makes a `bytes` of `content`, in one allocation. Runs no Python code.
///
/// # Errors
///
/// `MemoryError`.
#[inline]
pub(crate) fn copy<'py>(py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // The length of a slice fits.
    let (start, length) = (content.as_ptr().cast(), content.len() as ffi::Py_ssize_t);
    // SAFETY: as many bytes are copied from `start` as are there; returns null with an exception set.
    unsafe {
        Ok(Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(start, length))?.cast_into_unchecked())
    }
}

/// Makes a `bytes` of at most `room` bytes, filled by `fill`; `None` if that would block. Runs no Python code.
///
/// # Errors
///
/// What `fill` reports is the inner result; the outer one is `MemoryError`.
pub(crate) fn receive<'py>(
    py: Python<'py>,
    room: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> io::Result<Transfer>,
) -> PyResult<io::Result<Option<Bound<'py, PyBytes>>>> {
    let length = ffi::Py_ssize_t::try_from(room)?;
    // SAFETY: a null pointer asks for an object whose bytes are not set; returns null with an exception set.
    let bytes = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), length))? };
    // SAFETY: the object has `room` bytes and nobody else has seen it.
    let buffer =
        unsafe { std::slice::from_raw_parts_mut(ffi::PyBytes_AS_STRING(bytes.as_ptr()).cast_mut().cast(), room) };
    let received = match fill(buffer) {
        Ok(Transfer::Done(received)) => received.min(room),
        Ok(Transfer::WouldBlock) => return Ok(Ok(None)),
        Err(error) => return Ok(Err(error)),
    };
    let mut object = bytes.into_ptr();
    if received < room {
        // SAFETY: `object` is the only reference to a `bytes` without a hash; it is replaced, or freed and set to null
        // when the call fails. A length of at most `room` fits. The result is what the object says.
        unsafe { _PyBytes_Resize(&raw mut object, received as ffi::Py_ssize_t) };
    }
    // SAFETY: `object` is an owned `bytes`, or null with an exception set. The first `received` bytes of it are set, as
    // `fill` reports, and there are no others.
    Ok(Ok(Some(unsafe { Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked() })))
}
