//! Bytes that wait to be sent.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::ffi::buffer::with_bytes;

/// What `write` was given, as of the call.
///
/// Dropping one runs no Python code: what is shared is a plain `bytes`.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// A `bytes`, which never changes.
    Shared(PyBackedBytes),
    /// A copy of what could change before it is sent.
    Copied(Box<[u8]>),
}

impl AsRef<[u8]> for Chunk {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl Chunk {
    /// The bytes of `data` from `sent` on, and how many of the chunk's bytes are to be skipped.
    ///
    /// # Errors
    ///
    /// What the object raises: it has no bytes, or not in one block.
    pub(crate) fn from_rest(data: &Bound<'_, PyAny>, sent: usize) -> PyResult<(Self, usize)> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return Ok((Self::Shared(PyBackedBytes::from(bytes.clone())), sent));
        }
        let rest = with_bytes(data, |bytes| bytes.get(sent..).unwrap_or_default().into())?;
        Ok((Self::Copied(rest), 0))
    }
}

/// Whether it is of a class whose bytes transports send.
pub(crate) fn is_sendable(data: &Bound<'_, PyAny>) -> bool {
    data.is_instance_of::<PyBytes>() || data.is_instance_of::<PyByteArray>() || data.is_instance_of::<PyMemoryView>()
}

/// # Errors
///
/// `TypeError` for what `write` does not take.
pub(crate) fn check_sendable(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_sendable(data) {
        return Ok(());
    }
    let class = data.get_type().name()?;
    let text = format!("data argument must be a bytes, bytearray, or memoryview object, not {}", class.repr()?);
    Err(PyTypeError::new_err(text))
}
