//! Data by the methods of the `ssl.SSLObject`.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{End, Progress, progress, wants_more};
use crate::ffi::bytes;

#[derive(Debug)]
pub(super) struct Portable {
    incoming: Py<PyAny>,
    outgoing: Py<PyAny>,
}

impl Portable {
    pub(super) fn new(incoming: Bound<'_, PyAny>, outgoing: Bound<'_, PyAny>) -> Self {
        Self { incoming: incoming.unbind(), outgoing: outgoing.unbind() }
    }

    pub(super) fn feed(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.incoming.bind(py).call_method1(intern!(py, "write"), (bytes::copy(py, data)?,)).map(drop)
    }

    pub(super) fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        self.incoming.bind(py).getattr(intern!(py, "pending"))?.extract()
    }

    pub(super) fn take_output(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        let data = self.outgoing.bind(py).call_method0(intern!(py, "read"))?;
        Ok(data.cast::<PyBytes>()?.as_bytes().to_vec())
    }

    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.incoming)?;
        visit.call(&self.outgoing)
    }
}

/// See `Engine::read`; all input has been fed.
pub(super) fn read(object: &Bound<'_, PyAny>, into: &mut [u8]) -> (usize, End) {
    let py = object.py();
    let mut count = 0;
    let end = loop {
        if count == into.len() {
            break End::Full;
        }
        match object.call_method1(intern!(py, "read"), (into.len() - count,)) {
            Ok(data) => match data.cast::<PyBytes>() {
                Ok(data) if data.as_bytes().is_empty() => break End::Closed,
                Ok(data) => {
                    let data = data.as_bytes();
                    let Some(room) = into[count..].get_mut(..data.len()) else {
                        let text = "read() of the SSL object returned more bytes than were asked for";
                        break End::Failed(PyValueError::new_err(text));
                    };
                    room.copy_from_slice(data);
                    count += data.len();
                }
                Err(error) => break End::Failed(error.into()),
            },
            Err(error) if wants_more(py, &error) => break End::Again,
            Err(error) => break End::Failed(error),
        }
    };
    (count, end)
}

pub(super) fn write(object: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<Progress> {
    let py = object.py();
    progress(py, object.call_method1(intern!(py, "write"), (bytes::copy(py, data)?,)))
}
